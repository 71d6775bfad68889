package dramatiq_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq"
)

// NotFoundError is an error with an exported name.
type NotFoundError[T any] struct{ what T }

func (e NotFoundError[T]) Error() string { return fmt.Sprint("not found: ", e.what) }

type typedError struct{ name string }

func (e typedError) Error() string     { return "named" }
func (e typedError) ErrorType() string { return e.name }

func TestErrorType(t *testing.T) {
	t.Parallel()
	plain := errors.New("plain")
	for _, test := range []struct {
		err  error
		want string
	}{
		{plain, "Error"},
		{fmt.Errorf("wrapped: %w", plain), "Error"},
		{errors.Join(plain, plain), "Error"},
		{NotFoundError[string]{"x"}, "NotFoundError"},
		{&NotFoundError[int]{1}, "NotFoundError"},
		{fmt.Errorf("wrapped: %w", NotFoundError[string]{"x"}), "NotFoundError"},
		{&fs.PathError{Op: "open", Err: syscall.ENOENT}, "PathError"},
		{syscall.ENOENT, "Errno"},
		{typedError{"ValueError"}, "ValueError"},
		{fmt.Errorf("wrapped: %w", typedError{"ValueError"}), "ValueError"},
		{dramatiq.Permanent(plain), "Error"},
		{dramatiq.Permanent(typedError{"ValueError"}), "ValueError"},
		{dramatiq.RetryAfter(time.Second, nil), "Retry"},
		{dramatiq.RetryAfter(time.Second, typedError{"ValueError"}), "ValueError"},
		{dramatiq.ErrTimeLimitExceeded, "TimeLimitExceeded"},
		{fmt.Errorf("wrapped: %w", dramatiq.ErrShutdown), "Shutdown"},
		{dramatiq.ErrSkip, "SkipMessage"},
		{&dramatiq.PanicError{Value: 1}, "PanicError"},
		{context.DeadlineExceeded, "Error"},
	} {
		if got := dramatiq.ErrorType(test.err); got != test.want {
			t.Errorf("the type of %#v is %q, want %q", test.err, got, test.want)
		}
	}
}

func TestErrors_WrapTheirCause(t *testing.T) {
	t.Parallel()
	if err := dramatiq.Permanent(nil); err != nil {
		t.Errorf("Permanent(nil) is %v, want nil", err)
	}
	cause := NotFoundError[string]{"x"}
	for _, err := range []error{dramatiq.Permanent(cause), dramatiq.RetryAfter(time.Second, cause)} {
		var found NotFoundError[string]
		if !errors.As(err, &found) || err.Error() != cause.Error() {
			t.Errorf("%v does not wrap its cause", err)
		}
	}
	if got := dramatiq.RetryAfter(time.Second, nil).Error(); got != "retry after 1s" {
		t.Errorf("its text is %q", got)
	}
	if got := dramatiq.RetryAfter(-time.Second, nil).Error(); got != "retry after 0s" {
		t.Errorf("its text is %q", got)
	}
}

func TestSendError(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("while sending: %w", &dramatiq.SendError{Errs: []error{
		nil, fmt.Errorf("one: %w", dramatiq.ErrTooLarge), nil, fmt.Errorf("two: %w", dramatiq.ErrMaybeStored), NotFoundError[int]{3},
	}})
	if !errors.Is(err, dramatiq.ErrTooLarge) || !errors.Is(err, dramatiq.ErrMaybeStored) || errors.Is(err, dramatiq.ErrEncode) {
		t.Errorf("errors.Is does not find exactly what is in %v", err)
	}
	var found NotFoundError[int]
	if !errors.As(err, &found) || found.what != 3 {
		t.Errorf("errors.As does not find what is in %v", err)
	}
	if want := "dramatiq: 3 of 5 messages were not accepted: one: message is too large"; !strings.Contains(err.Error(), want) {
		t.Errorf("its text is %q, want %q", err, want)
	}
	errs := dramatiq.SendErrors(err, 5)
	if len(errs) != 5 || errs[0] != nil || !errors.Is(errs[1], dramatiq.ErrTooLarge) || errs[2] != nil {
		t.Errorf("SendErrors gives %v", errs)
	}
	for _, whole := range []error{nil, dramatiq.ErrNoBroker} {
		if errs := dramatiq.SendErrors(whole, 2); len(errs) != 2 || !errors.Is(errs[0], whole) || !errors.Is(errs[1], whole) {
			t.Errorf("SendErrors(%v, 2) gives %v", whole, errs)
		}
	}
}

// SendMany says that its error tells which messages were not accepted, however many there were.
func TestSendMany_OfOne(t *testing.T) {
	t.Parallel()
	b, _ := newTestBroker(t)
	_, err := dramatiq.Declare[any]("a").SendMany(t.Context(), b, []any{func() {}})
	var some *dramatiq.SendError
	if !errors.As(err, &some) || len(some.Errs) != 1 {
		t.Errorf("the error is %v, want a *SendError with one entry", err)
	}
}

func panicDeep(n int) {
	if n == 0 {
		panic(NotFoundError[string]{"deep"})
	}
	panicDeep(n - 1)
}

func TestPanicError(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		boom func()
		text string
		is   error
		has  string
	}{
		"text":    {func() { panic("boom") }, "panic: boom", nil, "TestPanicError"},
		"error":   {func() { panic(fmt.Errorf("wrapped: %w", fs.ErrNotExist)) }, "panic: wrapped: file does not exist", fs.ErrNotExist, "errors_test.go:"},
		"runtime": {func() { _ = []int{}[strings.Index("a", "a")] }, "panic: runtime error: index out of range [0] with length 0", nil, "TestPanicError"},
		"deep":    {func() { panicDeep(100) }, "panic: not found: deep", NotFoundError[string]{"deep"}, "panicDeep"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			caught := make(outcomes, 1)
			b, _ := newTestBroker(t, caught)
			a := dramatiq.NewActor("a", func(context.Context, int) error {
				test.boom()
				return nil
			}, dramatiq.MaxRetries(0))
			startWorker(t, b, dramatiq.WorkerConfig{}, a)
			mustSend(t, b, a, 1)
			err := <-caught
			var p *dramatiq.PanicError
			if !errors.As(err, &p) || err.Error() != test.text {
				t.Fatalf("the error is %v, want a *PanicError %q", err, test.text)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("%v does not wrap %v", err, test.is)
			}
			if !strings.Contains(p.Stack, test.has) {
				t.Errorf("the stack does not name %s:\n%s", test.has, p.Stack)
			}
			if first, _, _ := strings.Cut(p.Stack, "\n"); strings.HasPrefix(first, "runtime.") || strings.Contains(first, "dramatiq.(") {
				t.Errorf("the stack does not begin where the panic was:\n%s", p.Stack)
			}
			if frames := strings.Count(p.Stack, "\n\t"); frames > 30 {
				t.Errorf("the stack has %d frames", frames)
			}
		})
	}
}
