package dramatiq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/dramatiq-go/dramatiq/wire"
)

// Middleware is a value that implements one or more of the hook interfaces below. Hooks are found once, when a broker is
// made; a value that hooks nothing is an error. They are called concurrently.
//
// Before hooks run in the order of the middleware, after hooks in reverse, so that what comes last in the list is closest
// to the handler. A hook that panics is logged and left out, as in Python (protocol 4.2).
type Middleware any

// Handler runs one attempt at a message.
type Handler func(ctx context.Context, a *Attempt) error

// The hooks.
type (
	// OptionDeclarer names the options that a middleware knows. An actor with an option that none knows is an error.
	OptionDeclarer interface{ Options() []string }

	// ActorDeclarer is told of each actor that a broker gets to know, once.
	ActorDeclarer interface {
		DeclareActor(ctx context.Context, a AnyActor)
	}
	// QueueDeclarer is told of each queue that a broker gets to know, once.
	QueueDeclarer interface {
		DeclareQueue(ctx context.Context, queue string)
	}

	// BeforeEnqueuer sees each message on its way to the broker, retries and other follow-ups too. It may change the
	// message's options. An error refuses the message.
	BeforeEnqueuer interface {
		BeforeEnqueue(ctx context.Context, out *Outgoing) error
	}
	// AfterEnqueuer sees each message that the broker has accepted.
	AfterEnqueuer interface {
		AfterEnqueue(ctx context.Context, out *Outgoing)
	}
	// BeforeDelayer sees each message that is about to be held back until it is due, after BeforeEnqueue.
	BeforeDelayer interface {
		BeforeDelay(ctx context.Context, out *Outgoing)
	}

	// BeforeProcessor is called before a message runs. ErrSkip leaves it unrun and the remaining before hooks uncalled; any
	// other error is the attempt's, as if the handler had returned it.
	BeforeProcessor interface {
		BeforeProcess(ctx context.Context, a *Attempt) error
	}
	// Wrapper wraps the handler of every attempt. The first middleware is outermost. Before hooks have run by then.
	Wrapper interface{ Wrap(next Handler) Handler }
	// AfterProcessor is called after a message ran, with success or an error.
	AfterProcessor interface {
		AfterProcess(ctx context.Context, a *Attempt)
	}
	// AfterSkipper is called instead of AfterProcessor for a message that was skipped, and for one that was interrupted by
	// the end of its worker and goes back to its queue; the latter has an error that wraps ErrShutdown.
	AfterSkipper interface {
		AfterSkip(ctx context.Context, a *Attempt)
	}

	// BeforeAcker is called before a message is acknowledged.
	BeforeAcker interface {
		BeforeAck(ctx context.Context, a *Attempt)
	}
	// AfterAcker is called after a message was acknowledged and its follow-ups were stored.
	AfterAcker interface {
		AfterAck(ctx context.Context, a *Attempt)
	}
	// BeforeNacker is called before a message is dead-lettered.
	BeforeNacker interface {
		BeforeNack(ctx context.Context, a *Attempt)
	}
	// AfterNacker is called after a message was dead-lettered.
	AfterNacker interface {
		AfterNack(ctx context.Context, a *Attempt)
	}

	// BeforeWorkerBooter is called before a worker consumes anything. An error keeps it from starting.
	BeforeWorkerBooter interface {
		BeforeWorkerBoot(ctx context.Context, w *Worker) error
	}
	// AfterWorkerBooter is called when a worker has started.
	AfterWorkerBooter interface {
		AfterWorkerBoot(ctx context.Context, w *Worker)
	}
	// BeforeWorkerShutdowner is called when a worker begins to stop.
	BeforeWorkerShutdowner interface {
		BeforeWorkerShutdown(ctx context.Context, w *Worker)
	}
	// AfterWorkerShutdowner is called when a worker has stopped.
	AfterWorkerShutdowner interface {
		AfterWorkerShutdown(ctx context.Context, w *Worker)
	}
)

// DefaultMiddleware returns what a broker uses if nothing else is said, in Python's order (protocol 4.3): AgeLimits,
// TimeLimits, ShutdownNotifications, Callbacks, Pipelines, Retries. To add to it, append.
func DefaultMiddleware() []Middleware {
	return []Middleware{
		&AgeLimits{}, &TimeLimits{}, &ShutdownNotifications{}, &Callbacks{}, &Pipelines{}, &Retries{},
	}
}

// hooks holds the hooks of a list of middleware, each kind in the order in which it is called.
type hooks struct {
	log *slog.Logger

	options        map[string]bool
	declareActor   []ActorDeclarer
	declareQueue   []QueueDeclarer
	beforeEnqueue  []BeforeEnqueuer
	afterEnqueue   []AfterEnqueuer
	beforeDelay    []BeforeDelayer
	beforeProcess  []BeforeProcessor
	wrap           []Wrapper
	afterProcess   []AfterProcessor
	afterSkip      []AfterSkipper
	beforeAck      []BeforeAcker
	afterAck       []AfterAcker
	beforeNack     []BeforeNacker
	afterNack      []AfterNacker
	beforeBoot     []BeforeWorkerBooter
	afterBoot      []AfterWorkerBooter
	beforeShutdown []BeforeWorkerShutdowner
	afterShutdown  []AfterWorkerShutdowner
}

