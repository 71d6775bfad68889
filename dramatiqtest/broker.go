package dramatiqtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/memory"
	"github.com/dramatiq-go/dramatiq/wire"
)

// Broker is a broker on a memory of its own that remembers what was sent. Its methods and the functions that take it fail
// the test rather than return errors; those that end it belong into the test's goroutine.
type Broker struct {
	*dramatiq.Broker

	t       testing.TB
	store   *store
	actors  dramatiq.Actors
	worker  dramatiq.WorkerConfig
	encoder wire.Encoder
}

// New returns an empty broker that is closed at the end of the test. RunUntilIdle and RunAll run the actors that have
// handlers; messages on queues of other actors are kept, for Sent, and not run. actors may be nil if nothing is to run.
func New(tb testing.TB, actors dramatiq.Actors, opts ...Option) *Broker {
	tb.Helper()
	var cfg config
	for _, opt := range opts {
		opt(&cfg)
	}
	if cfg.worker.Concurrency == 0 {
		cfg.worker.Concurrency = 1
	}
	if cfg.broker.Logger == nil {
		cfg.broker.Logger = Logger(tb)
	}
	s := &store{
		Driver:     memory.New(memory.Config{}),
		skipDelays: cfg.skipDelays,
		known:      map[string]bool{},
		changed:    make(chan struct{}),
	}
	if cfg.failOnError {
		f := &failures{t: tb}
		tb.Cleanup(f.close)
		s.dead = f.dead
		if cfg.broker.Middleware == nil {
			cfg.broker.Middleware = dramatiq.DefaultMiddleware()
		}
		cfg.broker.Middleware = slices.Insert(slices.Clone(cfg.broker.Middleware), 0, dramatiq.Middleware(f))
	}
	b, err := dramatiq.NewBroker(s, cfg.broker)
	if err != nil {
		tb.Fatalf("dramatiqtest: %v", err)
	}
	tb.Cleanup(func() {
		if err := b.Close(context.WithoutCancel(tb.Context())); err != nil {
			tb.Errorf("dramatiqtest: %v", err)
		}
	})
	encoder := cfg.broker.Encoder
	if encoder == nil {
		encoder = wire.JSON{}
	}
	return &Broker{Broker: b, t: tb, store: s, actors: actors, worker: cfg.worker, encoder: encoder}
}

// RunUntilIdle runs a worker until no message is waiting or running; what is not due yet stays delayed. If ctx ends before,
// the test fails and ends; then the worker has been stopped.
func (b *Broker) RunUntilIdle(ctx context.Context) {
	b.t.Helper()
	b.run(ctx, false)
}

// RunAll is RunUntilIdle that waits for delayed messages and retries, too. In a bubble of testing/synctest that takes no
// time; see the package documentation. Actors that send themselves another message each time never come to an end: give ctx a
// time limit, by the clock of the bubble, and stop them before it.
func (b *Broker) RunAll(ctx context.Context) {
	b.t.Helper()
	b.run(ctx, true)
}

func (b *Broker) run(ctx context.Context, delayed bool) {
	b.t.Helper()
	for {
		queues, err := b.runWorker(ctx, delayed)
		if err != nil {
			b.t.Fatalf("dramatiqtest: %v", err)
		}
		// Hooks that run after a settlement may have sent more.
		if left, _, err := b.store.left(context.WithoutCancel(ctx), queues, delayed); err == nil && left == "" {
			return
		}
	}
}

// runWorker runs one worker until nothing is left in its queues.
func (b *Broker) runWorker(ctx context.Context, delayed bool) (queues []string, err error) {
	w, err := dramatiq.NewWorker(b.Broker, b.actors, b.worker)
	if err != nil {
		return nil, err
	}
	if err := w.Start(ctx); err != nil {
		return nil, err
	}
	if err := b.wait(ctx, w, delayed); err != nil {
		return nil, stop(ctx, w, err)
	}
	if err := w.Drain(ctx); err != nil {
		return nil, stop(ctx, w, err)
	}
	return w.Queues(), nil
}

