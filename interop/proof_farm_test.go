package interop_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	_ "github.com/dramatiq-go/dramatiq/connect" // for the "sqlite" of database/sql
	"github.com/dramatiq-go/dramatiq/faults/checker"
	"github.com/dramatiq-go/dramatiq/faults/ledger"
	"github.com/dramatiq-go/dramatiq/faults/process"
)

// patience is how long a proof waits for what must happen.
const patience = time.Minute

// slack is for how long after a run's end a kill can have hit it: until its settlement was stored, which takes milliseconds,
// but a busy disk may keep it for longer. A run that began before its predecessor's worker was hit is never explained.
const slack = 2 * time.Second

// built is the goworker of this run of the tests.
var built struct {
	once    sync.Once
	dir     string
	program string
	err     error
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if built.dir != "" {
			_ = os.RemoveAll(built.dir)
		}
		os.Exit(code)
	}))
}

// goworker returns the path of the program, which the first call builds.
func goworker(tb testing.TB) string {
	tb.Helper()
	built.once.Do(func() {
		built.dir, built.err = os.MkdirTemp("", "goworker") //nolint:usetesting // it outlives the test that comes first
		if built.err != nil {
			return
		}
		built.program = filepath.Join(built.dir, "goworker")
		build := exec.CommandContext(context.Background(), "go", "build", "-o", built.program, "./goworker")
		if output, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build goworker: %w: %s", err, output)
		}
	})
	if built.err != nil {
		tb.Fatal(built.err)
	}
	return built.program
}

// farm is a broker with its workers, producers and ledger. All of its processes die with the test.
type farm struct {
	tb      testing.TB
	env     []string
	path    string // of the ledger
	ledger  *ledger.File
	log     *log
	db      string  // the SQLite file
	reader  *sql.DB // of the SQLite file
	queue   string  // where messages go; empty: that of their actor
	stopped []checker.Fault
}

// newFarm returns a farm without a broker. env is added to the environment of all programs.
func newFarm(tb testing.TB, env ...string) *farm {
	tb.Helper()
	f := &farm{tb: tb, path: filepath.Join(tb.TempDir(), "ledger"), log: newLog(tb)}
	var err error
	if f.ledger, err = ledger.OpenFile(f.path); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.ledger.Close() })
	f.env = append([]string{
		"INTEROP_LEDGER_URL=" + (&url.URL{Scheme: "file", Path: f.path}).String(),
		"DRAMATIQ_HEARTBEAT_TIMEOUT=2s", "INTEROP_RESULTS_URL=", "INTEROP_QUEUES=", "INTEROP_CONCURRENCY=8",
		"INTEROP_CRASH_LIMIT=", "INTEROP_MAX_PRIORITY=", "DRAMATIQ_BROKER_URL=",
	}, env...)
	return f
}

// newSQLiteFarm returns a farm on a new SQLite file.
func newSQLiteFarm(tb testing.TB, env ...string) *farm {
	tb.Helper()
	f := newFarm(tb, env...)
	f.db = filepath.Join(tb.TempDir(), "broker.db")
	f.env = append(f.env, "DRAMATIQ_BROKER_URL=sqlite:"+f.db)
	f.enqueueAll(`{"actor":"note","queue":"unused","delay_ms":1e9}`) // makes the tables
	var err error
	if f.reader, err = sql.Open("sqlite", "file:"+f.db+"?_pragma=query_only(1)&_pragma=busy_timeout(10000)"); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.reader.Close() })
	return f
}

// worker starts a worker without waiting for it.
func (f *farm) worker(args ...string) *process.Process {
	f.tb.Helper()
	return process.Start(f.tb, process.Config{
		Args: append([]string{goworker(f.tb), "worker"}, args...), Env: f.env, Name: "worker", Output: f.log,
	})
}

// started starts a worker and waits until it consumes.
func (f *farm) started(args ...string) *process.Process {
	f.tb.Helper()
	w := f.worker(args...)
	if _, err := w.WaitOutput("worker started", patience); err != nil {
		f.tb.Fatal(err)
	}
	return w
}

// stop ends a worker gracefully, but not before it listens for signals.
func (f *farm) stop(w *process.Process) {
	f.tb.Helper()
	if _, err := w.WaitOutput("worker started", patience); err != nil {
		f.tb.Fatal(err)
	}
	if err := w.Term(); err != nil {
		f.tb.Fatal(err)
	}
	if code, err := w.Wait(patience); err != nil || code != 0 {
		f.tb.Fatalf("a worker ended with %d, %v, want 0", code, err)
	}
}

