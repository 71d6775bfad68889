package dramatiq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/wire"
)

// Defaults of WorkerConfig.
const (
	// DefaultConcurrencyPerCPU times GOMAXPROCS handlers run at once.
	DefaultConcurrencyPerCPU = 8
	// DefaultShutdownTimeout is how long Run lets handlers go on after it was told to stop, as in Python.
	DefaultShutdownTimeout = 10 * time.Minute
	// DefaultCrashLimit is how many workers a message may crash before it is dead-lettered.
	DefaultCrashLimit = 3
)

// hardStopGrace is how long handlers have to return after the shutdown timeout, when their contexts are cancelled.
const hardStopGrace = 5 * time.Second

// WorkerConfig configures a Worker. The zero value is what most programs want.
type WorkerConfig struct {
	// Queues are the queues to consume. The default is those of all actors that have a handler. A queue that no actor is
	// declared on is consumed too: any actor runs from any queue.
	Queues []string
	// Concurrency is how many handlers run at once. The default is DefaultConcurrencyPerCPU × GOMAXPROCS.
	Concurrency int
	// ShutdownTimeout is how long Run lets handlers go on after its context has ended. The default is
	// DefaultShutdownTimeout.
	ShutdownTimeout time.Duration
	// CrashLimit is how many workers a message may crash, by the count of brokers that keep one, before it is
	// dead-lettered. The first crash only makes suspects of all that the dead worker held and is not counted. The default
	// is DefaultCrashLimit; NoLimit switches it off.
	CrashLimit int
	// MaxStuck is how many handlers that ignore the end of their time limit are replaced by new slots. The default is
	// Concurrency.
	MaxStuck int
	// Logger receives what happens. The default is the broker's.
	Logger *slog.Logger
}

func (c WorkerConfig) withDefaults(b *Broker) WorkerConfig {
	c.Concurrency = cmp.Or(c.Concurrency, DefaultConcurrencyPerCPU*runtime.GOMAXPROCS(0))
	c.ShutdownTimeout = cmp.Or(c.ShutdownTimeout, DefaultShutdownTimeout)
	c.CrashLimit = cmp.Or(c.CrashLimit, DefaultCrashLimit)
	c.MaxStuck = cmp.Or(c.MaxStuck, c.Concurrency)
	c.Logger = cmp.Or(c.Logger, b.log)
	return c
}

func (c WorkerConfig) validate() error {
	switch {
	case c.Concurrency < 1:
		return fmt.Errorf("dramatiq: WorkerConfig.Concurrency is %d; it must be at least 1, or 0 for the default", c.Concurrency)
	case c.ShutdownTimeout < 0:
		return fmt.Errorf("dramatiq: WorkerConfig.ShutdownTimeout is %v; it must not be negative", c.ShutdownTimeout)
	case c.CrashLimit < NoLimit:
		return fmt.Errorf("dramatiq: WorkerConfig.CrashLimit is %d; it must be positive, or NoLimit", c.CrashLimit)
	case c.MaxStuck < 0:
		return fmt.Errorf("dramatiq: WorkerConfig.MaxStuck is %d; it must not be negative", c.MaxStuck)
	}
	return nil
}

// Worker runs the messages of a set of queues. It is started once, with Run or with Start.
type Worker struct {
	broker  *Broker
	actors  map[string]*definition
	cfg     WorkerConfig
	log     *slog.Logger
	handler Handler
	pool    *pool
	settler *settler

	handlers    context.Context //nolint:containedctx // the parent of all handlers' contexts, which outlives Run's
	stopFetch   context.CancelFunc
	stopHandler context.CancelCauseFunc
	fetchDone   chan struct{}
	done        chan struct{}
	fatal       chan error

	mu       sync.Mutex // guards below
	started  bool
	stopping bool
	hardStop bool
	consumer driver.Consumer
	ending   sync.Mutex // one shutdown at a time
	ended    bool
}

