package interop_test

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/faults/checker"
	"github.com/dramatiq-go/dramatiq/faults/ledger"
	"github.com/dramatiq-go/dramatiq/faults/process"
	"github.com/dramatiq-go/dramatiq/faults/testenv"
)

// killInTurn runs two workers and kills one of them at each tick, to start it again at once, until the work is done. It
// returns the workers that are left.
func (f *farm) killInTurn(every, limit time.Duration, done func() bool) []*process.Process {
	f.tb.Helper()
	workers := []*process.Process{f.started(), f.started()}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	deadline := time.Now().Add(limit)
	for i := 0; !done(); i++ {
		<-ticker.C
		f.kill(workers[i%2])
		workers[i%2] = f.worker()
		if time.Now().After(deadline) {
			f.tb.Fatalf("after %v and %d kills there are still messages left", limit, len(f.stopped))
		}
	}
	return workers
}

// TestProofSQLite_SIGKILL kills workers while they run and while messages are sent: all messages run, and nothing runs
// twice without a kill that explains it.
func TestProofSQLite_SIGKILL(t *testing.T) {
	t.Parallel()
	messages, least := 2000, 8
	if testenv.Full(t) {
		messages, least = 20_000, 80
	}
	f := newSQLiteFarm(t, "INTEROP_CRASH_LIMIT=off")
	lines := f.mixture(messages)
	begin := time.Now()
	ids := f.enqueueAll(lines[:messages/2]...)
	sent := make(chan error, 1)
	go func() {
		more, err := f.enqueue(lines[messages/2:]...)
		ids = append(ids, more...)
		sent <- err
	}()
	sending := true
	for _, w := range f.killInTurn(200*time.Millisecond, 10*time.Minute, func() bool {
		if sending {
			select {
			case err := <-sent:
				if err != nil {
					t.Fatal(err)
				}
				sending = false
			default:
			}
		}
		return !sending && f.left() == 0
	}) {
		f.stop(w)
	}
	e := f.evidence(ids)
	t.Logf("%d messages in %v", messages, time.Since(begin))
	t.Logf("kills hit %v after the end of runs that were repeated", unsettled(e))
	if len(e.Faults) < least {
		t.Errorf("only %d kills; give the workers more to do", len(e.Faults))
	}
	if len(e.Queued)+len(e.DeadLetters) > 0 {
		t.Errorf("%d messages are left and %d were dead-lettered", len(e.Queued), len(e.DeadLetters))
	}
	f.check(e)
}

// unsettled returns how long after the end of a run its worker was killed, for all runs that were repeated.
func unsettled(e checker.Evidence) []time.Duration {
	killed := map[int]time.Time{}
	for _, fault := range e.Faults {
		killed[fault.PID] = fault.At
	}
	last := map[string]ledger.Entry{}
	var ages []time.Duration
	for _, entry := range e.Entries {
		if before, again := last[entry.MessageID]; again {
			ages = append(ages, killed[before.PID].Sub(time.UnixMilli(before.EndMS)).Round(time.Millisecond))
		}
		last[entry.MessageID] = entry
	}
	slices.Sort(ages)
	if len(ages) > 10 { // percentiles
		ages = []time.Duration{ages[0], ages[len(ages)/2], ages[len(ages)*9/10], ages[len(ages)-1]}
	}
	return ages
}

