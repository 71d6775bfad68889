package dramatiq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

// run takes one attempt from its start to its settlement.
func (w *Worker) run(s *slot, a *Attempt) {
	var ctx context.Context = attemptContext{w.handlers, a}
	if err := w.consumer.Begin(w.handlers, &a.delivery); err != nil {
		if errors.Is(err, driver.ErrNotHeld) {
			a.Logger().LogAttrs(ctx, slog.LevelWarn, "message was taken over by another worker before it began")
			w.pool.over(a)
			return
		}
		a.Logger().LogAttrs(ctx, slog.LevelWarn, "message cannot begin; handing it back", slog.Any(LogError, err))
		w.settler.add(a, a.settlement(driver.Requeue))
		return
	}
	a.started = time.Now()
	a.slot = s
	if w.log.Enabled(ctx, slog.LevelDebug) {
		a.Logger().LogAttrs(ctx, slog.LevelDebug, "message started")
	}
	switch err := w.broker.hooks.before(ctx, a); {
	case errors.Is(err, ErrSkip):
		w.skip(ctx, a, err)
	case err != nil:
		a.finish(nil, err)
		w.complete(ctx, a)
	case a.Failed():
		a.finish(json.RawMessage("null"), nil)
		w.complete(ctx, a)
	default:
		w.process(ctx, a)
	}
}

// errGoexit is the error of an attempt until its handler has returned or panicked.
var errGoexit = errors.New("handler ended its goroutine with runtime.Goexit")

// process calls the handler, with what middleware has wrapped around it.
func (w *Worker) process(ctx context.Context, a *Attempt) {
	err := errGoexit
	defer func() {
		if value := recover(); value != nil {
			err = newPanicError(value)
		}
		if !a.finish(a.output, err) {
			a.Logger().LogAttrs(ctx, slog.LevelWarn, "a handler that had been given up has returned; its result is discarded",
				slog.Duration(LogDuration, time.Since(a.started)), slog.Any(LogError, err))
			return
		}
		w.complete(ctx, a)
	}()
	err = w.handler(ctx, a)
}

// invoke is the innermost handler: the actor's own.
func (w *Worker) invoke(ctx context.Context, a *Attempt) error {
	output, err := a.def.invoke(ctx, a.received)
	a.output = output
	return err
}

// skip ends an attempt that a before hook has skipped.
func (w *Worker) skip(ctx context.Context, a *Attempt, err error) {
	if !a.Failed() {
		err = nil
	}
	a.finish(json.RawMessage("null"), err)
	w.broker.hooks.after(ctx, a, true)
	w.settle(ctx, a)
}

// complete calls after hooks and settles an attempt whose run has ended.
func (w *Worker) complete(ctx context.Context, a *Attempt) {
	if err := a.Err(); err != nil && w.stoppingHard() && isInterrupt(w.handlers, err, ErrShutdown) {
		a.Logger().LogAttrs(ctx, slog.LevelWarn, "message was interrupted by the shutdown; handing it back")
		a.SetErr(interrupted(w.handlers, err, ErrShutdown))
		w.broker.hooks.after(ctx, a, true)
		w.settler.add(a, a.settlement(driver.Requeue))
		return
	}
	if w.broker.hooks.after(ctx, a, false) && a.Err() != nil {
		// Retries may not have seen the failure. A dead letter can be replayed; an acknowledged message is gone.
		a.Fail(ReasonMiddleware, a.Err().Error())
	}
	w.settle(ctx, a)
}

// settle acknowledges or dead-letters an attempt.
func (w *Worker) settle(ctx context.Context, a *Attempt) {
	h := w.broker.hooks
	if a.Failed() {
		emit(ctx, w.log, h.beforeNack, a, BeforeNacker.BeforeNack)
		s := a.settlement(driver.Reject)
		s.Death.Body = w.deathBody(a)
		w.settler.add(a, s)
		return
	}
	emit(ctx, w.log, h.beforeAck, a, BeforeAcker.BeforeAck)
	w.settler.add(a, a.settlement(driver.Ack))
}

// deathBody returns what a dead letter keeps instead of the delivered body: the envelope with the counters of its last
// attempt. It is nil where nothing has been counted, and for what is no envelope.
func (w *Worker) deathBody(a *Attempt) []byte {
	env := a.Message()
	if retries, _ := env.Options.Int(optionRetries); env.ID == "" || int(retries) < a.number {
		return nil
	}
	body, err := w.broker.encoder.Append(nil, env)
	if err != nil {
		return nil
	}
	return body
}

// settled is told that an attempt's settlement has been stored.
func (w *Worker) settled(ctx context.Context, a *Attempt, outcome driver.Outcome) {
	h := w.broker.hooks
	for i := range a.followUps.outs {
		emit(ctx, w.log, h.afterEnqueue, &a.followUps.outs[i], AfterEnqueuer.AfterEnqueue)
	}
	switch outcome {
	case driver.Ack:
		emit(ctx, w.log, h.afterAck, a, AfterAcker.AfterAck)
	case driver.Reject:
		emit(ctx, w.log, h.afterNack, a, AfterNacker.AfterNack)
	case driver.Requeue:
	}
	if w.log.Enabled(ctx, slog.LevelDebug) {
		a.Logger().LogAttrs(ctx, slog.LevelDebug, "message settled", slog.String(LogOutcome, outcome.String()))
	}
}

// abandon gives up on an attempt whose handler does not return.
func (w *Worker) abandon(a *Attempt, err error) bool {
	ended, replaced := w.pool.giveUp(a, err)
	if !ended {
		return false
	}
	a.env.Store(a.received.Clone()) // the handler may still be looking at the other
	ctx := attemptContext{w.handlers, a}
	a.Logger().LogAttrs(ctx, slog.LevelError, "handler does not return and is given up; it may still be running",
		slog.Duration(LogDuration, time.Since(a.started)), slog.Any(LogError, err),
		slog.Bool(LogReplaced, replaced), slog.String(LogStack, a.slot.stack()))
	w.complete(ctx, a)
	return true
}

// Stuck returns how many handlers were given up and are still running.
func (w *Worker) Stuck() int {
	w.pool.mu.Lock()
	defer w.pool.mu.Unlock()
	return w.pool.stuck
}

// String names the worker's queues.
func (w *Worker) String() string { return fmt.Sprintf("worker of %v", w.cfg.Queues) }
