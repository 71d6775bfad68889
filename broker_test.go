package dramatiq_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/memory"
)

// hookedDriver is a memory with a say in what is stored.
type hookedDriver struct {
	*memory.Driver
	enqueue func(ctx context.Context, messages []driver.Message) []error
	declare func(ctx context.Context, queues []string) error
}

func (d *hookedDriver) Enqueue(ctx context.Context, messages []driver.Message) []error {
	if d.enqueue != nil {
		return d.enqueue(ctx, messages)
	}
	return d.Driver.Enqueue(ctx, messages)
}

func (d *hookedDriver) Declare(ctx context.Context, queues []string) error {
	if d.declare != nil {
		return d.declare(ctx, queues)
	}
	return d.Driver.Declare(ctx, queues)
}

// newHookedBroker returns a broker on d, whose memory it makes.
func newHookedBroker(t *testing.T, d *hookedDriver, middleware ...dramatiq.Middleware) *dramatiq.Broker {
	t.Helper()
	d.Driver = memory.New(memory.Config{})
	b, err := dramatiq.NewBroker(d, dramatiq.BrokerConfig{
		Middleware: append(dramatiq.DefaultMiddleware(), middleware...), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestNewBroker_BadConfigs(t *testing.T) {
	t.Parallel()
	store := memory.New(memory.Config{})
	tests := map[string]struct {
		driver driver.Driver
		cfg    dramatiq.BrokerConfig
		says   string
	}{
		"no driver":          {nil, dramatiq.BrokerConfig{}, "NewBroker needs a driver; open one"},
		"limit below zero":   {store, dramatiq.BrokerConfig{MaxMessageBytes: -1}, "MaxMessageBytes is -1"},
		"hooks nothing":      {store, dramatiq.BrokerConfig{Middleware: []dramatiq.Middleware{struct{}{}}}, "middleware struct {} implements no hook"},
		"pointer was meant":  {store, dramatiq.BrokerConfig{Middleware: []dramatiq.Middleware{dramatiq.Retries{}}}, "middleware dramatiq.Retries implements no hook; was a pointer meant?"},
		"nil as middleware":  {store, dramatiq.BrokerConfig{Middleware: []dramatiq.Middleware{nil}}, "implements no hook"},
		"one good, one text": {store, dramatiq.BrokerConfig{Middleware: []dramatiq.Middleware{&dramatiq.Retries{}, "x"}}, "middleware string"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := dramatiq.NewBroker(test.driver, test.cfg); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("the error is %v, want %q", err, test.says)
			}
		})
	}
}

// recorder is middleware with all hooks that writes them down, in one list for messages, one for workers.
type recorder struct {
	name string
	log  *recording
}

type recording struct {
	mu       sync.Mutex // guards below
	messages []string
	workers  []string
	declared []string
}

func (r *recorder) note(list *[]string, event string) {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	*list = append(*list, r.name+" "+event)
}

func (r *recorder) DeclareActor(_ context.Context, a dramatiq.AnyActor) {
	r.note(&r.log.declared, "actor "+a.Name())
}

func (r *recorder) DeclareQueue(_ context.Context, q string) { r.note(&r.log.declared, "queue "+q) }

func (r *recorder) BeforeEnqueue(context.Context, *dramatiq.Outgoing) error {
	r.note(&r.log.messages, "before enqueue")
	return nil
}

func (r *recorder) AfterEnqueue(context.Context, *dramatiq.Outgoing) {
	r.note(&r.log.messages, "after enqueue")
}

func (r *recorder) BeforeDelay(context.Context, *dramatiq.Outgoing) {
	r.note(&r.log.messages, "before delay")
}

func (r *recorder) BeforeProcess(_ context.Context, a *dramatiq.Attempt) error {
	r.note(&r.log.messages, "before process")
	if a.ActorName() == "skipped" {
		return fmt.Errorf("not today: %w", dramatiq.ErrSkip)
	}
	return nil
}

func (r *recorder) Wrap(next dramatiq.Handler) dramatiq.Handler {
	return func(ctx context.Context, a *dramatiq.Attempt) error {
		r.note(&r.log.messages, "wraps")
		err := next(ctx, a)
		r.note(&r.log.messages, "wrapped")
		return err
	}
}

func (r *recorder) AfterProcess(_ context.Context, a *dramatiq.Attempt) {
	r.note(&r.log.messages, fmt.Sprintf("after process: %v %t", a.Err(), a.Failed()))
}

func (r *recorder) AfterSkip(context.Context, *dramatiq.Attempt) {
	r.note(&r.log.messages, "after skip")
}

func (r *recorder) BeforeAck(context.Context, *dramatiq.Attempt) {
	r.note(&r.log.messages, "before ack")
}

func (r *recorder) AfterAck(context.Context, *dramatiq.Attempt) { r.note(&r.log.messages, "after ack") }

func (r *recorder) BeforeNack(context.Context, *dramatiq.Attempt) {
	r.note(&r.log.messages, "before nack")
}

func (r *recorder) AfterNack(context.Context, *dramatiq.Attempt) {
	r.note(&r.log.messages, "after nack")
}

func (r *recorder) BeforeWorkerBoot(context.Context, *dramatiq.Worker) error {
	r.note(&r.log.workers, "before boot")
	return nil
}

func (r *recorder) AfterWorkerBoot(context.Context, *dramatiq.Worker) {
	r.note(&r.log.workers, "after boot")
}

func (r *recorder) BeforeWorkerShutdown(context.Context, *dramatiq.Worker) {
	r.note(&r.log.workers, "before shutdown")
}

func (r *recorder) AfterWorkerShutdown(context.Context, *dramatiq.Worker) {
	r.note(&r.log.workers, "after shutdown")
}

// take returns a list's events, and clears it.
func (l *recording) take(list *[]string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	events := *list
	*list = nil
	return events
}

func wantEvents(t *testing.T, when string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: the hooks were\n\t%s\nwant\n\t%s", when, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// Before hooks run in order and after hooks in reverse (protocol 4.3). A is the first middleware and Z the last; Retries is
// between them.
func TestBroker_HookOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &recording{}
		b, err := dramatiq.NewBroker(memory.New(memory.Config{}), dramatiq.BrokerConfig{
			Middleware: []dramatiq.Middleware{&recorder{"A", log}, &dramatiq.Retries{}, &recorder{"Z", log}},
			Logger:     slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		runs := 0
		flaky := dramatiq.NewActor("flaky", func(context.Context, int) error {
			if runs++; runs == 1 {
				return errors.New("boom")
			}
			return nil
		}, dramatiq.Queue("q"))
		fatal := dramatiq.NewActor("fatal", func(context.Context, int) error {
			return dramatiq.Permanent(errors.New("boom"))
		}, dramatiq.Queue("q"))
		skipped := dramatiq.NewActor("skipped", doNothing[int], dramatiq.Queue("q"))

		mustSend(t, b, flaky, 1, dramatiq.Delay(time.Hour))
		wantEvents(t, "declared by sending", log.take(&log.declared), "A actor flaky", "Z actor flaky", "A queue q", "Z queue q")
		wantEvents(t, "sending", log.take(&log.messages),
			"A before enqueue", "Z before enqueue", "A before delay", "Z before delay", "Z after enqueue", "A after enqueue")

		w := startWorker(t, b, dramatiq.WorkerConfig{}, flaky, fatal, skipped)
		synctest.Wait()
		wantEvents(t, "boot", log.take(&log.workers), "A before boot", "Z before boot", "Z after boot", "A after boot")
		declared := log.take(&log.declared)
		slices.Sort(declared)
		wantEvents(t, "declared by the worker", declared, "A actor fatal", "A actor skipped", "Z actor fatal", "Z actor skipped")

		time.Sleep(time.Hour)
		synctest.Wait()
		wantEvents(t, "the attempt that fails", log.take(&log.messages),
			"A before process", "Z before process", "A wraps", "Z wraps", "Z wrapped", "A wrapped",
			"Z after process: boom false",
			"A before enqueue", "Z before enqueue", "A before delay", "Z before delay", // the retry
			"A after process: boom false",
			"A before ack", "Z before ack",
			"Z after enqueue", "A after enqueue", // stored together with
			"Z after ack", "A after ack")

		time.Sleep(time.Hour)
		synctest.Wait()
		wantEvents(t, "the retry", log.take(&log.messages),
			"A before process", "Z before process", "A wraps", "Z wraps", "Z wrapped", "A wrapped",
			"Z after process: <nil> false", "A after process: <nil> false",
			"A before ack", "Z before ack", "Z after ack", "A after ack")

		// The worker runs what follows while Send is still calling its after hooks.
		ofWorker := func(events []string) []string {
			return slices.DeleteFunc(events, func(e string) bool { return strings.HasSuffix(e, "after enqueue") })
		}
		mustSend(t, b, fatal, 1)
		synctest.Wait()
		events := ofWorker(log.take(&log.messages))
		at := slices.Index(events, "Z after process: boom false")
		wantEvents(t, "what is not retried", events[max(at, 0):],
			"Z after process: boom false", "A after process: boom true",
			"A before nack", "Z before nack", "Z after nack", "A after nack")

		mustSend(t, b, skipped, 1)
		synctest.Wait()
		events = ofWorker(log.take(&log.messages))
		at = slices.Index(events, "A before process")
		wantEvents(t, "what is skipped", events[max(at, 0):],
			"A before process", "Z after skip", "A after skip", "A before ack", "Z before ack", "Z after ack", "A after ack")

		if err := w.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		wantEvents(t, "shutdown", log.take(&log.workers), "A before shutdown", "Z before shutdown", "Z after shutdown", "A after shutdown")
	})
}

// An actor is told once, although its contract and its bound form are two values.
func TestBroker_DeclaresAnActorOnce(t *testing.T) {
	t.Parallel()
	log := &recording{}
	b, _ := newTestBroker(t, &recorder{"A", log})
	contract := dramatiq.Declare[int]("a")
	mustSend(t, b, contract, 1)
	startWorker(t, b, dramatiq.WorkerConfig{}, contract.Handle(doNothing[int]))
	log.mu.Lock()
	defer log.mu.Unlock()
	events := slices.DeleteFunc(slices.Clone(log.declared), func(e string) bool { return e != "A actor a" })
	wantEvents(t, "declared", events, "A actor a")
}

// beforeEnqueue is middleware that is one function.
type beforeEnqueue func(out *dramatiq.Outgoing) error

func (f beforeEnqueue) BeforeEnqueue(_ context.Context, out *dramatiq.Outgoing) error { return f(out) }

func TestBroker_BeforeEnqueueRefuses(t *testing.T) {
	t.Parallel()
	errNo := errors.New("not on Sundays")
	log := &recording{}
	b, store := newTestBroker(t, &recorder{"A", log}, beforeEnqueue(func(out *dramatiq.Outgoing) error {
		out.Message.Options.SetString("x-seen", "yes")
		if string(out.Message.Args) == "[2]" {
			return errNo
		}
		return nil
	}), &recorder{"Z", log})
	a := dramatiq.Declare[int]("a")
	messages, err := a.SendMany(t.Context(), b, []int{1, 2, 3})
	var some *dramatiq.SendError
	if !errors.As(err, &some) || some.Errs[0] != nil || !errors.Is(some.Errs[1], errNo) || some.Errs[2] != nil {
		t.Fatalf("the error is %v, want one for the second message", err)
	}
	if want := "refused by middleware dramatiq_test.beforeEnqueue: not on Sundays"; !strings.Contains(err.Error(), want) {
		t.Errorf("the error is %v, want %q", err, want)
	}
	wantStats(t, store, "default", [4]int{2, 0, 0, 0})
	wantEvents(t, "sending", log.messages,
		"A before enqueue", "Z before enqueue", "A before enqueue", "A before enqueue", "Z before enqueue",
		"Z after enqueue", "A after enqueue", "Z after enqueue", "A after enqueue")
	if n := messages[0].Envelope().Options.Len(); n != 0 {
		t.Error("the hook has changed the sender's message, which may be sent again")
	}
}

// panics is middleware that panics in one of its hooks.
type panics struct{ in string }

func (p panics) hook(name string) {
	if p.in == name {
		panic("boom in " + name)
	}
}

func (p panics) DeclareActor(context.Context, dramatiq.AnyActor) { p.hook("DeclareActor") }

func (p panics) DeclareQueue(context.Context, string) { p.hook("DeclareQueue") }

func (p panics) BeforeEnqueue(context.Context, *dramatiq.Outgoing) error {
	p.hook("BeforeEnqueue")
	return nil
}

func (p panics) AfterEnqueue(context.Context, *dramatiq.Outgoing) { p.hook("AfterEnqueue") }

func (p panics) BeforeDelay(context.Context, *dramatiq.Outgoing) { p.hook("BeforeDelay") }

func (p panics) BeforeProcess(context.Context, *dramatiq.Attempt) error {
	p.hook("BeforeProcess")
	return nil
}

func (p panics) AfterProcess(context.Context, *dramatiq.Attempt) { p.hook("AfterProcess") }

func (p panics) BeforeAck(context.Context, *dramatiq.Attempt) { p.hook("BeforeAck") }

func (p panics) AfterAck(context.Context, *dramatiq.Attempt) { p.hook("AfterAck") }

func (p panics) BeforeWorkerBoot(context.Context, *dramatiq.Worker) error {
	p.hook("BeforeWorkerBoot")
	return nil
}

func (p panics) AfterWorkerBoot(context.Context, *dramatiq.Worker) { p.hook("AfterWorkerBoot") }

func (p panics) BeforeWorkerShutdown(context.Context, *dramatiq.Worker) {
	p.hook("BeforeWorkerShutdown")
}

func (p panics) AfterWorkerShutdown(context.Context, *dramatiq.Worker) { p.hook("AfterWorkerShutdown") }

// lockedBuffer is a buffer for concurrent use.
type lockedBuffer struct {
	mu sync.Mutex // guards below
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// runWithPanickingHook sends one message to a worker of a broker with a hook that panics. It returns whether it ran, and
// the log.
func runWithPanickingHook(t *testing.T, hook string) (ran bool, text string) {
	t.Helper()
	var log lockedBuffer
	b, err := dramatiq.NewBroker(memory.New(memory.Config{}), dramatiq.BrokerConfig{
		Middleware: append(dramatiq.DefaultMiddleware(), panics{hook}),
		Logger:     slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	a := dramatiq.NewActor("a", func(context.Context, int) error {
		ran = true
		return nil
	})
	mustSend(t, b, a, 1, dramatiq.Delay(time.Second))
	w, err := dramatiq.NewWorker(b, dramatiq.Actors{a}, dramatiq.WorkerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	synctest.Wait()
	if err := w.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	return ran, log.String()
}

func TestBroker_PanickingHookIsLoggedAndLeftOut(t *testing.T) {
	t.Parallel()
	for _, hook := range []string{
		"DeclareActor", "DeclareQueue", "BeforeEnqueue", "AfterEnqueue", "BeforeDelay", "BeforeProcess", "AfterProcess",
		"BeforeAck", "AfterAck", "AfterWorkerBoot", "BeforeWorkerShutdown", "AfterWorkerShutdown",
	} {
		t.Run(hook, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ran, log := runWithPanickingHook(t, hook)
				if !ran {
					t.Error("the message did not run")
				}
				for _, part := range []string{"middleware hook panicked", "panic: boom in " + hook, "dramatiq_test.panics.hook"} {
					if !strings.Contains(log, part) {
						t.Errorf("the log does not say %q:\n%s", part, log)
					}
				}
			})
		})
	}
}

func TestBroker_PanickingBootHookIsLoggedAndLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if ran, _ := runWithPanickingHook(t, "BeforeWorkerBoot"); !ran {
			t.Error("the message did not run")
		}
	})
}