// NewWorker returns a worker for actors. It checks their declarations and starts nothing.
func NewWorker(b *Broker, actors Actors, cfg WorkerConfig) (*Worker, error) {
	if b == nil {
		return nil, fmt.Errorf("dramatiq: NewWorker: %w", ErrNoBroker)
	}
	cfg = cfg.withDefaults(b)
	w := &Worker{
		broker:    b,
		actors:    make(map[string]*definition, len(actors)),
		log:       cfg.Logger,
		fetchDone: make(chan struct{}),
		done:      make(chan struct{}),
		fatal:     make(chan error, 1),
	}
	errs := []error{cfg.validate()}
	var queues []string
	for _, a := range actors {
		if a == nil {
			errs = append(errs, fmt.Errorf("dramatiq: %w: one in the list is nil", ErrInvalidActor))
			continue
		}
		d := a.definition()
		errs = append(errs, w.addActor(d))
		if d.invoke != nil {
			queues = append(queues, d.queue)
		}
	}
	w.addCallbacks()
	if len(cfg.Queues) == 0 {
		cfg.Queues = queues
	}
	cfg.Queues = slices.Compact(slices.Sorted(slices.Values(cfg.Queues)))
	for _, q := range cfg.Queues {
		if err := wire.CheckQueueName(q); err != nil {
			errs = append(errs, fmt.Errorf("dramatiq: WorkerConfig.Queues: %w", err))
		}
	}
	if len(cfg.Queues) == 0 {
		errs = append(errs, errors.New("dramatiq: a worker needs an actor with a handler, or a queue to consume"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	w.cfg = cfg
	w.handler = b.hooks.wrapped(w.invoke)
	w.pool = newPool(cfg.Concurrency, cfg.MaxStuck, w.run)
	w.settler = newSettler(w)
	return w, nil
}

func (w *Worker) addActor(d *definition) error {
	if err := w.broker.hooks.check(d); err != nil {
		return err
	}
	if other, twice := w.actors[d.name]; twice && other != d {
		return fmt.Errorf("dramatiq: %w %q: another actor of this worker has the same name; "+
			"of an actor and the form that Handle returned only the latter belongs here", ErrInvalidActor, d.name)
	}
	w.actors[d.name] = d
	return nil
}

// addCallbacks makes known the actors that the options of others name.
func (w *Worker) addCallbacks() {
	for _, d := range slices.Collect(maps.Values(w.actors)) {
		for _, c := range d.callbacks {
			if _, known := w.actors[c.name]; !known {
				bare := *c
				bare.invoke = nil // named, not offered
				w.actors[c.name] = &bare
			}
		}
	}
}

// Broker returns the worker's broker.
func (w *Worker) Broker() *Broker { return w.broker }

// Queues returns the queues that the worker consumes.
func (w *Worker) Queues() []string { return slices.Clone(w.cfg.Queues) }

// Done returns a channel that is closed when the worker has stopped.
func (w *Worker) Done() <-chan struct{} { return w.done }

// Run starts the worker and runs it until ctx ends; then nothing new starts, handlers have ShutdownTimeout to return, and
// what was fetched and not begun is back on its queue when Run returns. An unreachable broker is waited for; one that
// refuses the configuration ends the run with an error that wraps ErrMisconfigured.
func (w *Worker) Run(ctx context.Context) error {
	if err := w.Start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // told to stop before it had started
		}
		return err
	}
	var fatal error
	select {
	case <-ctx.Done():
	case fatal = <-w.fatal:
	case <-w.done: // stopped from elsewhere
		return nil
	}
	base := context.WithoutCancel(ctx)
	drain, cancel := context.WithTimeout(base, w.cfg.ShutdownTimeout)
	err := w.Drain(drain)
	cancel()
	if err != nil {
		stop, cancel := context.WithTimeout(base, hardStopGrace)
		err = w.Stop(stop)
		cancel()
	}
	return errors.Join(fatal, err)
}

// Start starts the worker and returns. ctx carries values for handlers; its end does not stop the worker. A broker that
// refuses the configuration later is logged as an error; only Run also ends with it.
func (w *Worker) Start(ctx context.Context) error {
	w.mu.Lock()
	if w.started {
		w.mu.Unlock()
		return fmt.Errorf("dramatiq: start worker: %w", ErrStarted)
	}
	w.started = true
	w.mu.Unlock()

	for _, d := range w.actors {
		if err := w.broker.knowActor(ctx, d); err != nil {
			return err
		}
	}
	for _, h := range w.broker.hooks.beforeBoot {
		err := guard(ctx, w.log, h, w, BeforeWorkerBooter.BeforeWorkerBoot)
		if err != nil && !errors.Is(err, errHookPanicked) {
			return fmt.Errorf("dramatiq: start worker: middleware %T: %w", h, err)
		}
	}
	consumer, err := w.broker.driver.Consume(ctx, driver.ConsumerConfig{
		Queues:      w.cfg.Queues,
		Concurrency: w.cfg.Concurrency,
		Encoder:     w.broker.encoder,
		Logger:      w.log,
	})
	if err != nil {
		emit(ctx, w.log, w.broker.hooks.afterShutdown, w, AfterWorkerShutdowner.AfterWorkerShutdown)
		return fmt.Errorf("dramatiq: start worker: %w", err)
	}
	base := context.WithoutCancel(ctx)
	w.handlers, w.stopHandler = context.WithCancelCause(base)
	fetching, stop := context.WithCancel(base)
	w.mu.Lock()
	w.consumer, w.stopFetch = consumer, stop
	w.mu.Unlock()
	w.log.LogAttrs(ctx, slog.LevelInfo, "worker started",
		slog.Any(LogQueues, w.cfg.Queues), slog.Int(LogCount, w.cfg.Concurrency))
	go w.fetchLoop(fetching)
	emit(ctx, w.log, w.broker.hooks.afterBoot, w, AfterWorkerBooter.AfterWorkerBoot)
	return nil
}

// Drain stops the worker gently: nothing new starts, what was fetched and not begun goes back to its queue, and running
// handlers go on until they return or ctx ends. In the latter case the error wraps ErrAbandoned, and Stop must follow.
func (w *Worker) Drain(ctx context.Context) error { return w.shutdown(ctx, false) }

// Stop stops the worker hard: like Drain, but the contexts of running handlers are cancelled with the cause ErrShutdown.
// Messages of handlers that return an error because of it go back to their queue without counting an attempt. The worker
// is stopped when it returns; messages of handlers that are still running then will be redelivered, and the error wraps
// ErrAbandoned.
func (w *Worker) Stop(ctx context.Context) error { return w.shutdown(ctx, true) }

func (w *Worker) shutdown(ctx context.Context, hard bool) error {
	w.mu.Lock()
	if w.consumer == nil {
		w.mu.Unlock()
		return nil // never started
	}
	first := !w.stopping
	w.stopping = true
	w.hardStop = w.hardStop || hard
	w.mu.Unlock()

	if first {
		w.log.LogAttrs(ctx, slog.LevelInfo, "worker is stopping")
		emit(ctx, w.log, w.broker.hooks.beforeShutdown, w, BeforeWorkerShutdowner.BeforeWorkerShutdown)
		w.stopFetch()
	}
	if hard {
		w.stopHandler(ErrShutdown)
	}
	w.ending.Lock()
	defer w.ending.Unlock()
	if w.ended {
		return nil
	}
	<-w.fetchDone
	w.handBack(w.pool.close())
	running := w.pool.wait(ctx)
	unsettled := w.settler.wait(ctx)
	if running+unsettled > 0 && !hard {
		return fmt.Errorf("dramatiq: drain worker: %d %w, %d messages were unsettled: %w",
			running, ErrAbandoned, unsettled, ctx.Err())
	}
	return w.end(ctx, running, unsettled)
}

// end releases what a worker that has come to its end still holds.
func (w *Worker) end(ctx context.Context, running, unsettled int) error {
	w.ended = true
	w.stopHandler(ErrShutdown)
	w.settler.stop()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), hardStopGrace)
	defer cancel()
	err := w.consumer.Close(closing)
	emit(ctx, w.log, w.broker.hooks.afterShutdown, w, AfterWorkerShutdowner.AfterWorkerShutdown)
	w.log.LogAttrs(ctx, slog.LevelInfo, "worker stopped")
	close(w.done)
	if err != nil {
		err = fmt.Errorf("dramatiq: stop worker: %w", err)
	}
	if running+unsettled > 0 {
		err = errors.Join(err, fmt.Errorf("dramatiq: stop worker: %d %w, %d messages were unsettled; they will be redelivered",
			running, ErrAbandoned, unsettled))
	}
	return err
}

// stoppingHard reports whether handlers' contexts were cancelled because their time was over.
func (w *Worker) stoppingHard() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hardStop
}

// fail ends Run with an error that no waiting cures. A worker that was started otherwise has nobody to tell but the log.
func (w *Worker) fail(err error) {
	w.log.LogAttrs(w.handlers, slog.LevelError, "worker cannot consume", slog.Any(LogError, err))
	select {
	case w.fatal <- err:
	default: // it is failing already
	}
}