// kill ends a worker as a crash does and notes the fault.
func (f *farm) kill(w *process.Process) {
	f.tb.Helper()
	if err := w.Kill(); err != nil {
		f.tb.Fatalf("a worker has ended before it was killed: %v", err)
	}
	f.fault(w, "kill") // not before: a run that begins between the two would be older than its fault
	if _, err := w.Wait(patience); err != nil {
		f.tb.Fatal(err)
	}
}

func (f *farm) fault(w *process.Process, kind string) {
	f.stopped = append(f.stopped, checker.Fault{At: time.Now(), PID: w.Pid(), Kind: kind})
}

// enqueueAll sends messages, one a line, and returns their ids.
func (f *farm) enqueueAll(lines ...string) []string {
	f.tb.Helper()
	ids, err := f.enqueue(lines...)
	if err != nil {
		f.tb.Fatal(err)
	}
	return ids
}

// enqueue is enqueueAll for other goroutines than the test's.
func (f *farm) enqueue(lines ...string) ([]string, error) {
	f.tb.Helper()
	ctx, cancel := context.WithTimeout(f.tb.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, goworker(f.tb), "enqueue", "--stdin")
	cmd.Env = append(os.Environ(), f.env...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	ids := strings.Fields(string(output))
	if err != nil || len(ids) != len(lines) {
		return nil, fmt.Errorf("enqueue: %d ids of %d, %w: %s", len(ids), len(lines), err, stderr.Bytes())
	}
	return ids, nil
}

// message returns a line for enqueue. args is a JSON array, and options an object or nothing.
func (f *farm) message(actor, args, options string) string {
	line := fmt.Sprintf(`{"actor":%q,"args":%s`, actor, args)
	if f.queue != "" {
		line += fmt.Sprintf(`,"queue":%q`, f.queue)
	}
	if options != "" {
		line += `,"options":` + options
	}
	return line + "}"
}

// mixture returns messages of which one half sleeps for 20 to 50 ms and the rest is over at once.
func (f *farm) mixture(n int) []string {
	lines := make([]string, n)
	for i := range lines {
		switch i % 4 {
		case 0:
			lines[i] = f.message("echo", fmt.Sprintf("[%d]", i), "")
		case 1:
			lines[i] = f.message("add", fmt.Sprintf("[%d,1]", i), "")
		default:
			lines[i] = f.message("sleep", fmt.Sprintf("[%d]", 20+rand.N(31)), "")
		}
	}
	return lines
}

// entries returns the ledger.
func (f *farm) entries() []ledger.Entry {
	f.tb.Helper()
	entries, err := f.ledger.Entries(f.tb.Context())
	if err != nil {
		f.tb.Fatal(err)
	}
	return entries
}

// counter returns one of the counters beside the ledger.
func (f *farm) counter(name string) int {
	f.tb.Helper()
	data, err := os.ReadFile(f.path + "." + url.QueryEscape(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		f.tb.Fatal(err)
	}
	return len(data)
}

// await waits until the condition holds.
func (f *farm) await(what string, condition func() bool) {
	f.tb.Helper()
	f.awaitFor(what, patience, condition)
}

func (f *farm) awaitFor(what string, limit time.Duration, condition func() bool) {
	f.tb.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(limit); !condition(); <-ticker.C {
		if time.Now().After(deadline) {
			f.tb.Fatalf("%s: not within %v", what, limit)
		}
	}
}

// number returns the result of a query for one integer on the SQLite file.
func (f *farm) number(query string, args ...any) int {
	f.tb.Helper()
	var n int
	if err := f.reader.QueryRowContext(f.tb.Context(), query, args...).Scan(&n); err != nil {
		f.tb.Fatalf("%s: %v", query, err)
	}
	return n
}

// left returns how many messages the SQLite file holds that have not ended.
func (f *farm) left() int {
	f.tb.Helper()
	return f.number("SELECT count(*) FROM dramatiq_messages WHERE queue <> 'unused'")
}

// claims returns how many messages a worker holds.
func (f *farm) claims(w *process.Process) int {
	f.tb.Helper()
	return f.number(`SELECT count(*) FROM dramatiq_messages
		WHERE owner IN (SELECT id FROM dramatiq_workers WHERE pid = ?)`, w.Pid())
}

// evidence returns what the SQLite file and the ledger say about messages.
func (f *farm) evidence(accepted []string) checker.Evidence {
	f.tb.Helper()
	e := checker.Evidence{Accepted: accepted, Entries: f.entries(), Faults: f.stopped, Slack: slack}
	f.rows("SELECT json_extract(CAST(body AS TEXT), '$.message_id'), '' FROM dramatiq_messages WHERE queue <> 'unused'",
		func(id, _ string) { e.Queued = append(e.Queued, id) })
	f.rows("SELECT json_extract(CAST(body AS TEXT), '$.message_id'), reason FROM dramatiq_dead",
		func(id, reason string) {
			e.DeadLetters = append(e.DeadLetters, checker.DeadLetter{ID: id, Reason: reason})
		})
	return e
}

func (f *farm) rows(query string, row func(a, b string)) {
	f.tb.Helper()
	rows, err := f.reader.QueryContext(f.tb.Context(), query)
	if err != nil {
		f.tb.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var a, b string
		if err := rows.Scan(&a, &b); err != nil {
			f.tb.Fatal(err)
		}
		row(a, b)
	}
	if err := rows.Err(); err != nil {
		f.tb.Fatal(err)
	}
}

// check fails the test when the evidence speaks against the guarantees, and when the checker would not notice.
func (f *farm) check(e checker.Evidence) {
	f.tb.Helper()
	report := checker.Check(e)
	f.tb.Logf("%d faults: %v", len(e.Faults), report)
	if err := report.Err(); err != nil {
		f.tb.Error(err)
		return
	}
	findsForgery(f.tb, e)
}

// checkAttempts is check for messages that are retried: it takes each attempt of each message for a message of its own
// that has to be run and may be repeated after a kill alone. attempts returns how many a message must have had; 0 stands
// for as many as were seen.
func (f *farm) checkAttempts(e checker.Evidence, attempts func(id string) int) {
	f.tb.Helper()
	most := map[string]int{}
	split := checker.Evidence{Faults: e.Faults, Slack: e.Slack}
	for _, entry := range e.Entries {
		most[entry.MessageID] = max(most[entry.MessageID], entry.Attempt)
		entry.MessageID = fmt.Sprintf("%s#%d", entry.MessageID, entry.Attempt)
		entry.Outcome = ledger.OK
		split.Entries = append(split.Entries, entry)
	}
	for _, id := range e.Accepted {
		n := attempts(id)
		if n == 0 {
			n = most[id]
		}
		for attempt := range n {
			split.Accepted = append(split.Accepted, fmt.Sprintf("%s#%d", id, attempt+1))
		}
	}
	f.check(split)
}

// findsForgery removes a message's entries, and adds a run, and expects the checker to notice.
func findsForgery(tb testing.TB, e checker.Evidence) {
	tb.Helper()
	i := slices.IndexFunc(e.Entries, func(entry ledger.Entry) bool { return entry.Outcome == ledger.OK })
	if i < 0 {
		tb.Error("nothing was ever completed")
		return
	}
	victim := e.Entries[i]
	forged := e
	forged.Entries = slices.DeleteFunc(slices.Clone(e.Entries), func(entry ledger.Entry) bool {
		return entry.MessageID == victim.MessageID
	})
	if report := checker.Check(forged); !slices.Contains(report.Lost, victim.MessageID) {
		tb.Errorf("the runs of %s were removed, and the checker said: %v", victim.MessageID, report)
	}
	forged.Entries = slices.Clone(e.Entries)
	for range len(e.Faults) + 1 {
		again := victim
		again.StartMS, again.EndMS = victim.EndMS+1, victim.EndMS+1
		again.PID = -1 // no fault has hit it
		forged.Entries = append(forged.Entries, again)
	}
	if report := checker.Check(forged); len(report.Unexplained) == 0 {
		tb.Errorf("runs of %s were added, and the checker said: %v", victim.MessageID, report)
	}
}

// log keeps the last lines of all processes of a test, which shows them if it fails.
type log struct {
	mu    sync.Mutex // guards below
	lines []string
}

func newLog(tb testing.TB) *log {
	tb.Helper()
	l := &log{}
	tb.Cleanup(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if tb.Failed() {
			tb.Logf("the last lines of the processes:\n%s", strings.Join(l.lines[max(0, len(l.lines)-200):], ""))
		}
	})
	return l
}

func (l *log) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) > 10_000 {
		l.lines = slices.Clone(l.lines[5_000:])
	}
	l.lines = append(l.lines, string(line))
	return len(line), nil
}