// What fails while a hook is broken may not have been seen by Retries: it must not just be acknowledged.
func TestBroker_FailureBesideAPanickingHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, store := newTestBroker(t, panics{"AfterProcess"})
		a := dramatiq.NewActor("a", func(context.Context, int) error { return errors.New("boom") }, dramatiq.Queue("q"))
		startWorker(t, b, dramatiq.WorkerConfig{}, a)
		mustSend(t, b, a, 1)
		synctest.Wait()
		wantDeath(t, store, "q", dramatiq.ReasonMiddleware)
	})
}

func TestBroker_MaxMessageBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New(memory.Config{})
		open := func(limit int) *dramatiq.Broker {
			b, err := dramatiq.NewBroker(store.Share(), dramatiq.BrokerConfig{
				MaxMessageBytes: limit, Logger: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		ran := 0
		a := dramatiq.NewActor("a", func(context.Context, string) error {
			ran++
			return nil
		})
		small, large := open(1000), open(0)
		_, err := a.SendMany(t.Context(), small, []string{strings.Repeat("x", 500), strings.Repeat("x", 1000)})
		errs := dramatiq.SendErrors(err, 2)
		if errs[0] != nil || !errors.Is(errs[1], dramatiq.ErrTooLarge) || !strings.Contains(errs[1].Error(), "MaxMessageBytes is 1000") {
			t.Errorf("the errors are %v", errs)
		}
		if err := small.Send(t.Context(), a.Message("x", dramatiq.OnSuccess(dramatiq.Declare[int](strings.Repeat("y", 1000))))); !errors.Is(err, dramatiq.ErrTooLarge) {
			t.Errorf("options count, too; the error is %v", err)
		}
		mustSend(t, large, a, strings.Repeat("x", 1000))
		if _, err := a.Send(t.Context(), large, strings.Repeat("x", dramatiq.DefaultMaxMessageBytes)); !errors.Is(err, dramatiq.ErrTooLarge) {
			t.Errorf("the error beyond the default is %v", err)
		}
		startWorker(t, small, dramatiq.WorkerConfig{}, a)
		synctest.Wait()
		if ran != 1 {
			t.Errorf("%d messages ran, want 1", ran)
		}
		wantDeath(t, store, "default", dramatiq.ReasonTooLarge)
	})
}

