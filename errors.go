package dramatiq

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/wire"
)

// Errors that callers may want to tell apart with errors.Is.
var (
	// ErrInvalidActor is wrapped when an actor's declaration is wrong: its name, its queue, an option, or an argument type
	// that cannot be sent. Declaring never fails; whatever uses the actor first does.
	ErrInvalidActor = errors.New("invalid actor")
	// ErrInvalidOption is wrapped when an option has an impossible value or no middleware knows it.
	ErrInvalidOption = errors.New("invalid option")
	// ErrEncode is wrapped when arguments or a result cannot be encoded as JSON.
	ErrEncode = errors.New("cannot be encoded")
	// ErrArguments is wrapped when the arguments of a received message do not fit the actor.
	ErrArguments = errors.New("arguments do not fit the actor")
	// ErrTooLarge is wrapped when a message is larger than BrokerConfig.MaxMessageBytes.
	ErrTooLarge = errors.New("message is too large")
	// ErrNoHandler is wrapped when an actor that was only declared is called.
	ErrNoHandler = errors.New("actor has no handler here")
	// ErrNoBroker is wrapped when something is sent through a nil broker, or with the context of no message.
	ErrNoBroker = errors.New("no broker")
	// ErrFinished is wrapped when a follow-up comes after its handler has returned or was given up.
	ErrFinished = errors.New("the message has already been finished")
	// ErrStarted is wrapped when a worker is started twice.
	ErrStarted = errors.New("worker was already started")
	// ErrAbandoned is wrapped by Worker's Run, Drain and Stop when handlers were still running at the end of their time.
	// Their messages will be redelivered.
	ErrAbandoned = errors.New("handlers were still running")

	// ErrSkip is returned by a BeforeProcess hook to leave a message unrun. Unless it was marked as failed, it is
	// acknowledged.
	ErrSkip error = &namedError{"SkipMessage", "message skipped"}
	// ErrTimeLimitExceeded is the cause with which a handler's context is cancelled when its time limit has passed.
	ErrTimeLimitExceeded error = &namedError{"TimeLimitExceeded", "time limit exceeded"}
	// ErrShutdown is the cause with which a handler's context is cancelled when its worker shuts down.
	ErrShutdown error = &namedError{"Shutdown", "worker is shutting down"}

	// ErrMaybeStored is wrapped when a message was handed to the broker and its answer is missing. Sending it again may
	// run it twice; not sending it again may not run it at all.
	ErrMaybeStored = driver.ErrMaybeStored
	// ErrClosed is wrapped by calls on a closed broker.
	ErrClosed = driver.ErrClosed
	// ErrMisconfigured is wrapped by broker errors that no waiting cures; a worker stops with it.
	ErrMisconfigured = driver.ErrMisconfigured
	// ErrUndecodable is wrapped when stored bytes are no message.
	ErrUndecodable = wire.ErrUndecodable
)

// namedError is an error whose name is fixed on the wire.
type namedError struct{ name, text string }

func (e *namedError) Error() string { return e.text }

// ErrorType returns the name that Python knows the error by.
func (e *namedError) ErrorType() string { return e.name }

// SendError reports which messages of one Send were not accepted.
type SendError struct {
	// Errs has one entry a message, in the order in which they were given, nil for those that were accepted.
	Errs []error
}

// Error implements error.
func (e *SendError) Error() string {
	failed, first := 0, error(nil)
	for _, err := range e.Errs {
		if err != nil {
			failed++
			if first == nil {
				first = err
			}
		}
	}
	return fmt.Sprintf("dramatiq: %d of %d messages were not accepted: %v", failed, len(e.Errs), first)
}

// Unwrap lets errors.Is and errors.As look at each message's error.
func (e *SendError) Unwrap() []error {
	var errs []error
	for _, err := range e.Errs {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// SendErrors takes apart the error of sending n messages: one entry a message, nil for those that were accepted.
func SendErrors(err error, n int) []error {
	if many := (*SendError)(nil); errors.As(err, &many) && len(many.Errs) == n {
		return many.Errs
	}
	return driver.Failed(err, n)
}

// PanicError is what a handler's panic becomes. The message is then retried like after any error.
type PanicError struct {
	Value any    // what panic was called with
	Stack string // the frames of the panicking goroutine, innermost first, at most 30
}

// Error implements error.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the panic's value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// maxFrames is how many frames a traceback shows, as in Python (protocol 1.7).
const maxFrames = 30

// newPanicError must be called from a deferred function with the value that recover returned.
func newPanicError(value any) *PanicError {
	pcs := make([]uintptr, maxFrames+8)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	var text strings.Builder
	for shown := 0; shown < maxFrames; {
		frame, more := frames.Next()
		if frame.Function != "" && !strings.HasPrefix(frame.Function, "runtime.") {
			fmt.Fprintf(&text, "%s\n\t%s:%d\n", frame.Function, frame.File, frame.Line)
			shown++
		}
		if !more {
			break
		}
	}
	return &PanicError{Value: value, Stack: text.String()}
}

// RetryAfter wraps an error so that its message is retried after exactly delay instead of a backoff; 0 means at once. It
// counts as a failure. A nil cause is fine: the retry is then no error in the logs.
func RetryAfter(delay time.Duration, cause error) error {
	return &retryError{delay: max(delay, 0), cause: cause}
}

type retryError struct {
	delay time.Duration
	cause error
}

func (e *retryError) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("retry after %v", e.delay)
	}
	return e.cause.Error()
}

func (e *retryError) Unwrap() error { return e.cause }

// ErrorType returns the name that Python knows a request to retry by.
func (e *retryError) ErrorType() string {
	if e.cause == nil {
		return "Retry"
	}
	return ErrorType(e.cause)
}

// Permanent wraps an error that no retry can cure: its message is dead-lettered at once.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ cause error }

func (e *permanentError) Error() string { return e.cause.Error() }
func (e *permanentError) Unwrap() error { return e.cause }

// ErrorType returns the name by which err is stored and sent in callbacks, where Python puts the name of the exception's
// class: what the first error in its chain with an ErrorType() string method says, else the first exported type name in
// the chain, else "Error".
func ErrorType(err error) string {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if typed, ok := e.(interface{ ErrorType() string }); ok {
			return typed.ErrorType()
		}
		t := reflect.TypeOf(e)
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if name, _, _ := strings.Cut(t.Name(), "["); name != "" && name[0] >= 'A' && name[0] <= 'Z' {
			return name
		}
	}
	return "Error"
}

// traceback returns what the traceback option shows of a failure.
func traceback(err error) string {
	const limit = 8 << 10
	text := ErrorType(err) + ": " + err.Error() + "\n"
	if p := (*PanicError)(nil); errors.As(err, &p) {
		text += p.Stack
	}
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…\n"
	}
	return text
}
