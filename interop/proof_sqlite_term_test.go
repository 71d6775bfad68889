package interop_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/faults/checker"
	"github.com/dramatiq-go/dramatiq/faults/testenv"
)

// TestProofSQLite_TERM ends workers gracefully at random instants: nothing is lost, nothing runs twice, nothing stays
// claimed.
func TestProofSQLite_TERM(t *testing.T) {
	t.Parallel()
	rounds := 8
	if testenv.Full(t) {
		rounds = 100
	}
	f := newSQLiteFarm(t)
	var ids []string
	var longest time.Duration
	for round := range rounds {
		ids = append(ids, f.enqueueAll(f.mixture(200)...)...)
		w := f.started()
		<-time.After(rand.N(400 * time.Millisecond)) // any instant is a good one
		if f.left() == 0 {
			t.Errorf("round %d: the worker had nothing left to do", round)
		}
		begin := time.Now()
		if err := w.Term(); err != nil {
			t.Fatal(err)
		}
		code, err := w.Wait(5 * time.Second) // handlers take 50 ms
		if err != nil || code != 0 {
			t.Fatalf("round %d: exit code %d, %v, want 0", round, code, err)
		}
		longest = max(longest, time.Since(begin))
		e := f.evidence(ids)
		if report := checker.Check(e); !report.OK() || report.DeadLettered > 0 || report.Completed+len(e.Queued) != len(ids) {
			t.Fatalf("round %d: %d messages queued, %v", round, len(e.Queued), report)
		}
		if n := f.number(`SELECT (SELECT count(*) FROM dramatiq_messages WHERE owner IS NOT NULL) +
			(SELECT count(*) FROM dramatiq_workers)`); n != 0 {
			t.Fatalf("round %d: %d claims or workers are left", round, n)
		}
	}
	e := f.evidence(ids)
	t.Logf("%d TERMs, the slowest exit took %v, %d of %d messages still queued", rounds, longest, len(e.Queued), len(ids))
	f.check(e)
}

// TestProofSQLite_TERMTimeout ends a worker whose handlers take longer than it waits: they go back to the queue.
func TestProofSQLite_TERMTimeout(t *testing.T) {
	t.Parallel()
	f := newSQLiteFarm(t)
	var lines []string
	for range 20 {
		lines = append(lines, f.message("sleep", "[600000]", ""))
	}
	ids := f.enqueueAll(lines...)
	w := f.started("--worker-shutdown-timeout", "300ms")
	f.await("handlers run", func() bool { return f.claims(w) >= 8 })
	begin := time.Now()
	if err := w.Term(); err != nil {
		t.Fatal(err)
	}
	code, err := w.Wait(5 * time.Second)
	took := time.Since(begin)
	if err != nil || code != 0 || took < 300*time.Millisecond {
		t.Errorf("exit code %d, %v, after %v; want 0 after 300 ms", code, err, took)
	}
	e := f.evidence(ids)
	claimed := f.claims(w)
	if report := checker.Check(e); !report.OK() || len(e.Queued) != len(ids) || report.Runs > 0 || claimed > 0 {
		t.Errorf("%d messages queued, %d claimed, %v", len(e.Queued), claimed, report)
	}
}

// TestProofSQLite_TERMTwice ends a worker at once with a second TERM: what it was running is run by the next one.
func TestProofSQLite_TERMTwice(t *testing.T) {
	t.Parallel()
	rounds := 2
	if testenv.Full(t) {
		rounds = 20
	}
	f := newSQLiteFarm(t, "INTEROP_CRASH_LIMIT=off") // a second TERM is a crash of what runs, and some run in many rounds
	var ids []string
	var longest time.Duration
	for round := range rounds {
		var lines []string
		for i := range 16 {
			lines = append(lines, f.message("busy", fmt.Sprintf("[%d]", 400+10*i), ""))
		}
		ids = append(ids, f.enqueueAll(lines...)...)
		w := f.started()
		f.await("handlers run", func() bool { return f.claims(w) >= 8 })
		if err := w.Term(); err != nil {
			t.Fatal(err)
		}
		if _, err := w.WaitOutput("worker is stopping", patience); err != nil {
			t.Fatal(err)
		}
		<-time.After(rand.N(100 * time.Millisecond))
		f.fault(w, "TERM twice")
		begin := time.Now()
		if err := w.Term(); err != nil {
			t.Fatal(err)
		}
		code, err := w.Wait(time.Second)
		if err != nil || code != 1 {
			t.Errorf("round %d: exit code %d, %v, want 1", round, code, err)
		}
		longest = max(longest, time.Since(begin))
		if report := checker.Check(f.evidence(ids)); !report.OK() {
			t.Fatalf("round %d: %v", round, report)
		}
	}
	next := f.started()
	f.awaitFor("the next worker runs everything", 5*time.Minute, func() bool { return f.left() == 0 })
	f.stop(next)
	t.Logf("%d times TERM twice, the slowest exit took %v", rounds, longest)
	e := f.evidence(ids)
	if len(e.DeadLetters) > 0 {
		t.Errorf("dead letters: %+v", e.DeadLetters)
	}
	f.check(e)
}
