package dramatiq

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// Defaults of TimeLimits.
const (
	// DefaultTimeLimit is how long a handler may run, as in Python.
	DefaultTimeLimit = 10 * time.Minute
	// DefaultStuckGrace is how long a handler has to return after its time limit before it is given up.
	DefaultStuckGrace = 30 * time.Second
)

// TimeLimit limits how long a handler may run; then its context is cancelled with the cause ErrTimeLimitExceeded, and the
// message fails and is retried as usual. NoLimit switches the limit off. The default is DefaultTimeLimit.
func TimeLimit(d time.Duration) Option {
	if d == NoLimit {
		return option{name: optionTimeLimit, shown: "TimeLimit(NoLimit)", value: d, raw: []byte("Infinity")}
	}
	return durationOption("TimeLimit", optionTimeLimit, d, time.Millisecond)
}

// TimeLimits is the middleware behind TimeLimit (protocol 4.5). A handler that ignores its context is given up Grace
// later: it is logged with its stack, its message is settled as failed, and another slot takes its place, while it may
// still be running.
type TimeLimits struct {
	// Default is the limit of messages and actors without one of their own; 0 means DefaultTimeLimit, NoLimit none.
	Default time.Duration
	// Grace is how long a handler has to return after its limit; 0 means DefaultStuckGrace, NoLimit for ever.
	Grace time.Duration
}

// Options implements OptionDeclarer.
func (m *TimeLimits) Options() []string { return []string{optionTimeLimit} }

// Wrap implements Wrapper.
func (m *TimeLimits) Wrap(next Handler) Handler {
	fallback := cmp.Or(m.Default, DefaultTimeLimit)
	grace := cmp.Or(m.Grace, DefaultStuckGrace)
	return func(ctx context.Context, a *Attempt) error {
		limit := a.duration(optionTimeLimit, fallback)
		if limit <= 0 {
			return next(ctx, a)
		}
		ctx, cancel := context.WithTimeoutCause(ctx, limit, ErrTimeLimitExceeded)
		defer cancel()
		if grace > 0 {
			giveUp := time.AfterFunc(limit+grace, func() { a.Abandon(ErrTimeLimitExceeded) })
			defer giveUp.Stop()
		}
		return interrupted(ctx, next(ctx, a), ErrTimeLimitExceeded)
	}
}

// interruptedError is a handler's error after its context was cancelled.
type interruptedError struct{ cause, err error }

func (e *interruptedError) Error() string     { return fmt.Sprintf("%v: %v", e.cause, e.err) }
func (e *interruptedError) ErrorType() string { return ErrorType(e.cause) }
func (e *interruptedError) Unwrap() []error   { return []error{e.cause, e.err} }

// interrupted gives a handler's error its cause, if that is why the handler has returned it.
func interrupted(ctx context.Context, err, cause error) error {
	if !isInterrupt(ctx, err, cause) || ErrorType(err) == ErrorType(cause) {
		return err
	}
	return &interruptedError{cause, err}
}
