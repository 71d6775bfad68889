package dramatiq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/dramatiq-go/dramatiq/wire"
)

// Defaults of Retries, as in Python.
const (
	DefaultMaxRetries = 20
	DefaultMinBackoff = 15 * time.Second
	DefaultMaxBackoff = 7 * 24 * time.Hour // and the most there can be
)

// MaxRetries limits how often a message is retried: it is tried at most n+1 times. NoLimit retries for ever; the default
// is DefaultMaxRetries.
func MaxRetries(n int) Option {
	o := option{name: optionMaxRetries, shown: fmt.Sprintf("MaxRetries(%d)", n), value: n, raw: strconv.AppendInt(nil, int64(n), 10)}
	switch {
	case n == NoLimit:
		o.shown, o.raw = "MaxRetries(NoLimit)", []byte("null")
	case n < 0:
		o.err = errors.New("must not be negative, unless it is NoLimit")
	}
	return o
}

// MinBackoff is the delay before the first retry, which doubles with each one and is then lengthened by up to as much
// again at random. The default is DefaultMinBackoff; 0 retries at once.
func MinBackoff(d time.Duration) Option { return durationOption("MinBackoff", optionMinBackoff, d, 0) }

// MaxBackoff is the longest delay before a retry; half of it is random. The default, and the most, is DefaultMaxBackoff.
func MaxBackoff(d time.Duration) Option { return durationOption("MaxBackoff", optionMaxBackoff, d, 0) }

// RetryWhen decides whether a failed message is retried, instead of MaxRetries. It gets the number of retries so far and
// the error.
func RetryWhen(decide func(retries int, err error) bool) ActorOption {
	o := option{name: optionRetryWhen, shown: "RetryWhen(…)", value: decide}
	if decide == nil {
		o.err = errors.New("function is nil")
	}
	return actorOnly{o}
}

// Throws names errors that are not worth a retry: a message whose error is one of them, by errors.Is, is dead-lettered at
// once, as with Permanent.
func Throws(targets ...error) ActorOption {
	texts := make([]string, len(targets))
	for i, t := range targets {
		texts[i] = fmt.Sprint(t)
	}
	return actorOnly{option{name: optionThrows, shown: "Throws(" + strings.Join(texts, ", ") + ")", value: targets}}
}

// Retries is the middleware that retries failed messages with a growing delay (protocol 4.4). The retry is stored together
// with the acknowledgement of the failed message. Without this middleware a failed message is acknowledged.
type Retries struct {
	// MaxRetries is for messages and actors that do not say; 0 means DefaultMaxRetries, NoLimit for ever.
	MaxRetries int
	// MinBackoff and MaxBackoff are for messages and actors that do not say; 0 means the defaults.
	MinBackoff, MaxBackoff time.Duration
	// RetryWhen, if not nil, is for actors that do not have their own. It stands in for all limits.
	RetryWhen func(retries int, err error) bool
}

// Options implements OptionDeclarer.
func (m *Retries) Options() []string {
	return []string{
		optionMaxRetries, optionMinBackoff, optionMaxBackoff, optionRetryWhen, optionThrows, optionRetryExhausted,
	}
}

// AfterProcess implements AfterProcessor.
func (m *Retries) AfterProcess(ctx context.Context, a *Attempt) {
	err := a.Err()
	if err == nil {
		return
	}
	if isPermanent(a, err) {
		a.Logger().LogAttrs(ctx, slog.LevelInfo, "message failed with an error that is not retried", slog.Any(LogError, err))
		a.Fail(ReasonPermanent, err.Error())
		return
	}
	options := &a.Message().Options
	retries, _ := options.Int(optionRetries)
	options.SetInt(optionRetries, retries+1)
	options.SetString(optionTraceback, traceback(err))
	options.SetInt(optionRequeueTimestamp, time.Now().UnixMilli())

	limit := m.maxRetries(a)
	if !m.wanted(a, int(retries), limit, err) {
		a.Logger().LogAttrs(ctx, slog.LevelError, "message failed for the last time", failure(err)...)
		a.Fail(ReasonRetries, err.Error())
		payload := fmt.Appendf(nil, `{"retries":%d,"max_retries":%d}`, retries, limit)
		if limit == NoLimit {
			payload = fmt.Appendf(nil, `{"retries":%d,"max_retries":null}`, retries)
		}
		sendCallback(ctx, a, optionRetryExhausted, payload)
		return
	}
	m.retry(ctx, a, int(retries), err)
}