// TestProofSQLite_FollowUps kills workers while messages fail and are retried: each attempt leads to the next one, and to
// no second one.
func TestProofSQLite_FollowUps(t *testing.T) {
	t.Parallel()
	const failures, retries = 3, 4
	messages := 600
	if testenv.Full(t) {
		messages = 3000
	}
	f := newSQLiteFarm(t, "INTEROP_CRASH_LIMIT=off")
	var lines []string
	for i := range messages {
		switch i % 4 {
		case 0:
			lines = append(lines, f.message("fail", `["no luck"]`, fmt.Sprintf(`{"max_retries":%d,"min_backoff":20,"max_backoff":80}`, retries)))
		case 1:
			lines = append(lines, f.message("sleep", `[10000]`, fmt.Sprintf(`{"max_retries":%d,"min_backoff":20,"max_backoff":80,"time_limit":40}`, retries)))
		default:
			lines = append(lines, f.message("flaky", fmt.Sprintf(`["k%d",%d]`, i, failures), ""))
		}
	}
	ids := f.enqueueAll(lines...)
	for _, w := range f.killInTurn(200*time.Millisecond, 10*time.Minute, func() bool { return f.left() == 0 }) {
		f.stop(w)
	}
	e := f.evidence(ids)
	if len(e.Faults) < 5 {
		t.Errorf("only %d kills; give the workers more to do", len(e.Faults))
	}
	if err := checker.Check(e).Err(); err != nil { // each failure explains a run here, but dead letters need their reasons
		t.Error(err)
	}
	place := map[string]int{}
	for i, id := range ids {
		place[id] = i
	}
	flaky := func(id string) bool { return place[id]%4 > 1 }
	dead := map[string]int{}
	for _, d := range e.DeadLetters {
		if dead[d.ID]++; dead[d.ID] > 1 || d.Reason != "retries exhausted" || flaky(d.ID) {
			t.Errorf("message %d was dead-lettered %d times, the last time because of %q", place[d.ID], dead[d.ID], d.Reason)
		}
	}
	last := map[string]ledger.Entry{}
	for _, entry := range e.Entries {
		if entry.Attempt >= last[entry.MessageID].Attempt {
			last[entry.MessageID] = entry
		}
	}
	for i, id := range ids {
		if flaky(id) {
			// A kill can take away one of its failures and cannot add one.
			if counted := f.counter(fmt.Sprintf("interop:attempts:k%d", i)); last[id].Attempt > failures+1 || counted <= failures ||
				last[id].Outcome != ledger.OK {
				t.Errorf("flaky message %d ended with attempt %d (%s) after %d starts", i, last[id].Attempt, last[id].Outcome, counted)
			}
		} else if dead[id] != 1 {
			t.Errorf("message %d failed for good and was dead-lettered %d times", i, dead[id])
		}
	}
	f.checkAttempts(e, func(id string) int {
		if flaky(id) {
			return 0
		}
		return retries + 1
	})
}

// TestProofSQLite_CrashingActor runs a message that kills its worker among neighbours: it is given up and they are not.
func TestProofSQLite_CrashingActor(t *testing.T) {
	t.Parallel()
	const limit = 3
	neighbours, longest, heartbeat := 20, 1000, "1s"
	if testenv.Full(t) {
		neighbours, longest, heartbeat = 100, 5000, "5s"
	}
	f := newSQLiteFarm(t, "DRAMATIQ_HEARTBEAT_TIMEOUT="+heartbeat)
	var lines []string
	for i := range neighbours {
		if i == neighbours/2 {
			lines = append(lines, f.message("die", "[]", ""))
		}
		lines = append(lines, f.message("sleep", fmt.Sprintf("[%d]", 100+(longest-100)*i/(neighbours-1)), ""))
	}
	ids := f.enqueueAll(lines...)
	die := ids[neighbours/2]
	workers := []*process.Process{f.worker(), f.worker()}
	begin := time.Now()
	f.awaitFor("all messages have ended", 5*time.Minute, func() bool {
		for i, w := range workers {
			select {
			case <-w.Done():
				f.fault(w, "crash")
				workers[i] = f.worker()
			default:
			}
		}
		return f.left() == 0
	})
	for _, w := range workers {
		f.stop(w)
	}
	e := f.evidence(ids)
	runs := f.counter("interop:die")
	t.Logf("die ran %d times; all was over after %v", runs, time.Since(begin))
	if runs < 2 || runs > 1+limit || runs != len(e.Faults) {
		t.Errorf("die ran %d times and %d workers have died, want it to run once and at most %d times after that",
			runs, len(e.Faults), limit)
	}
	if !slices.Equal(e.DeadLetters, []checker.DeadLetter{{ID: die, Reason: "crashed its worker"}}) {
		t.Errorf("dead letters are %+v, want the crashing message %s alone", e.DeadLetters, die)
	}
	f.check(e)
}

