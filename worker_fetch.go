package dramatiq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/wire"
)

// Reasons of dead letters. They are stable, so that tools can tell them apart.
const (
	ReasonUndecodable  = "undecodable"
	ReasonTooLarge     = "too large"
	ReasonUnknownActor = "unknown actor"
	ReasonCrashed      = "crashed its worker"
	ReasonAgeLimit     = "age limit exceeded"
	ReasonRetries      = "retries exhausted"
	ReasonPermanent    = "permanent error"
	ReasonMiddleware   = "middleware panicked"
	ReasonRetryRefused = "retry refused"
	ReasonPipeline     = "pipeline cannot go on"
)

// fetchLoop feeds the pool until ctx ends.
func (w *Worker) fetchLoop(ctx context.Context) {
	defer close(w.fetchDone)
	if !w.declareQueues(ctx) {
		return
	}
	failures := 0
	for {
		n := w.pool.demand(ctx, w.handBack)
		if n == 0 || !w.settler.accepting(ctx) {
			return
		}
		deliveries, err := w.consumer.Fetch(ctx, n)
		if err != nil && ctx.Err() == nil {
			if errors.Is(err, ErrMisconfigured) {
				w.fail(fmt.Errorf("dramatiq: fetch messages: %w", err))
				return
			}
			failures++
			w.log.LogAttrs(ctx, slog.LevelWarn, "cannot fetch messages; trying again", slog.Any(LogError, err))
			pause(ctx, backoff(failures))
		} else if failures > 0 && err == nil {
			failures = 0
			w.log.LogAttrs(ctx, slog.LevelInfo, "fetching messages again")
		}
		w.accept(ctx, deliveries)
	}
}

// declareQueues declares what will be consumed, for as long as that takes. It reports false when ctx has ended or the
// broker refuses.
func (w *Worker) declareQueues(ctx context.Context) bool {
	for _, q := range w.cfg.Queues {
		for failures := 1; ; failures++ {
			err := w.broker.declareQueue(ctx, q)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return false
			}
			if errors.Is(err, ErrMisconfigured) {
				w.fail(fmt.Errorf("dramatiq: queue %q: %w", q, err))
				return false
			}
			w.log.LogAttrs(ctx, slog.LevelWarn, "cannot declare a queue; trying again",
				slog.String(LogQueue, q), slog.Any(LogError, err))
			pause(ctx, backoff(failures))
		}
	}
	return true
}

// backoff returns how long to wait after a number of failures in a row: 50 ms doubling to 3 s, half of it at random.
func backoff(failures int) time.Duration {
	d := min(50*time.Millisecond<<min(failures-1, 10), 3*time.Second)
	return d/2 + rand.N(d/2) //nolint:gosec // jitter
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// accept hands what was fetched to the pool, except what cannot run.
func (w *Worker) accept(ctx context.Context, deliveries []driver.Delivery) {
	if len(deliveries) == 0 {
		return
	}
	attempts := make([]*Attempt, 0, len(deliveries))
	for _, d := range deliveries {
		a := &Attempt{worker: w, delivery: d}
		if w.receive(ctx, a) {
			attempts = append(attempts, a)
		}
	}
	if len(attempts) > 0 && !w.pool.push(attempts) {
		w.handBack(attempts)
	}
}

// handBack returns attempts that have not begun to their queue.
func (w *Worker) handBack(attempts []*Attempt) {
	for _, a := range attempts {
		w.settler.add(a, a.settlement(driver.Requeue))
	}
}

// receive looks into a delivery. It reports whether it is to run; if not, it has been settled.
func (w *Worker) receive(ctx context.Context, a *Attempt) bool {
	env, err := w.broker.decode(a.delivery.Body)
	if err != nil {
		a.receive(&wire.Envelope{Queue: a.delivery.Queue})
		a.def = &definition{}
		reason := ReasonUndecodable
		if errors.Is(err, ErrTooLarge) {
			reason = ReasonTooLarge
		}
		w.reject(ctx, a, reason, err.Error())
		return false
	}
	env.Queue = a.delivery.Queue
	a.receive(env)
	if a.def = w.actors[env.Actor]; a.def == nil {
		a.def = &definition{name: env.Actor}
	}
	if w.hold(ctx, a) {
		return false
	}
	if a.def.invoke == nil {
		w.reject(ctx, a, ReasonUnknownActor, fmt.Sprintf("this worker has no handler for actor %q", env.Actor))
		return false
	}
	if limit := w.cfg.CrashLimit; limit != NoLimit && a.delivery.Crashes >= limit {
		w.reject(ctx, a, ReasonCrashed, fmt.Sprintf("%d workers died while they were running it", a.delivery.Crashes))
		return false
	}
	// A suspect without a crash of its own may run beside others and share the blame once, unless once is the limit.
	a.alone = a.delivery.Crashes > 0 || a.delivery.Suspect && w.cfg.CrashLimit == 1
	return true
}

// hold handles a message that carries an eta, as one from Python can: the eta is taken off, and a message that is not due
// is stored again until it is (protocol 2.5).
func (w *Worker) hold(ctx context.Context, a *Attempt) bool {
	raw, present := a.Message().Options.Get(optionETA)
	if !present {
		return false
	}
	a.Message().Options.Delete(optionETA)
	ms, isNumber := wire.ParseNumber(raw)
	if !isNumber {
		if !wire.IsNull(raw) {
			a.Logger().LogAttrs(ctx, slog.LevelWarn, "option eta is not a number; the message is due now")
		}
		return false
	}
	due := time.UnixMicro(int64(math.Ceil(min(max(ms, 0), 1<<52) * 1000)))
	if math.IsNaN(ms) || !due.After(time.Now()) {
		return false
	}
	if err := a.FollowUp(ctx, Outgoing{Message: a.Message().Clone(), Due: due}); err != nil {
		w.reject(ctx, a, ReasonRetryRefused, err.Error())
		return true
	}
	w.settler.add(a, a.settlement(driver.Ack))
	return true
}

// reject dead-letters a message that never ran.
func (w *Worker) reject(ctx context.Context, a *Attempt, reason, detail string) {
	a.Fail(reason, detail)
	a.Logger().LogAttrs(ctx, slog.LevelError, "message is dead-lettered without running",
		slog.String(LogReason, reason), slog.Any(LogError, detail))
	w.settle(ctx, a)
}
