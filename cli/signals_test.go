//go:build !windows

package cli_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// child is a program in a process of its own.
type child struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout buffer
	stderr buffer
}

func startChild(t *testing.T, args ...string) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	c := &child{cmd: exec.CommandContext(ctx, self, args...)}
	c.cmd.Env = append(os.Environ(), childVariable+"=1")
	c.cmd.Stdout, c.cmd.Stderr = &c.stdout, &c.stderr
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = c.cmd.Wait()
	})
	return c
}

func (c *child) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// code waits for the child's end and returns its exit code, -1 if a signal has killed it.
func (c *child) code(t *testing.T) int {
	t.Helper()
	err := c.cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return c.cmd.ProcessState.ExitCode()
}

func TestMain_oneSignalStopsGracefully(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		c := startChild(t, "worker", "--broker", "300ms")
		c.stderr.await(t, "handler begins")
		c.signal(t, signal)
		if code := c.code(t); code != 0 {
			t.Errorf("%v: code %d, want 0", signal, code)
		}
		for _, want := range []string{"handler ends", "worker stopped"} {
			if !strings.Contains(c.stderr.String(), want) {
				t.Errorf("%v: %q is missing:\n%s", signal, want, c.stderr.String())
			}
		}
		if c.stdout.String() != "" {
			t.Errorf("stdout: %q", c.stdout.String())
		}
	}
}

func TestMain_secondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	c := startChild(t, "worker", "--broker", "1h")
	c.stderr.await(t, "handler begins")
	c.signal(t, syscall.SIGTERM)
	c.stderr.await(t, "worker is stopping")
	start := time.Now()
	c.signal(t, os.Interrupt)
	if code := c.code(t); code != 1 {
		t.Errorf("code %d, want 1", code)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
}

func TestMain_signalEndsEnqueue(t *testing.T) {
	t.Parallel()
	c := startChild(t, "enqueue", "--stdin", "--broker", "1s")
	if _, err := io.WriteString(c.stdin, "{\"actor\":\"a\"}\n"); err != nil {
		t.Fatal(err)
	}
	c.stdout.await(t, "\n")
	c.signal(t, syscall.SIGTERM)
	if code := c.code(t); code != 1 || !strings.Contains(c.stderr.String(), "interrupted; 1 messages were sent") {
		t.Errorf("code %d: %s", code, c.stderr.String())
	}
}

func TestMain_slogDefault(t *testing.T) {
	t.Parallel()
	c := startChild(t, "version", "--log-format", "json")
	if code := c.code(t); code != 0 || !strings.HasPrefix(c.stdout.String(), "child ") {
		t.Errorf("code %d: %s", code, c.stdout.String())
	}
}