// stopAt stops a process, inside or outside a transaction. One that is stopped while it holds SQLite's write lock keeps
// everybody from writing until it goes on, and nobody can take that from it.
func (f *farm) stopAt(w *process.Process, inside bool) {
	f.tb.Helper()
	wait := 50 // milliseconds
	if inside {
		wait = 500 // others may be within transactions, too
	}
	db, err := sql.Open("sqlite", fmt.Sprintf("file:%s?_txlock=immediate&_pragma=busy_timeout(%d)", f.db, wait))
	if err != nil {
		f.tb.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for range 1000 {
		f.fault(w, "stop")
		if err := w.Stop(); err != nil {
			f.tb.Fatal(err)
		}
		f.await("all threads of the process stand still", func() bool { return frozen(w.Pid()) })
		tx, err := db.BeginTx(f.tb.Context(), nil)
		if err == nil {
			_ = tx.Rollback()
		}
		if inside == (err != nil) {
			return
		}
		f.stopped = f.stopped[:len(f.stopped)-1]
		if err := w.Cont(); err != nil {
			f.tb.Fatal(err)
		}
		<-time.After(rand.N(5 * time.Millisecond))
	}
	f.tb.Fatal("it was never in the right place when it was stopped")
}

// frozen reports whether no thread of a process runs any more. A stop takes a moment to reach them all. Where the system does
// not tell, there is nothing to wait for.
func frozen(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return true
	}
	for _, path := range threads {
		stat, err := os.ReadFile(path)
		if err != nil {
			return false // it has just ended
		}
		if _, state, _ := strings.Cut(string(stat), ") "); !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return true
}

// TestProofSQLite_SIGSTOPInTransaction stops a worker past its lease while it keeps all others from writing: they wait, say
// so, and go on when it does. Nothing is lost, and what could not be stored was refused.
func TestProofSQLite_SIGSTOPInTransaction(t *testing.T) {
	t.Parallel()
	stops := 1
	if testenv.Full(t) {
		stops = 20
	}
	f := newSQLiteFarm(t, "DRAMATIQ_HEARTBEAT_TIMEOUT=400ms")
	f.env = append(f.env, "DRAMATIQ_BROKER_URL=sqlite:"+f.db+"?busy_timeout=500ms")
	first, second := f.started(), f.started()
	var ids []string
	for refused, tries := 0, 0; refused < stops; tries++ {
		if tries > 10*stops {
			t.Fatalf("of %d stops only %d kept others from writing", tries, refused)
		}
		var lines []string
		for range 1500 {
			lines = append(lines, f.message("sleep", "[2]", ""))
		}
		ids = append(ids, f.enqueueAll(lines...)...)
		f.stopAt(first, true)
		switch sent, err := f.enqueue(f.message("note", "[]", "")); {
		case err == nil: // it was somebody else who was writing
			ids = append(ids, sent...)
		case strings.Contains(err.Error(), "write lock"), strings.Contains(err.Error(), "locking protocol"): // both are SQLite's
			refused++
		default:
			t.Fatalf("the message could not be sent for a wrong reason: %v", err)
		}
		<-time.After(time.Second) // leases run out
		stopped := f.stopped[len(f.stopped)-1].At
		if err := first.Cont(); err != nil {
			t.Fatal(err)
		}
		// Both may lose their claims to the other: neither could renew its lease, nor settle what it ran meanwhile.
		for at := stopped; at.Before(time.Now()); at = at.Add(20 * time.Millisecond) {
			for _, w := range []*process.Process{first, second} {
				f.stopped = append(f.stopped, checker.Fault{At: at, PID: w.Pid(), Kind: "kept from writing"})
			}
		}
		f.await("all goes on", func() bool { return f.left() == 0 })
	}
	f.stop(first)
	f.stop(second)
	e := f.evidence(ids)
	if len(e.DeadLetters) > 0 {
		t.Errorf("dead letters: %+v", e.DeadLetters)
	}
	f.check(e)
}

// TestProofSQLite_SIGSTOP stops a worker past its lease: another one runs all that it held, and what it had fetched does
// not start again when it goes on; the outcome of what was running is discarded.
func TestProofSQLite_SIGSTOP(t *testing.T) {
	t.Parallel()
	rounds := 1
	if testenv.Full(t) {
		rounds = 20
	}
	for range rounds {
		f := newSQLiteFarm(t, "DRAMATIQ_HEARTBEAT_TIMEOUT=1s", "INTEROP_CONCURRENCY=3")
		lines := make([]string, 200)
		for i := range lines {
			lines[i] = f.message("sleep", "[3]", "")
		}
		warm := f.enqueueAll(lines...) // so that the worker looks ahead
		first := f.started()
		f.await("the worker is at work", func() bool { return len(f.entries()) > 50 })
		// One succeeds, one fails and is retried once, and one slot is left for the others.
		running := f.enqueueAll(
			f.message("busy", "[500]", ""),
			f.message("sleep", "[10000]", `{"time_limit":500,"max_retries":1,"min_backoff":10,"max_backoff":10}`),
		)
		ids := append(warm, running...)
		// It is stopped while both run and messages wait in its memory: they have no place to start from.
		for i := range lines {
			lines[i] = f.message("sleep", "[4]", "")
		}
		ids = append(ids, f.enqueueAll(lines...)...)
		var held int
		f.await("the worker runs what it will be stopped in", func() bool {
			held = f.number("SELECT count(*) FROM dramatiq_messages WHERE owner IS NOT NULL")
			return held > 4 && f.number(`SELECT count(*) FROM dramatiq_messages WHERE owner IS NOT NULL
				AND json_extract(CAST(body AS TEXT), '$.message_id') IN (?, ?)`, running[0], running[1]) == 2
		})
		f.stopAt(first, false)
		held = f.number("SELECT count(*) FROM dramatiq_messages WHERE owner IS NOT NULL")
		second := f.started()
		f.await("the other worker runs what was held", func() bool { return f.left() == 0 })
		before := len(f.entries())
		if err := first.Cont(); err != nil {
			t.Fatal(err)
		}
		if _, err := first.WaitOutput("taken for dead and has lost its claims", patience); err != nil {
			t.Fatal(err)
		}
		f.stop(first) // so all that it was running has ended
		f.stop(second)
		e := f.evidence(ids)
		extra := e.Entries[before:]
		t.Logf("it was stopped with %d claims and ended %d runs afterwards", held, len(extra))
		if held < 4 {
			t.Errorf("it held only %d messages when it was stopped", held)
		}
		for _, entry := range extra {
			if entry.PID != first.Pid() || entry.StartMS > e.Faults[0].At.UnixMilli()+20 {
				t.Errorf("%+v began although its message was no longer held", entry)
			}
		}
		if len(extra) > 3 {
			t.Errorf("%d runs ended after the worker went on, and it runs only 3 at once", len(extra))
		}
		if len(e.Queued) > 0 || !slices.Equal(e.DeadLetters, []checker.DeadLetter{{ID: running[1], Reason: "retries exhausted"}}) {
			t.Errorf("%d messages are left; dead letters are %+v, want %s once", len(e.Queued), e.DeadLetters, running[1])
		}
		f.checkAttempts(e, func(id string) int {
			if id == running[1] {
				return 2
			}
			return 1
		})
	}
}
