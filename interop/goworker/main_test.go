package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dramatiq-go/dramatiq/faults/process"
)

// childVariable makes a copy of this test, started as a child, the program under test.
const childVariable = "GOWORKER_TEST_CHILD"

const patience = 30 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// fixture is a broker and a ledger of one test.
type fixture struct {
	env    []string
	ledger string // path
}

// newFixture returns an SQLite broker and a file ledger. env is added to the environment of all programs.
func newFixture(t *testing.T, env ...string) *fixture {
	t.Helper()
	dir := t.TempDir()
	f := &fixture{ledger: filepath.Join(dir, "ledger")}
	f.env = append([]string{
		childVariable + "=1",
		"DRAMATIQ_BROKER_URL=sqlite:" + filepath.Join(dir, "broker.db"),
		"INTEROP_LEDGER_URL=" + (&url.URL{Scheme: "file", Path: f.ledger}).String(),
		"DRAMATIQ_HEARTBEAT_TIMEOUT=", "INTEROP_RESULTS_URL=", "INTEROP_QUEUES=", "INTEROP_CONCURRENCY=", "INTEROP_CRASH_LIMIT=",
	}, env...)
	return f
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// goworker runs the program to its end.
func (f *fixture) goworker(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, self(t), args...)
	cmd.Env = append(os.Environ(), f.env...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
			t.Fatal(err)
		}
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// enqueue sends messages, one a line, and returns their ids.
func (f *fixture) enqueue(t *testing.T, lines ...string) []string {
	t.Helper()
	stdout, stderr, code := f.goworker(t, strings.Join(lines, "\n"), "enqueue", "--stdin")
	if code != 0 {
		t.Fatalf("enqueue: code %d: %s", code, stderr)
	}
	return strings.Fields(stdout)
}

// worker starts a worker and waits until it has started.
func (f *fixture) worker(t *testing.T, env ...string) *process.Process {
	t.Helper()
	w := process.Start(t, process.Config{Args: []string{self(t), "worker"}, Env: append(f.env, env...), Name: "goworker"})
	if _, err := w.WaitOutput("worker started", patience); err != nil {
		t.Fatal(err)
	}
	return w
}

func stop(t *testing.T, w *process.Process) {
	t.Helper()
	if err := w.Term(); err != nil {
		t.Fatal(err)
	}
	if code, err := w.Wait(patience); err != nil || code != 0 {
		t.Fatalf("code %d, %v, want 0", code, err)
	}
}

// recorded is an entry of the ledger.
type recorded struct {
	Actor     string          `json:"actor"`
	MessageID string          `json:"message_id"`
	Lang      string          `json:"lang"`
	PID       int             `json:"pid"`
	Attempt   int             `json:"attempt"`
	StartMS   int64           `json:"start_ms"`
	EndMS     int64           `json:"end_ms"`
	Outcome   string          `json:"outcome"`
	Args      json.RawMessage `json:"args"`
	Kwargs    json.RawMessage `json:"kwargs"`
}

// await waits for n entries in the ledger and returns its lines.
func (f *fixture) await(t *testing.T, n int) []string {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		data, err := os.ReadFile(f.ledger)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
		if len(data) > 0 && len(lines) >= n {
			return lines
		}
		if time.Now().After(deadline) {
			t.Fatalf("the ledger has %d of %d entries:\n%s", len(lines), n, data)
		}
	}
}

// entries is await for entries that encoding/json can read.
func (f *fixture) entries(t *testing.T, n int) []recorded {
	t.Helper()
	var entries []recorded
	for _, line := range f.await(t, n) {
		var e recorded
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		entries = append(entries, e)
	}
	return entries
}

