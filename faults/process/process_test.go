//go:build unix

package process_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dramatiq-go/dramatiq/faults/process"
)

const patience = 10 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shell runs a script in a child whose output is discarded.
func shell(t *testing.T, script string) *process.Process {
	t.Helper()
	return process.Start(t, process.Config{Args: []string{"sh", "-c", script}, Output: io.Discard})
}

func waitOutput(t *testing.T, p *process.Process, pattern string) string {
	t.Helper()
	line, err := p.WaitOutput(pattern, patience)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func waitExit(t *testing.T, p *process.Process, want int) {
	t.Helper()
	if code, err := p.Wait(patience); err != nil || code != want {
		t.Fatalf("wait: %d, %v, want %d", code, err, want)
	}
}

// gone waits until no process has the pid.
func gone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) && !zombie(pid) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d is still there", pid)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestProcess_exitCodeAndOutput(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := process.Start(t, process.Config{
		Args:   []string{"sh", "-c", `echo "to $WHOM"; echo oops >&2; pwd; printf 'no newline'; exit 3`},
		Env:    []string{"WHOM=you"},
		Dir:    "/",
		Name:   "child",
		Output: &out,
	})
	waitExit(t, p, 3)
	if got, want := out.String(), "child: to you\nchild: oops\nchild: /\nchild: no newline\n"; got != want {
		t.Errorf("output %q, want %q", got, want)
	}
	if got, want := strings.Join(p.Lines(), "|"), "to you|oops|/|no newline"; got != want {
		t.Errorf("lines %q, want %q", got, want)
	}
	for name, signal := range map[string]func() error{"kill": p.Kill, "stop": p.Stop, "cont": p.Cont, "term": p.Term} {
		if err := signal(); !errors.Is(err, process.ErrEnded) {
			t.Errorf("%s after the end: %v, want ErrEnded", name, err)
		}
	}
}

func TestProcess_killTakesTheGroup(t *testing.T) {
	t.Parallel()
	p := shell(t, `sleep 1000 & echo child $!; wait`)
	var grandchild int
	if _, err := fmt.Sscanf(waitOutput(t, p, `^child \d+$`), "child %d", &grandchild); err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	waitExit(t, p, -1)
	gone(t, grandchild)
}

func TestProcess_endTakesGrandchildren(t *testing.T) {
	t.Parallel()
	p := shell(t, `sleep 1000 >/dev/null 2>&1 & echo $!`)
	grandchild, err := strconv.Atoi(waitOutput(t, p, `^\d+$`))
	if err != nil {
		t.Fatal(err)
	}
	waitExit(t, p, 0)
	gone(t, grandchild)
}

func TestProcess_term(t *testing.T) {
	t.Parallel()
	p := shell(t, `trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 0.01; done`)
	waitOutput(t, p, "ready")
	if err := p.Term(); err != nil {
		t.Fatal(err)
	}
	waitOutput(t, p, "bye")
	waitExit(t, p, 4)
}

func TestProcess_stopAndCont(t *testing.T) {
	t.Parallel()
	p := shell(t, `i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.01; done`)
	waitOutput(t, p, "tick 1")
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	// What was written before the stop may still be on its way; after that there is silence.
	before := settled(t, p)
	time.Sleep(100 * time.Millisecond)
	if after := len(p.Lines()); after != before {
		t.Fatalf("a stopped process wrote %d lines", after-before)
	}
	if err := p.Cont(); err != nil {
		t.Fatal(err)
	}
	waitOutput(t, p, fmt.Sprintf("^tick %d$", before+1))
}

// settled returns the number of lines once it no longer grows.
func settled(t *testing.T, p *process.Process) int {
	t.Helper()
	deadline := time.Now().Add(patience)
	for n := len(p.Lines()); ; {
		time.Sleep(50 * time.Millisecond)
		next := len(p.Lines())
		if next == n {
			return n
		}
		if time.Now().After(deadline) {
			t.Fatal("the output goes on")
		}
		n = next
	}
}

func TestProcess_waitOutput(t *testing.T) {
	t.Parallel()
	p := shell(t, `echo one; echo two; read line; echo never`)
	if got := waitOutput(t, p, "^t.o$"); got != "two" {
		t.Errorf("got %q, want two", got)
	}
	waitExit(t, p, 0) // its standard input is empty
	waitOutput(t, p, "one")
	if _, err := p.WaitOutput("three", patience); !errors.Is(err, process.ErrEnded) {
		t.Errorf("output that cannot come: %v, want ErrEnded", err)
	}
	if _, err := p.WaitOutput("(", patience); err == nil {
		t.Error("a broken pattern was accepted")
	}
	sleeping := shell(t, `sleep 1000`)
	if _, err := sleeping.WaitOutput("three", 20*time.Millisecond); !errors.Is(err, process.ErrTimeout) {
		t.Errorf("output that does not come: %v, want ErrTimeout", err)
	}
	if _, err := sleeping.Wait(20 * time.Millisecond); !errors.Is(err, process.ErrTimeout) {
		t.Errorf("an end that does not come: %v, want ErrTimeout", err)
	}
}

func TestProcess_longOutputKeepsTheLastLines(t *testing.T) {
	t.Parallel()
	p := shell(t, `i=0; while [ $i -lt 25000 ]; do i=$((i+1)); echo $i; done`)
	waitOutput(t, p, "^25000$")
	waitExit(t, p, 0)
	lines := p.Lines()
	if len(lines) < 10_000 || len(lines) > 20_000 || lines[len(lines)-1] != "25000" {
		t.Errorf("kept %d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
}

// recordingTB is a test that ends when the test of the test says so.
type recordingTB struct {
	testing.TB
	mu       sync.Mutex // guards below
	cleanups []func()
	logged   strings.Builder
}

func (r *recordingTB) Helper()          {}
func (r *recordingTB) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recordingTB) Log(args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintln(&r.logged, args...)
}

func TestStart_childrenEndWithTheTest(t *testing.T) {
	t.Parallel()
	inner := &recordingTB{TB: t}
	p := process.Start(inner, process.Config{Args: []string{"sh", "-c", "echo up; sleep 1000"}, Name: "w"})
	waitOutput(t, p, "up")
	for _, cleanup := range inner.cleanups {
		cleanup()
	}
	gone(t, p.Pid())
	if got, want := inner.logged.String(), "w: up\n"; got != want {
		t.Errorf("logged %q, want %q", got, want)
	}
}