// retry sends the message again, with a delay.
func (m *Retries) retry(ctx context.Context, a *Attempt, retries int, err error) {
	var delay time.Duration
	if r := (*retryError)(nil); errors.As(err, &r) {
		delay = r.delay
		a.Logger().LogAttrs(ctx, slog.LevelInfo, "message asked for a retry", slog.Duration(LogDelay, delay), slog.Any(LogError, err))
	} else {
		delay = m.delay(a, retries)
		a.Logger().LogAttrs(ctx, slog.LevelError, "message failed and will be retried",
			append(failure(err), slog.Duration(LogDelay, delay))...)
	}
	again := Outgoing{Message: a.Message().Clone(), Due: delayed(delay)}
	if refused := a.FollowUp(ctx, again); refused != nil {
		a.Logger().LogAttrs(ctx, slog.LevelError, "retry was refused; message is dead-lettered", slog.Any(LogError, refused))
		a.Fail(ReasonRetryRefused, errors.Join(err, refused).Error())
	}
}

func failure(err error) []slog.Attr {
	attrs := []slog.Attr{slog.Any(LogError, err)}
	if p := (*PanicError)(nil); errors.As(err, &p) {
		attrs = append(attrs, slog.String(LogStack, p.Stack))
	}
	return attrs
}

func isPermanent(a *Attempt, err error) bool {
	if p := (*permanentError)(nil); errors.As(err, &p) {
		return true
	}
	targets, _ := a.def.options[optionThrows].([]error)
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}

// wanted decides whether a message is retried.
func (m *Retries) wanted(a *Attempt, retries, limit int, err error) bool {
	if decide, ok := a.def.options[optionRetryWhen].(func(int, error) bool); ok {
		return decide(retries, err)
	}
	if m.RetryWhen != nil {
		return m.RetryWhen(retries, err)
	}
	return limit == NoLimit || retries < limit
}

// maxRetries returns the limit of the message if it has one, else of the actor, else of the middleware.
func (m *Retries) maxRetries(a *Attempt) int {
	if raw, present := a.Message().Options.Get(optionMaxRetries); present {
		if wire.IsNull(raw) {
			return NoLimit
		}
		if n, ok := a.Message().Options.Int(optionMaxRetries); ok {
			return int(max(n, 0))
		}
	}
	if n, ok := a.def.options[optionMaxRetries].(int); ok {
		return n
	}
	return cmp.Or(m.MaxRetries, DefaultMaxRetries)
}

// delay returns how long to wait before a retry: the backoff doubles with each, and is jittered.
func (m *Retries) delay(a *Attempt, retries int) time.Duration {
	lowest := float64(m.backoff(a, optionMinBackoff, cmp.Or(m.MinBackoff, DefaultMinBackoff)))
	highest := float64(min(m.backoff(a, optionMaxBackoff, cmp.Or(m.MaxBackoff, DefaultMaxBackoff)), DefaultMaxBackoff))
	d := lowest * math.Exp2(float64(min(retries, 32))) * (1 + rand.Float64()) //nolint:gosec // jitter
	if d > highest {
		d = highest * (0.5 + rand.Float64()/2) //nolint:gosec // jitter
	}
	return time.Duration(d).Truncate(time.Millisecond)
}

func (m *Retries) backoff(a *Attempt, name string, fallback time.Duration) time.Duration {
	if ms, ok := a.Message().Options.Int(name); ok {
		return time.Duration(min(max(ms, 0), DefaultMaxBackoff.Milliseconds())) * time.Millisecond
	}
	if d, ok := a.def.options[name].(time.Duration); ok {
		return d
	}
	return fallback
}