func TestGoworker_recordsEveryRun(t *testing.T) {
	t.Parallel()
	before := time.Now().UnixMilli()
	f := newFixture(t, "INTEROP_QUEUES=elsewhere, default,ranked,callbacks", "DRAMATIQ_HEARTBEAT_TIMEOUT=5s")
	ids := f.enqueue(t,
		`{"actor":"add","args":[1, 2.50]}`,
		`{"actor":"add","kwargs":{"x":123456789012345678901234567890,"y":1}}`,
		`{"actor":"echo","queue":"elsewhere","args":["<\u00e9\ud800>"]}`,
		`{"actor":"echo","kwargs":{"value":{"a":[null,1e2]}}}`,
		`{"actor":"urgent","args":["now"]}`,
		`{"actor":"note","args":[1,"two"],"kwargs":{"three":3}}`,
		`{"actor":"sleep","kwargs":{"ms":20}}`,
		`{"actor":"busy","args":[20]}`,
		`{"actor":"fail","args":["no luck"],"options":{"max_retries":0}}`,
		`{"actor":"add","args":["x"],"options":{"max_retries":0}}`,
		`{"actor":"flaky","args":["some/key",2]}`,
	)
	w := f.worker(t)
	entries := f.entries(t, len(ids)+2)
	stop(t, w)
	if len(entries) != len(ids)+2 {
		t.Errorf("%d entries, want %d", len(entries), len(ids)+2)
	}
	outcomes := map[string]string{}
	for _, e := range entries {
		outcomes[e.MessageID] += e.Outcome + " "
		if e.Lang != "go" || e.PID != w.Pid() || e.StartMS < before || e.EndMS < e.StartMS || e.EndMS > time.Now().UnixMilli() {
			t.Errorf("entry %+v is wrong", e)
		}
		if e.Actor == "flaky" && e.Attempt != strings.Count(outcomes[e.MessageID], " ") {
			t.Errorf("attempt %d of flaky is called %d", strings.Count(outcomes[e.MessageID], " "), e.Attempt)
		}
		if (e.Actor == "sleep" || e.Actor == "busy") && e.EndMS-e.StartMS < 19 {
			t.Errorf("%s took %d ms", e.Actor, e.EndMS-e.StartMS)
		}
		if e.MessageID == ids[2] && (string(e.Args) != `["<\u00e9\ud800>"]` || string(e.Kwargs) != "{}") {
			t.Errorf("arguments were not recorded as they came: %s %s", e.Args, e.Kwargs)
		}
	}
	for i, id := range ids {
		want := "ok "
		switch i {
		case 8, 9:
			want = "error "
		case 10:
			want = "error error ok "
		}
		if outcomes[id] != want {
			t.Errorf("message %d: outcomes %q, want %q", i, outcomes[id], want)
		}
	}
}

func TestGoworker_recordsWhatJSONHasNoPlaceFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.enqueue(t, `{"actor":"note","args":[NaN, -Infinity],"kwargs":{"k": Infinity}}`)
	w := f.worker(t)
	line := f.await(t, 1)[0]
	stop(t, w)
	if !strings.HasSuffix(line, `"outcome":"ok","args":[NaN, -Infinity],"kwargs":{"k": Infinity}}`) {
		t.Errorf("recorded %s", line)
	}
}

func TestGoworker_killed(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "DRAMATIQ_HEARTBEAT_TIMEOUT=500ms")
	ids := f.enqueue(t, `{"actor":"die"}`)
	deaths := func() int {
		data, err := os.ReadFile(f.ledger + "." + url.QueryEscape(deathsKey))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return len(data)
	}
	// The first death makes the message a suspect, the second makes it guilty.
	for n := range 2 {
		w := process.Start(t, process.Config{Args: []string{self(t), "worker"}, Env: f.env})
		if code, err := w.Wait(patience); err != nil || code != -1 || deaths() != n+1 {
			t.Fatalf("code %d, %v, %d deaths; want it killed", code, err, deaths())
		}
	}
	last := f.worker(t, "INTEROP_CRASH_LIMIT=1")
	if _, err := last.WaitOutput("dead-lettered.*"+ids[0], patience); err != nil {
		t.Fatal(err)
	}
	f.enqueue(t, `{"actor":"note"}`)
	f.await(t, 1)
	stop(t, last)
	if deaths() != 2 {
		t.Errorf("%d deaths, want 2", deaths())
	}
}

func TestGoworker_withoutCrashLimit(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "DRAMATIQ_HEARTBEAT_TIMEOUT=500ms", "INTEROP_CRASH_LIMIT=off")
	f.enqueue(t, `{"actor":"die"}`)
	for range 5 { // more than the default limit
		w := process.Start(t, process.Config{Args: []string{self(t), "worker"}, Env: f.env})
		if code, err := w.Wait(patience); err != nil || code != -1 {
			t.Fatalf("code %d, %v; want it killed", code, err)
		}
	}
}

func TestGoworker_environment(t *testing.T) {
	t.Parallel()
	for variable, want := range map[string]string{
		"DRAMATIQ_BROKER_URL=":              "DRAMATIQ_BROKER_URL is not set",
		"DRAMATIQ_BROKER_URL=kafka://h":     "unknown URL scheme",
		"DRAMATIQ_HEARTBEAT_TIMEOUT=60":     "must be a duration",
		"INTEROP_CONCURRENCY=many":          "INTEROP_CONCURRENCY must be an integer",
		"INTEROP_CRASH_LIMIT=0":             "INTEROP_CRASH_LIMIT must be an integer",
		"INTEROP_RESULTS_URL=redis://h":     "stores no results yet",
		"INTEROP_LEDGER_URL=http://h":       "INTEROP_LEDGER_URL: unknown scheme",
		"INTEROP_LEDGER_URL=file:relative":  "INTEROP_LEDGER_URL: unknown scheme",
		"INTEROP_LEDGER_URL=file://h/x":     "file:///absolute/path",
		"INTEROP_LEDGER_URL=redis://u:pw%z": "cannot be parsed",
	} {
		f := newFixture(t, variable)
		_, stderr, code := f.goworker(t, "", "enqueue", "note")
		if code != 2 || !strings.Contains(stderr, want) || strings.Contains(stderr, "pw") {
			t.Errorf("%s: code %d, want 2 and %q: %s", variable, code, want, stderr)
		}
	}
}
