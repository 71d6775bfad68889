// Package process runs the children of fault tests: workers and producers that are to be killed, stopped and continued. A
// child never outlives its test.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"
)

// Config says what to run.
type Config struct {
	// Args is the program and its arguments.
	Args []string
	// Env is added to the environment of the test.
	Env []string
	// Dir is the working directory; empty is the test's.
	Dir string
	// Name begins each line of output; empty is the program's name.
	Name string
	// Output receives the lines; nil logs them with the test.
	Output io.Writer
}

// outputWait is how long after the child's end output is awaited from grandchildren that still hold its pipe.
const outputWait = 2 * time.Second

// ErrEnded is returned for a signal to a process that has ended, and for output that can no longer come.
var ErrEnded = errors.New("process: ended")

// ErrTimeout is returned when what was waited for did not happen in time.
var ErrTimeout = errors.New("process: timeout")

// Process is a running or ended child. It leads a process group of its own, to which its own children belong.
type Process struct {
	cmd  *exec.Cmd
	out  *output
	done chan struct{}
	err  error // from waiting; valid once done is closed
}

// Start runs a child and fails the test when it cannot. What is left of its process group is killed when the test ends; on
// Linux the child also dies with a test that is killed itself.
func Start(tb testing.TB, config Config) *Process {
	tb.Helper()
	if len(config.Args) == 0 {
		tb.Fatal("process: no program to start")
	}
	if config.Name == "" {
		config.Name = config.Args[0]
	}
	if config.Output == nil {
		config.Output = testLog{tb}
	}
	// The test's context ends before its cleanup functions run, which may still need the child.
	cmd := exec.CommandContext(context.WithoutCancel(tb.Context()), config.Args[0], config.Args[1:]...)
	cmd.Env = append(os.Environ(), config.Env...)
	cmd.Dir = config.Dir
	cmd.WaitDelay = outputWait
	cmd.SysProcAttr = attributes()
	p := &Process{cmd: cmd, out: newOutput(config.Name, config.Output), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.out, p.out
	if err := cmd.Start(); err != nil {
		tb.Fatalf("process: start %s: %v", config.Name, err)
	}
	go p.reap()
	tb.Cleanup(func() {
		_ = p.Kill()
		<-p.done
	})
	return p
}

// reap waits for the end of the child and of its output.
func (p *Process) reap() {
	err := p.cmd.Wait()
	_ = killGroup(p.Pid()) // grandchildren do not outlive it
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		p.err = fmt.Errorf("process: wait: %w", err)
	}
	p.out.end()
	close(p.done)
}

// Pid returns the child's process id, which is also the id of its process group.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done returns a channel that is closed when the child has ended and its output is complete.
func (p *Process) Done() <-chan struct{} { return p.done }

// Kill ends the child and its children at once, without a chance to clean up (SIGKILL to the process group).
func (p *Process) Kill() error { return p.signal("kill", killGroup) }

// Stop freezes the child and its children (SIGSTOP to the process group) until [Process.Cont].
func (p *Process) Stop() error { return p.signal("stop", stopGroup) }

// Cont lets a stopped child and its children run on (SIGCONT to the process group).
func (p *Process) Cont() error { return p.signal("continue", continueGroup) }

// Term asks the child, and only it, to end (SIGTERM).
func (p *Process) Term() error { return p.signal("terminate", terminate) }

func (p *Process) signal(name string, send func(pid int) error) error {
	select {
	case <-p.done:
		return ErrEnded
	default:
	}
	if err := send(p.Pid()); err != nil {
		return fmt.Errorf("process: %s: %w", name, err)
	}
	return nil
}

// Wait waits for the end of the child and returns its exit code, which is -1 when a signal ended it.
func (p *Process) Wait(timeout time.Duration) (code int, err error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), p.err
	case <-time.After(timeout):
		return 0, fmt.Errorf("%w: still running after %v", ErrTimeout, timeout)
	}
}

// WaitOutput waits for a line of output, earlier or later, that matches the regular expression, and returns it. It
// returns early, with ErrEnded, when the child ends without having written one.
func (p *Process) WaitOutput(pattern string, timeout time.Duration) (line string, err error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return "", fmt.Errorf("process: pattern: %w", err)
	}
	deadline := time.After(timeout)
	for seen := 0; ; {
		lines, total, more, ended := p.out.since(seen)
		for _, line := range lines {
			if re.MatchString(line) {
				return line, nil
			}
		}
		if ended {
			return "", fmt.Errorf("%w: without a line that matches %q", ErrEnded, pattern)
		}
		seen = total
		select {
		case <-more:
		case <-deadline:
			return "", fmt.Errorf("%w: no line matched %q within %v", ErrTimeout, pattern, timeout)
		}
	}
}

// Lines returns the output so far, without the prefix; of a long output only the last lines are kept.
func (p *Process) Lines() []string {
	lines, _, _, _ := p.out.since(0)
	return lines
}
