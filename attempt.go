package dramatiq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/wire"
)

// Attempt is one run of a message in a worker, as middleware and, through the context, handlers see it. Its methods are
// safe for concurrent use, except that changes to Message belong into hooks.
type Attempt struct {
	worker   *Worker
	def      *definition                   // of an unknown actor: a bare one
	env      atomic.Pointer[wire.Envelope] // what hooks see and change
	received *wire.Envelope                // what the handler sees; the same, unless the handler was given up and may still look at it
	number   int
	delivery driver.Delivery
	started  time.Time
	slot     *slot
	alone    bool            // it may crash the worker, and must not run beside others of that kind
	givenUp  givenUp         // guarded by the pool
	output   json.RawMessage // what the handler has returned; only its own goroutine looks at it

	mu        sync.Mutex // guards below
	logger    *slog.Logger
	finished  bool // the handler has returned or was given up
	settled   bool // what follows from the attempt is fixed
	err       error
	result    json.RawMessage
	failed    bool
	death     driver.Death
	followUps followUpList // of hooks
	sent      followUpList // of the handler, whose failure takes them back
	values    map[any]any
}

// receive sets what the attempt is about.
func (a *Attempt) receive(env *wire.Envelope) {
	a.env.Store(env)
	a.received = env
	retries, _ := env.Options.Int(optionRetries)
	a.number = int(max(retries, 0)) + 1
}

// Message returns what is running, for hooks; handlers use CurrentMessage. After hooks may change its options, which a
// retry then carries.
func (a *Attempt) Message() *Envelope { return a.env.Load() }

// ActorName returns the name of the message's actor.
func (a *Attempt) ActorName() string { return a.received.Actor }

// Queue returns the canonical name of the queue the message came from.
func (a *Attempt) Queue() string { return a.delivery.Queue }

// Number counts attempts from 1, this one included; crashes do not count.
func (a *Attempt) Number() int { return a.number }

// Redelivered is true when the message had been claimed before and was not settled.
func (a *Attempt) Redelivered() bool { return a.delivery.Redelivered }

// Worker returns the worker that runs the attempt.
func (a *Attempt) Worker() *Worker { return a.worker }

// Logger returns a logger whose records name the actor, the queue, the message and the attempt.
func (a *Attempt) Logger() *slog.Logger {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.logger == nil {
		a.logger = a.worker.log.With(slog.String(LogActor, a.received.Actor), slog.String(LogQueue, a.delivery.Queue),
			slog.String(LogMessage, a.received.ID), slog.Int(LogAttempt, a.number))
	}
	return a.logger
}

// Err returns the attempt's error, nil while it runs and when it succeeded.
func (a *Attempt) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// SetErr changes the attempt's error. A hook that comes first can turn success into failure for those that follow.
func (a *Attempt) SetErr(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err = err; err != nil {
		a.result = nil
	}
}

// Result returns the result as JSON; it is nil while the attempt runs, when it failed, and for actors without results.
func (a *Attempt) Result() json.RawMessage {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.result
}

// Fail marks the message as failed: it will be dead-lettered with this reason instead of acknowledged. A before hook that
// calls it keeps the handler from running.
func (a *Attempt) Fail(reason, detail string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.failed {
		a.failed = true
		a.death = driver.Death{Reason: reason, Detail: detail}
	}
}

// Failed reports whether the message was marked as failed.
func (a *Attempt) Failed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failed
}

// Death returns why the message is dead-lettered; both are empty unless it was marked as failed.
func (a *Attempt) Death() (reason, detail string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.death.Reason, a.death.Detail
}

