package faults_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dramatiq-go/dramatiq/faults/checker"
	"github.com/dramatiq-go/dramatiq/faults/ledger"
	"github.com/dramatiq-go/dramatiq/faults/process"
	"github.com/dramatiq-go/dramatiq/faults/testenv"
)

// The variables that turn a copy of this test into a worker.
const (
	workerLedger   = "FAULTS_TEST_LEDGER"
	workerMessages = "FAULTS_TEST_MESSAGES"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(workerLedger); path != "" {
		if err := work(path, strings.Split(os.Getenv(workerMessages), ",")); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// work runs messages one after another.
func work(path string, messages []string) error {
	file, err := ledger.OpenFile(path)
	if err != nil {
		return err
	}
	fmt.Println("working")
	for _, id := range messages {
		entry := ledger.Entry{Actor: "work", MessageID: id}
		err := ledger.Record(context.Background(), file, entry, func() error {
			time.Sleep(time.Millisecond) // the work
			return nil
		})
		if err != nil {
			return err
		}
	}
	return file.Close()
}

// TestProofKitAccountsForKills proves the kit on the simplest of queues: a worker is killed again and again, and what it
// did not complete is given to the next one. All runs are accounted for, and a forged ledger is found out.
func TestProofKitAccountsForKills(t *testing.T) {
	t.Parallel()
	kills := 10
	if testenv.Full(t) {
		kills = 300
	}
	path := filepath.Join(t.TempDir(), "ledger")
	file, err := ledger.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	var evidence checker.Evidence
	for n := range kills * 10 {
		evidence.Accepted = append(evidence.Accepted, fmt.Sprintf("m%d", n))
	}
	for range kills {
		worker := startWorker(t, path, evidence)
		pause := time.NewTimer(rand.N(15 * time.Millisecond))
		select {
		case <-pause.C:
		case <-worker.Done():
		}
		_ = worker.Kill() // it may have come to its end by itself
		if _, err := worker.Wait(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		// Not before the kill: a run that begins between the two would be older than its fault.
		evidence.Faults = append(evidence.Faults, checker.Fault{At: time.Now(), PID: worker.Pid(), Kind: "kill"})
		evidence.Entries = entriesOf(t, file)
	}
	worker := startWorker(t, path, evidence)
	if code, err := worker.Wait(time.Minute); err != nil || code != 0 {
		t.Fatalf("the last worker ended with %d, %v: %v", code, err, worker.Lines())
	}
	evidence.Entries = entriesOf(t, file)
	report := checker.Check(evidence)
	t.Logf("%d kills: %v", kills, report)
	if err := report.Err(); err != nil {
		t.Error(err)
	}
	findsForgery(t, evidence)
}

// startWorker starts a worker for the messages that were not completed yet, and waits until it is at work.
func startWorker(t *testing.T, path string, evidence checker.Evidence) *process.Process {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	done := make(map[string]bool)
	for _, run := range ledger.Runs(evidence.Entries) {
		done[run.MessageID] = done[run.MessageID] || run.Outcome == ledger.OK
	}
	var left []string
	for _, id := range evidence.Accepted {
		if !done[id] {
			left = append(left, id)
		}
	}
	if len(left) == 0 {
		left = []string{evidence.Accepted[0]}
	}
	worker := process.Start(t, process.Config{
		Args: []string{program},
		Env:  []string{workerLedger + "=" + path, workerMessages + "=" + strings.Join(left, ",")},
		Name: "worker",
	})
	if _, err := worker.WaitOutput("working", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	return worker
}

func entriesOf(t *testing.T, store ledger.Store) []ledger.Entry {
	t.Helper()
	entries, err := store.Entries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// findsForgery removes a message's entries, and adds a run, and expects the checker to notice.
func findsForgery(t *testing.T, evidence checker.Evidence) {
	t.Helper()
	last := evidence.Entries[len(evidence.Entries)-1]
	forged := evidence
	forged.Entries = nil
	for _, entry := range evidence.Entries {
		if entry.MessageID != last.MessageID {
			forged.Entries = append(forged.Entries, entry)
		}
	}
	if report := checker.Check(forged); len(report.Lost) != 1 || report.Lost[0] != last.MessageID {
		t.Errorf("removed the runs of %s: %v", last.MessageID, report)
	}
	again := last
	again.StartMS, again.EndMS = last.EndMS+1, last.EndMS+2
	forged.Entries = append(slices.Clip(evidence.Entries), again)
	if report := checker.Check(forged); len(report.Unexplained) != 1 {
		t.Errorf("added a run of %s: %v", last.MessageID, report)
	}
}