// gate is a store function that holds each round trip until it is let through.
type gate struct {
	trips chan gated
}

type gated struct {
	args string
	let  chan []error
}

func (g *gate) enqueue(_ context.Context, messages []driver.Message) []error {
	var args []string
	for _, m := range messages {
		args = append(args, string(m.Envelope.Args))
	}
	trip := gated{strings.Join(args, ""), make(chan []error)}
	g.trips <- trip
	return <-trip.let
}

// Concurrent sends share a round trip; what goes wrong for one of them is no other's.
func TestBroker_ConcurrentSendsShareRoundTrips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{make(chan gated, 10)}
		b := newHookedBroker(t, &hookedDriver{enqueue: g.enqueue})
		a := dramatiq.Declare[int]("a")
		send := func(ctx context.Context, n int) <-chan error {
			sent := make(chan error, 1)
			go func() {
				_, err := a.Send(ctx, b, n)
				sent <- err
			}()
			synctest.Wait()
			return sent
		}
		boom := errors.New("disk full")
		waits, cancelWaiting := context.WithCancel(t.Context())
		flies, cancelFlying := context.WithCancel(t.Context())

		first := send(t.Context(), 1)
		good, bad := send(t.Context(), 2), send(t.Context(), 3)
		never, maybe := send(waits, 4), send(flies, 5)
		many := make(chan error, 1)
		go func() {
			_, err := a.SendMany(t.Context(), b, []int{6, 7})
			many <- err
		}()
		synctest.Wait()
		cancelWaiting()
		if err := <-never; !errors.Is(err, context.Canceled) || errors.Is(err, dramatiq.ErrMaybeStored) {
			t.Errorf("who was cancelled while waiting got %v", err)
		}
		trip := <-g.trips
		if trip.args != "[1]" {
			t.Errorf("the first round trip has %s", trip.args)
		}
		trip.let <- nil
		if err := <-first; err != nil {
			t.Error(err)
		}
		trip = <-g.trips
		if trip.args != "[2][3][5][6][7]" {
			t.Errorf("the second round trip has %s", trip.args)
		}
		cancelFlying()
		if err := <-maybe; !errors.Is(err, context.Canceled) || !errors.Is(err, dramatiq.ErrMaybeStored) {
			t.Errorf("who was cancelled under way got %v", err)
		}
		trip.let <- []error{nil, boom, nil, nil, boom}
		if err := <-good; err != nil {
			t.Errorf("the good one got %v", err)
		}
		if err := <-bad; !errors.Is(err, boom) || !strings.Contains(err.Error(), `send to actor "a" on queue "default"`) {
			t.Errorf("the bad one got %v", err)
		}
		if errs := dramatiq.SendErrors(<-many, 2); errs[0] != nil || !errors.Is(errs[1], boom) {
			t.Errorf("the two got %v", errs)
		}
		synctest.Wait()
		if len(g.trips) != 0 {
			t.Error("there was another round trip")
		}
	})
}