func (b *Broker) wait(ctx context.Context, w *dramatiq.Worker, delayed bool) error {
	for {
		left, changed, err := b.store.left(context.WithoutCancel(ctx), w.Queues(), delayed)
		switch {
		case err != nil || left == "":
			return err
		case ctx.Err() != nil:
			return fmt.Errorf("%w; %s", context.Cause(ctx), left)
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// stop stops a worker that could not finish, and returns why it could not.
func stop(ctx context.Context, w *dramatiq.Worker, cause error) error {
	const grace = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := w.Stop(ctx); err != nil {
		return fmt.Errorf("the messages did not come to an end: %w; %w", cause, err)
	}
	return fmt.Errorf("the messages did not come to an end: %w", cause)
}

// FailSends makes the broker refuse every message with err from now on, as if it could not be reached: that wraps
// dramatiq.ErrMaybeStored, for instance. Nil ends that. Follow-ups of running messages are not affected.
func (b *Broker) FailSends(err error) {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	b.store.refusal = err
}

// Messages returns what was sent, by the code under test, by handlers and by middleware, in the order in which it was stored.
// Retries are not listed: they are the same message.
func (b *Broker) Messages() []dramatiq.Outgoing {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	messages := slices.Clone(b.store.sent)
	for i := range messages {
		messages[i].Message = messages[i].Message.Clone()
	}
	return messages
}

// DeadLetter is a message that will not run again.
type DeadLetter struct {
	// Message is as it was after its last attempt; of one that cannot be decoded there is only the queue.
	Message *dramatiq.Envelope
	// Reason is one of dramatiq's, such as dramatiq.ReasonRetries.
	Reason string
	// Detail is text for people, such as the last error.
	Detail string
}

// String tells what died and why.
func (l DeadLetter) String() string {
	return fmt.Sprintf("%s: %s: %s", describe(l.Message), l.Reason, l.Detail)
}

// DeadLetters returns the dead letters of all queues, oldest first within each.
func (b *Broker) DeadLetters() []DeadLetter {
	b.t.Helper()
	b.store.mu.Lock()
	queues := slices.Clone(b.store.queues)
	b.store.mu.Unlock()
	var letters []DeadLetter
	for _, q := range queues {
		const all = 1 << 30
		dead, err := b.store.DeadLetters(context.WithoutCancel(b.t.Context()), q, "", all)
		if err != nil {
			b.t.Fatalf("dramatiqtest: %v", err)
		}
		for _, d := range dead {
			env, err := b.encoder.Decode(d.Body)
			if err != nil {
				env = &dramatiq.Envelope{Queue: q}
			}
			letters = append(letters, DeadLetter{Message: env, Reason: d.Death.Reason, Detail: d.Death.Detail})
		}
	}
	return letters
}

// describe shows a message in the form of a call.
func describe(m *dramatiq.Envelope) string {
	const brackets = 2
	var args []string
	if n := len(m.Args); n > brackets {
		args = append(args, string(m.Args[1:n-1]))
	}
	if len(m.Kwargs) > brackets {
		args = append(args, string(m.Kwargs))
	}
	return fmt.Sprintf("%s(%s)", m.Actor, strings.Join(args, ", "))
}

// failures is the middleware behind FailOnError.
type failures struct {
	mu     sync.Mutex // guards below
	t      testing.TB
	closed bool // the test has ended
}

// AfterProcess implements dramatiq.AfterProcessor.
func (f *failures) AfterProcess(_ context.Context, a *dramatiq.Attempt) {
	const retry = "Retry" // what a RetryAfter without a cause calls itself
	if err := a.Err(); err != nil && dramatiq.ErrorType(err) != retry {
		f.report("attempt %d at %s failed: %v", a.Number(), describe(a.Message()), err)
	}
}

func (f *failures) dead(m *dramatiq.Envelope, death driver.Death) {
	f.report("%s is dead: %s: %s", describe(m), death.Reason, death.Detail)
}

func (f *failures) report(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.t.Errorf("dramatiqtest: "+format, args...)
	}
}

func (f *failures) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
}
