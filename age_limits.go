package dramatiq

import (
	"context"
	"log/slog"
	"time"
)

// MaxAge dead-letters messages that were built at least d ago when they are about to run. Delays and retries count, and
// later steps of a pipeline count from when the pipeline was built.
func MaxAge(d time.Duration) Option {
	return durationOption("MaxAge", optionMaxAge, d, time.Millisecond)
}

// AgeLimits is the middleware behind MaxAge (protocol 4.6). Its zero value limits nothing by itself.
type AgeLimits struct {
	// Default is the limit of messages and actors without one of their own; 0 means none.
	Default time.Duration
}

// Options implements OptionDeclarer.
func (m *AgeLimits) Options() []string { return []string{optionMaxAge} }

// BeforeProcess implements BeforeProcessor.
func (m *AgeLimits) BeforeProcess(ctx context.Context, a *Attempt) error {
	limit := a.duration(optionMaxAge, m.Default)
	if limit <= 0 || time.Since(time.UnixMilli(a.Message().Timestamp)) < limit {
		return nil
	}
	a.Logger().LogAttrs(ctx, slog.LevelWarn, "message has exceeded its age limit")
	a.Fail(ReasonAgeLimit, "the limit is "+limit.String())
	return &skipError{"Message age limit exceeded"}
}

// skipError is an ErrSkip with a text of its own.
type skipError struct{ text string }

func (e *skipError) Error() string        { return e.text }
func (e *skipError) ErrorType() string    { return "SkipMessage" }
func (e *skipError) Is(target error) bool { return target == ErrSkip }