// Sends that are refused before they are stored cost no round trip, and do not keep others from theirs.
func TestBroker_BadEntryFailsAlone(t *testing.T) {
	t.Parallel()
	trips := 0
	d := &hookedDriver{}
	b := newHookedBroker(t, d)
	d.enqueue = func(ctx context.Context, messages []driver.Message) []error {
		trips++
		return d.Driver.Enqueue(ctx, messages)
	}
	a := dramatiq.Declare[any]("a")
	bad := a.Message(func() {})
	if err := b.Send(t.Context(), bad); !errors.Is(err, dramatiq.ErrEncode) || trips != 0 {
		t.Errorf("the error is %v after %d round trips", err, trips)
	}
	err := b.Send(t.Context(), bad, a.Message(1), dramatiq.Declare[int]("").Message(1))
	errs := dramatiq.SendErrors(err, 3)
	if !errors.Is(errs[0], dramatiq.ErrEncode) || errs[1] != nil || !errors.Is(errs[2], dramatiq.ErrInvalidActor) || trips != 1 {
		t.Errorf("the errors are %v after %d round trips", errs, trips)
	}
	if err := b.Send(t.Context()); err != nil || trips != 1 {
		t.Errorf("sending nothing: %v after %d round trips", err, trips)
	}
	wantStats(t, d.Driver, "default", [4]int{1, 0, 0, 0})
}

