package dramatiq

import (
	"bytes"
	"context"
	"fmt"
	"sync"
)

// NotifyShutdown cancels a handler's context, with the cause ErrShutdown, as soon as its worker begins to stop. If the
// handler returns an error because of that, the message counts as failed and is retried.
func NotifyShutdown(notify bool) Option {
	return option{
		name: optionNotifyShutdown, shown: fmt.Sprintf("NotifyShutdown(%t)", notify),
		value: notify, raw: fmt.Appendf(nil, "%t", notify),
	}
}

// ShutdownNotifications is the middleware behind NotifyShutdown (protocol 4.5).
type ShutdownNotifications struct {
	// Default is for messages and actors that do not say.
	Default bool

	mu      sync.Mutex // guards below
	workers map[*Worker]*notified
}

// notified is what there is to cancel in one worker.
type notified struct {
	stopping bool
	cancel   map[*Attempt]context.CancelCauseFunc
}

// Options implements OptionDeclarer.
func (m *ShutdownNotifications) Options() []string { return []string{optionNotifyShutdown} }

// Wrap implements Wrapper.
func (m *ShutdownNotifications) Wrap(next Handler) Handler {
	return func(ctx context.Context, a *Attempt) error {
		if !m.enabled(a) {
			return next(ctx, a)
		}
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		m.add(a, cancel)
		defer m.remove(a)
		return interrupted(ctx, next(ctx, a), ErrShutdown)
	}
}

func (m *ShutdownNotifications) enabled(a *Attempt) bool {
	if raw, present := a.Message().Options.Get(optionNotifyShutdown); present && !bytes.Equal(raw, []byte("null")) {
		return truthy(raw)
	}
	if notify, ok := a.def.options[optionNotifyShutdown].(bool); ok {
		return notify
	}
	return m.Default
}

func (m *ShutdownNotifications) of(w *Worker) *notified {
	if m.workers == nil {
		m.workers = map[*Worker]*notified{}
	}
	n := m.workers[w]
	if n == nil {
		n = &notified{cancel: map[*Attempt]context.CancelCauseFunc{}}
		m.workers[w] = n
	}
	return n
}

func (m *ShutdownNotifications) add(a *Attempt, cancel context.CancelCauseFunc) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.of(a.worker)
	if n.stopping {
		cancel(ErrShutdown)
		return
	}
	n.cancel[a] = cancel
}

func (m *ShutdownNotifications) remove(a *Attempt) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.workers[a.worker]; n != nil {
		delete(n.cancel, a)
	}
}

// BeforeWorkerShutdown implements BeforeWorkerShutdowner.
func (m *ShutdownNotifications) BeforeWorkerShutdown(_ context.Context, w *Worker) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.of(w)
	n.stopping = true
	for _, cancel := range n.cancel {
		cancel(ErrShutdown)
	}
}

// AfterWorkerShutdown implements AfterWorkerShutdowner.
func (m *ShutdownNotifications) AfterWorkerShutdown(_ context.Context, w *Worker) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.workers, w)
}