func newHooks(list []Middleware, log *slog.Logger) (*hooks, error) {
	h := &hooks{log: log, options: map[string]bool{}}
	for _, m := range list {
		if !h.add(m) {
			return nil, fmt.Errorf("dramatiq: middleware %T implements no hook; was a pointer meant?", m)
		}
	}
	slices.Reverse(h.afterEnqueue)
	slices.Reverse(h.wrap) // the innermost is applied first
	slices.Reverse(h.afterProcess)
	slices.Reverse(h.afterSkip)
	slices.Reverse(h.afterAck)
	slices.Reverse(h.afterNack)
	slices.Reverse(h.afterBoot)
	slices.Reverse(h.afterShutdown)
	return h, nil
}

// add sorts a middleware's hooks in and reports whether it has any.
func (h *hooks) add(m Middleware) bool {
	found := false
	if d, ok := m.(OptionDeclarer); ok {
		found = true
		for _, name := range d.Options() {
			h.options[name] = true
		}
	}
	found = hook(&h.declareActor, m) || found
	found = hook(&h.declareQueue, m) || found
	found = hook(&h.beforeEnqueue, m) || found
	found = hook(&h.afterEnqueue, m) || found
	found = hook(&h.beforeDelay, m) || found
	found = hook(&h.beforeProcess, m) || found
	found = hook(&h.wrap, m) || found
	found = hook(&h.afterProcess, m) || found
	found = hook(&h.afterSkip, m) || found
	found = hook(&h.beforeAck, m) || found
	found = hook(&h.afterAck, m) || found
	found = hook(&h.beforeNack, m) || found
	found = hook(&h.afterNack, m) || found
	found = hook(&h.beforeBoot, m) || found
	found = hook(&h.afterBoot, m) || found
	found = hook(&h.beforeShutdown, m) || found
	return hook(&h.afterShutdown, m) || found
}

func hook[H any](list *[]H, m Middleware) bool {
	h, ok := m.(H)
	if ok {
		*list = append(*list, h)
	}
	return ok
}

// errHookPanicked stands for a hook's panic, which is logged where it happens.
var errHookPanicked = errors.New("a hook panicked")

// guard calls a hook. A panic is logged and becomes errHookPanicked.
func guard[H, X any](ctx context.Context, log *slog.Logger, hook H, x X, call func(H, context.Context, X) error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			p := newPanicError(value)
			log.LogAttrs(ctx, slog.LevelError, "middleware hook panicked",
				slog.String(LogHook, fmt.Sprintf("%T", hook)), slog.Any(LogError, p), slog.String(LogStack, p.Stack))
			err = errHookPanicked
		}
	}()
	return call(hook, ctx, x)
}

// emit calls hooks that cannot fail. It reports whether one of them panicked.
func emit[H, X any](ctx context.Context, log *slog.Logger, list []H, x X, call func(H, context.Context, X)) (panicked bool) {
	for _, h := range list {
		err := guard(ctx, log, h, x, func(h H, ctx context.Context, x X) error {
			call(h, ctx, x)
			return nil
		})
		panicked = panicked || err != nil
	}
	return panicked
}

// enqueue calls the hooks that come before a message is stored. An error refuses the message.
func (h *hooks) enqueue(ctx context.Context, out *Outgoing) error {
	for _, hook := range h.beforeEnqueue {
		err := guard(ctx, h.log, hook, out, BeforeEnqueuer.BeforeEnqueue)
		if err != nil && !errors.Is(err, errHookPanicked) {
			return fmt.Errorf("refused by middleware %T: %w", hook, err)
		}
	}
	if !out.Due.IsZero() {
		emit(ctx, h.log, h.beforeDelay, out, BeforeDelayer.BeforeDelay)
	}
	return nil
}

// before calls the hooks that come before a message runs, up to the first that ends them.
func (h *hooks) before(ctx context.Context, a *Attempt) error {
	for _, hook := range h.beforeProcess {
		err := guard(ctx, h.log, hook, a, BeforeProcessor.BeforeProcess)
		if err != nil && !errors.Is(err, errHookPanicked) {
			return err
		}
	}
	return nil
}

// after calls the hooks that come after a message ran or was skipped.
func (h *hooks) after(ctx context.Context, a *Attempt, skipped bool) (panicked bool) {
	if skipped {
		return emit(ctx, h.log, h.afterSkip, a, AfterSkipper.AfterSkip)
	}
	return emit(ctx, h.log, h.afterProcess, a, AfterProcessor.AfterProcess)
}

// wrapped returns the handler that every attempt goes through.
func (h *hooks) wrapped(handler Handler) Handler {
	for _, w := range h.wrap {
		handler = w.Wrap(handler)
	}
	return handler
}

// check refuses an actor whose options no middleware knows.
func (h *hooks) check(d *definition) error {
	if d.err != nil {
		return d.err
	}
	for name := range d.options {
		if !h.options[name] {
			return fmt.Errorf("dramatiq: %w %q: %w %s: no middleware of the broker knows it; add the one that does to "+
				"BrokerConfig.Middleware", ErrInvalidActor, d.name, ErrInvalidOption, name)
		}
	}
	return wire.CheckQueueName(d.queue)
}