func TestBroker_ManySenders(t *testing.T) {
	t.Parallel()
	b, store := newTestBroker(t)
	a := dramatiq.Declare[int]("a")
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for i := range 20 {
				if _, err := a.SendMany(t.Context(), b, []int{i, i}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	wantStats(t, store, "default", [4]int{2000, 0, 0, 0})
}

func TestBroker_Using(t *testing.T) {
	t.Parallel()
	log := &recording{}
	d := &hookedDriver{}
	b := newHookedBroker(t, d, &recorder{"A", log})
	boom := errors.New("transaction is over")
	var taken []string
	tx := enqueuer(func(messages []driver.Message) []error {
		errs := make([]error, len(messages))
		for i, m := range messages {
			taken = append(taken, string(m.Envelope.Args))
			if string(m.Envelope.Args) == "[2]" {
				errs[i] = boom
			}
		}
		return errs
	})
	a := dramatiq.Declare[int]("a")
	s := b.Using(tx)
	_, err := a.SendMany(t.Context(), s, []int{1, 2})
	if errs := dramatiq.SendErrors(err, 2); errs[0] != nil || !errors.Is(errs[1], boom) {
		t.Errorf("the errors are %v", errs)
	}
	if _, err := dramatiq.Declare[int]("").Send(t.Context(), s, 3); !errors.Is(err, dramatiq.ErrInvalidActor) {
		t.Errorf("the error is %v, want ErrInvalidActor", err)
	}
	wantEvents(t, "through the transaction", taken, "[1]", "[2]")
	wantEvents(t, "through the transaction", log.messages, "A before enqueue", "A before enqueue", "A after enqueue")
	wantStats(t, d.Driver, "default", [4]int{})
}

type enqueuer func(messages []driver.Message) []error

func (e enqueuer) Enqueue(_ context.Context, messages []driver.Message) []error { return e(messages) }

// BrokerFrom gives nil where there is no handler, and whatever is sent through that is an error.
func TestBroker_UsingOfNil(t *testing.T) {
	t.Parallel()
	defer nobodyPanics(t, "Send")
	s := dramatiq.BrokerFrom(t.Context()).Using(memory.New(memory.Config{}))
	if _, err := dramatiq.Declare[int]("a").Send(t.Context(), s, 1); !errors.Is(err, dramatiq.ErrNoBroker) {
		t.Errorf("the error is %v, want ErrNoBroker", err)
	}
}

// A queue that cannot be declared is an error of the send, and tried again by the next.
func TestBroker_DeclaresQueuesOnce(t *testing.T) {
	t.Parallel()
	boom := errors.New("no route to host")
	declared := map[string]int{}
	down := true
	b := newHookedBroker(t, &hookedDriver{declare: func(_ context.Context, queues []string) error {
		for _, q := range queues {
			declared[q]++
		}
		if down {
			return boom
		}
		return nil
	}})
	one, two := dramatiq.Declare[int]("a", dramatiq.Queue("one")), dramatiq.Declare[int]("b", dramatiq.Queue("two"))
	if _, err := one.SendMany(t.Context(), b, []int{1, 2, 3}); !errors.Is(err, boom) || declared["one"] != 1 {
		t.Errorf("the error is %v after %d declarations, want one", err, declared["one"])
	}
	down = false
	for range 3 {
		if err := b.Send(t.Context(), one.Message(1), two.Message(2)); err != nil {
			t.Error(err)
		}
	}
	if declared["one"] != 2 || declared["two"] != 1 {
		t.Errorf("the queues were declared %v times", declared)
	}
}

func TestBroker_Enqueue(t *testing.T) {
	t.Parallel()
	b, store := newTestBroker(t)
	later := dramatiq.NewOutgoing("q", "a", []byte(`[NaN]`), []byte(`{"x":1}`))
	later.Due = time.Now().Add(time.Hour)
	if err := b.Enqueue(t.Context(), later, dramatiq.NewOutgoing("q", "a", nil, nil)); err != nil {
		t.Error(err)
	}
	wantStats(t, store, "q", [4]int{1, 1, 0, 0})
	for name, out := range map[string]dramatiq.Outgoing{
		"nothing":        {},
		"no actor":       dramatiq.NewOutgoing("q", "", nil, nil),
		"no queue":       dramatiq.NewOutgoing("", "a", nil, nil),
		"a delay queue":  dramatiq.NewOutgoing("q.DQ", "a", nil, nil),
		"args no array":  dramatiq.NewOutgoing("q", "a", []byte(`{}`), nil),
		"kwargs no JSON": dramatiq.NewOutgoing("q", "a", nil, []byte(`{"x"}`)),
	} {
		err := b.Enqueue(t.Context(), out, dramatiq.NewOutgoing("fine", "a", nil, nil))
		if errs := dramatiq.SendErrors(err, 2); errs[0] == nil || errs[1] != nil {
			t.Errorf("%s: the errors are %v", name, errs)
		}
	}
	wantStats(t, store, "fine", [4]int{6, 0, 0, 0})
}

func TestBroker_Close(t *testing.T) {
	t.Parallel()
	b, err := dramatiq.NewBroker(memory.New(memory.Config{}), dramatiq.BrokerConfig{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := dramatiq.Declare[int]("a").Send(t.Context(), b, 1); !errors.Is(err, dramatiq.ErrClosed) {
		t.Errorf("the error is %v, want ErrClosed", err)
	}
}

// fails is middleware that turns every success into a failure, as one does that cannot store a result.
type fails struct{}

func (fails) AfterProcess(_ context.Context, a *dramatiq.Attempt) {
	a.SetErr(errors.New("no room for the result"))
}

// FollowUps are sent if the message succeeds, whoever makes it fail.
func TestFollowUps_OfAHandlerThatAHookFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, store := newTestBroker(t, fails{})
		next := dramatiq.Declare[int]("next", dramatiq.Queue("elsewhere"))
		a := dramatiq.NewActor("a", func(ctx context.Context, n int) error {
			_, err := next.Send(ctx, dramatiq.FollowUps(ctx), n)
			return err
		}, dramatiq.MaxRetries(2))
		startWorker(t, b, dramatiq.WorkerConfig{}, a)
		mustSend(t, b, a, 1)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		wantDeath(t, store, "default", dramatiq.ReasonRetries)
		wantStats(t, store, "elsewhere", [4]int{})
	})
}