// FollowUp sends a message together with this one's settlement: it is stored if and when this message is acknowledged or
// dead-lettered, on most brokers in the same atomic step, and not at all if another worker has taken this message over.
// Enqueue hooks run now, except AfterEnqueue, which runs when it was stored.
func (a *Attempt) FollowUp(ctx context.Context, out Outgoing) error {
	m, err := a.worker.broker.admitFollowUp(ctx, &out)
	if err != nil {
		return sendError(&out, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.settled {
		return fmt.Errorf("dramatiq: follow-up to actor %q: %w", out.Message.Actor, ErrFinished)
	}
	a.followUps.add(out, m)
	return nil
}

// followUpList is what is to be stored with a settlement, as hooks and as the driver see it.
type followUpList struct {
	outs   []Outgoing
	stored []driver.Message
}

func (l *followUpList) add(out Outgoing, m driver.Message) {
	l.outs = append(l.outs, out)
	l.stored = append(l.stored, m)
}

// Abandon gives up on a handler that does not return: the attempt ends now with err, hooks run and the message is settled,
// while the handler may still be running. What it returns later is discarded. It reports whether it came in time.
func (a *Attempt) Abandon(err error) bool {
	return a.worker.abandon(a, err)
}

// Value returns what middleware has put under key.
func (a *Attempt) Value(key any) any {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.values[key]
}

// SetValue keeps something for the attempt's other hooks. Keys should be of a type of one's own, as with contexts.
func (a *Attempt) SetValue(key, value any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.values == nil {
		a.values = map[any]any{}
	}
	a.values[key] = value
}

// finish ends the run, once. It reports whether this call did it.
func (a *Attempt) finish(result json.RawMessage, err error) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.finished {
		return false
	}
	a.finished = true
	a.err = err
	if err == nil {
		a.result = result
	}
	return true
}

// settlement fixes what follows from the attempt. What the handler has sent goes with success alone.
func (a *Attempt) settlement(outcome driver.Outcome) driver.Settlement {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settled = true
	s := driver.Settlement{Delivery: &a.delivery, Outcome: outcome}
	if outcome == driver.Requeue {
		a.followUps = followUpList{}
		return s
	}
	if outcome == driver.Ack && a.err == nil {
		a.followUps.outs = append(a.followUps.outs, a.sent.outs...)
		a.followUps.stored = append(a.followUps.stored, a.sent.stored...)
	}
	if outcome == driver.Reject {
		s.Death = a.death
	}
	s.FollowUps = a.followUps.stored
	return s
}

// actorText returns a text option of the message if it is a filled string, else the actor's.
func (a *Attempt) actorText(name string) string {
	if text, ok := a.Message().Options.Text(name); ok && text != "" {
		return text
	}
	text, _ := a.def.options[name].(string)
	return text
}

// duration returns an option in milliseconds: the message's if it is set and not zero, else the actor's, else fallback.
func (a *Attempt) duration(name string, fallback time.Duration) time.Duration {
	if raw, present := a.Message().Options.Get(name); present {
		if ms, ok := wire.ParseNumber(raw); ok && ms != 0 {
			return milliseconds(ms)
		}
	}
	if d, ok := a.def.options[name].(time.Duration); ok {
		return d
	}
	return fallback
}

// milliseconds converts a number from the wire. What no time.Duration can hold is NoLimit.
func milliseconds(ms float64) time.Duration {
	const most = float64(1<<63-1) / float64(time.Millisecond)
	if math.IsNaN(ms) || ms >= most || ms <= -most {
		return NoLimit
	}
	return time.Duration(ms * float64(time.Millisecond))
}

// attemptKey finds the running attempt in a context.
type attemptKey struct{}

// attemptContext is a handler's context.
type attemptContext struct {
	context.Context //nolint:containedctx // it is a context
	attempt         *Attempt
}

func (c attemptContext) Value(key any) any {
	if _, ok := key.(attemptKey); ok {
		return c.attempt
	}
	return c.Context.Value(key)
}

// AttemptFrom returns the attempt that a handler's context belongs to, or nil.
func AttemptFrom(ctx context.Context) *Attempt {
	a, _ := ctx.Value(attemptKey{}).(*Attempt)
	return a
}

// CurrentMessage returns the message that a handler's context belongs to, or nil. It must not be changed, and is the
// handler's until it returns.
func CurrentMessage(ctx context.Context) *Envelope {
	if a := AttemptFrom(ctx); a != nil {
		return a.received
	}
	return nil
}

// BrokerFrom returns the broker whose message a handler's context belongs to. It is nil elsewhere, and sending through a
// nil broker is ErrNoBroker.
func BrokerFrom(ctx context.Context) *Broker {
	if a := AttemptFrom(ctx); a != nil {
		return a.worker.broker
	}
	return nil
}

// Logger returns the logger of the message that a handler's context belongs to: its records name the actor, the queue, the
// message and the attempt. Elsewhere it is slog.Default().
func Logger(ctx context.Context) *slog.Logger {
	if a := AttemptFrom(ctx); a != nil {
		return a.Logger()
	}
	return slog.Default()
}

// FollowUps returns a sender whose messages are stored together with the acknowledgement of the message that the context
// belongs to: if the handler fails or its worker dies, they are not sent. Elsewhere, sending is ErrNoBroker.
func FollowUps(ctx context.Context) Sender {
	return followUps{AttemptFrom(ctx)}
}

type followUps struct{ attempt *Attempt }

// Send implements Sender. The messages are kept until the handler has succeeded.
func (f followUps) Send(ctx context.Context, messages ...AnyMessage) error {
	a := f.attempt
	if a == nil {
		return fmt.Errorf("dramatiq: send follow-ups: the context belongs to no message: %w", ErrNoBroker)
	}
	errs := make([]error, len(messages))
	for i, m := range messages {
		out, err := a.worker.broker.prepare(ctx, m)
		if err == nil {
			err = a.fromHandler(ctx, out)
		}
		errs[i] = err
	}
	return sendResult(errs)
}

// fromHandler is FollowUp for the handler itself, which is over when it has returned.
func (a *Attempt) fromHandler(ctx context.Context, out Outgoing) error {
	m, err := a.worker.broker.admitFollowUp(ctx, &out)
	if err != nil {
		return sendError(&out, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.finished {
		return fmt.Errorf("dramatiq: follow-up to actor %q: %w", out.Message.Actor, ErrFinished)
	}
	a.sent.add(out, m)
	return nil
}

// isInterrupt reports whether err is how a handler returns when its context was cancelled with cause.
func isInterrupt(ctx context.Context, err, cause error) bool {
	if err == nil || !errors.Is(context.Cause(ctx), cause) {
		return false
	}
	return errors.Is(err, cause) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
