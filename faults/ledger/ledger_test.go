package ledger_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dramatiq-go/dramatiq/faults/ledger"
	"github.com/dramatiq-go/dramatiq/faults/process"
	"github.com/dramatiq-go/dramatiq/faults/testenv"
)

const (
	// writerFile names the ledger in which a copy of this test, started as a child, appends entries until it is killed.
	writerFile = "LEDGER_TEST_WRITER_FILE"
	// mostEntries is how many entries a child appends at most.
	mostEntries = 5_000
)

func TestMain(m *testing.M) {
	if path := os.Getenv(writerFile); path != "" {
		appendUntilKilled(path)
	}
	goleak.VerifyTestMain(m)
}

func appendUntilKilled(path string) {
	file, err := ledger.OpenFile(path)
	for n := 0; err == nil && n < mostEntries; n++ {
		err = file.Append(context.Background(), ledger.Entry{
			MessageID: strconv.Itoa(n), PID: os.Getpid(), Outcome: ledger.OK,
			Args: json.RawMessage(`["` + strings.Repeat("x", n%300) + `"]`),
		})
		if n == 50 {
			fmt.Println("writing")
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	time.Sleep(time.Hour) // the test kills it long before
}

func newFile(t *testing.T) ledger.Store {
	t.Helper()
	file, err := ledger.OpenFile(filepath.Join(t.TempDir(), "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

func newRedis(t *testing.T) ledger.Store {
	t.Helper()
	redis, err := ledger.NewRedis(testenv.RedisURL(t), "ledger-test:"+rand.Text())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := redis.Delete(context.Background()); err != nil {
			t.Error(err)
		}
		_ = redis.Close()
	})
	return redis
}

func TestStores(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) ledger.Store{"file": newFile, "redis": newRedis} {
		t.Run(name+" returns what was appended", func(t *testing.T) { t.Parallel(); roundTrip(t, open(t)) })
		t.Run(name+" takes appends of many at once", func(t *testing.T) { t.Parallel(); manyAtOnce(t, open(t)) })
		t.Run(name+" records runs", func(t *testing.T) { t.Parallel(); records(t, open(t)) })
	}
}

func entriesOf(t *testing.T, store ledger.Store) []ledger.Entry {
	t.Helper()
	entries, err := store.Entries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func roundTrip(t *testing.T, store ledger.Store) {
	t.Helper()
	if got := entriesOf(t, store); len(got) != 0 {
		t.Fatalf("a new ledger has %d entries", len(got))
	}
	want := []ledger.Entry{{
		Actor: "add", MessageID: "m1", Lang: "python", PID: 7, Attempt: 2, StartMS: 10, EndMS: 20, Outcome: ledger.OK,
		Args: json.RawMessage(`[1,"line\nend","\u00e9"]`), Kwargs: json.RawMessage(`{"a":{"b":null}}`),
	}, {
		Actor: "add", MessageID: "m2", Lang: "go", Outcome: ledger.Started,
		Args: json.RawMessage(`[]`), Kwargs: json.RawMessage(`{}`),
	}}
	for _, entry := range want {
		if err := store.Append(t.Context(), entry); err != nil {
			t.Fatal(err)
		}
	}
	if got := entriesOf(t, store); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func manyAtOnce(t *testing.T, store ledger.Store) {
	t.Helper()
	const writers, each = 8, 800 // more than one page
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for n := range each {
				if err := store.Append(t.Context(), ledger.Entry{MessageID: fmt.Sprint(w), Attempt: n}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writing.Wait()
	next := make(map[string]int)
	for _, entry := range entriesOf(t, store) {
		if entry.Attempt != next[entry.MessageID] {
			t.Fatalf("writer %s: entry %d, want %d", entry.MessageID, entry.Attempt, next[entry.MessageID])
		}
		next[entry.MessageID]++
	}
	for w := range writers {
		if got := next[fmt.Sprint(w)]; got != each {
			t.Errorf("writer %d: %d entries, want %d", w, got, each)
		}
	}
}

func records(t *testing.T, store ledger.Store) {
	t.Helper()
	before := time.Now().UnixMilli()
	ctx, cancel := context.WithCancel(t.Context())
	failure := errors.New("no luck")
	if err := ledger.Record(ctx, store, ledger.Entry{Actor: "a", MessageID: "good"}, func() error { return nil }); err != nil {
		t.Error(err)
	}
	err := ledger.Record(ctx, store, ledger.Entry{Actor: "a", MessageID: "bad"}, func() error { cancel(); return failure })
	if !errors.Is(err, failure) {
		t.Errorf("got %v, want the handler's error", err)
	}
	entries := entriesOf(t, store)
	if len(entries) != 4 || entries[0].Outcome != ledger.Started || entries[0].EndMS != 0 {
		t.Fatalf("got %+v, want a start and an end for each run", entries)
	}
	runs := ledger.Runs(entries)
	if len(runs) != 2 || runs[0].Outcome != ledger.OK || runs[1].Outcome != ledger.Failed {
		t.Fatalf("runs %+v, want one ok and one error", runs)
	}
	for _, run := range runs {
		if run.Lang != "go" || run.PID != os.Getpid() || run.StartMS < before || run.EndMS < run.StartMS {
			t.Errorf("run %+v is not filled in", run)
		}
	}
}

func TestRecord_doesNotStartWhatCannotBeRecorded(t *testing.T) {
	t.Parallel()
	store := newFile(t)
	_ = store.Close()
	ran := false
	if err := ledger.Record(t.Context(), store, ledger.Entry{}, func() error { ran = true; return nil }); err == nil || ran {
		t.Errorf("error %v, ran %v, want an error and no run", err, ran)
	}
}

func TestRuns(t *testing.T) {
	t.Parallel()
	start := func(id string, pid int, at int64) ledger.Entry {
		return ledger.Entry{MessageID: id, PID: pid, StartMS: at, Outcome: ledger.Started}
	}
	end := func(id string, pid int, at int64) ledger.Entry {
		return ledger.Entry{MessageID: id, PID: pid, StartMS: at, EndMS: at + 1, Outcome: ledger.OK}
	}
	got := ledger.Runs([]ledger.Entry{
		start("a", 1, 10), start("b", 1, 10), end("b", 1, 10), // a was cut short
		start("a", 2, 20), end("a", 2, 20),
		end("c", 3, 30),                                       // only the end was recorded
		start("d", 4, 40), start("d", 4, 40), end("d", 4, 40), // twice in the same millisecond
	})
	want := []ledger.Entry{
		start("a", 1, 10), end("b", 1, 10), end("a", 2, 20), end("c", 3, 30), end("d", 4, 40), start("d", 4, 40),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestFile_sharedByKilledProcesses(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ledger")
	file, err := ledger.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	for range 5 {
		var writers []*process.Process
		for range 2 {
			config := process.Config{Args: []string{program}, Env: []string{writerFile + "=" + path}, Name: "writer"}
			writers = append(writers, process.Start(t, config))
		}
		for _, writer := range writers {
			if _, err := writer.WaitOutput("writing", 10*time.Second); err != nil {
				t.Fatal(err)
			}
			if err := writer.Kill(); err != nil {
				t.Fatal(err)
			}
			if _, err := writer.Wait(10 * time.Second); err != nil {
				t.Fatal(err)
			}
		}
	}
	next := make(map[int]int)
	for _, entry := range entriesOf(t, file) {
		if entry.MessageID != strconv.Itoa(next[entry.PID]) {
			t.Fatalf("process %d: entry %s, want %d", entry.PID, entry.MessageID, next[entry.PID])
		}
		next[entry.PID]++
	}
	if len(next) != 10 {
		t.Errorf("only %d processes wrote", len(next))
	}
}

func TestFile_brokenLines(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger")
	file, err := ledger.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	if err := os.WriteFile(path, []byte(`{"message_id":"whole"}`+"\n"+`{"message_id":"ha`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := entriesOf(t, file); len(got) != 1 || got[0].MessageID != "whole" {
		t.Errorf("got %+v, want the whole line", got)
	}
	if err := os.WriteFile(path, []byte("{}\nnonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Entries(t.Context()); err == nil || !strings.Contains(err.Error(), "entry 2") {
		t.Errorf("got %v, want an error that names entry 2", err)
	}
}

func TestFile_argumentsThatOnlyPythonReads(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger")
	file, err := ledger.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	const args = `[NaN, -Infinity, 123456789012345678901234567890, "\ud800"]`
	line := `{"actor":"note","message_id":"m","pid":7,"args":` + args + `,"kwargs":{"k": Infinity},"outcome":"ok","end_ms":3}`
	if err := os.WriteFile(path, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := ledger.Entry{
		Actor: "note", MessageID: "m", PID: 7, Outcome: ledger.OK, EndMS: 3,
		Args: json.RawMessage(args), Kwargs: json.RawMessage(`{"k": Infinity}`),
	}
	if got := entriesOf(t, file); len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestNewRedis_badURL(t *testing.T) {
	t.Parallel()
	if _, err := ledger.NewRedis("ftp://nowhere", ""); err == nil {
		t.Error("an unknown scheme was accepted")
	}
}
