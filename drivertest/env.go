package drivertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/wire"
)

const (
	defaultPatience = 30 * time.Second
	// nothingFor is how long a test looks for what must not come. Too short only means that a fault may be missed.
	nothingFor = 30 * time.Millisecond
	// concurrency is the default of consumers; no test holds more claims of one consumer than it asked for.
	concurrency = 64
)

// env is one test: its store, the ledger, and helpers that fail the test.
type env struct {
	*testing.T
	features Features
	store    Store
	ledger   ledger

	mu        sync.Mutex // guards below
	first     driver.Driver
	consumers []driver.Consumer
	count     int
}

func newEnv(t *testing.T, features Features, store Store) *env {
	t.Helper()
	if store.Patience <= 0 {
		store.Patience = defaultPatience
	}
	return &env{T: t, features: features, store: store, ledger: newLedger()}
}

// context is cancelled when the test's patience ends.
func (e *env) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), e.store.Patience)
	e.Cleanup(cancel)
	return ctx
}

// open opens another driver where the store can be shared, and otherwise returns the one and only.
func (e *env) open() driver.Driver {
	e.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.first != nil && !e.features.Shared {
		return e.first
	}
	d := e.store.Open(e.T)
	if e.first == nil {
		e.first = d
	}
	e.Cleanup(func() { closeQuietly(e.T, "driver", d.Close) })
	return d
}

// start opens a driver and declares queues.
func (e *env) start(queues ...string) driver.Driver {
	e.Helper()
	d := e.open()
	e.declare(d, queues...)
	return d
}

func (e *env) declare(d driver.Driver, queues ...string) {
	e.Helper()
	if err := d.Declare(e.context(), queues); err != nil {
		e.Fatalf("Declare(%q) = %v", queues, err)
	}
	e.ledger.declare(queues)
}

// consume registers a consumer that may hold 64 claims.
func (e *env) consume(d driver.Driver, queues ...string) driver.Consumer {
	e.Helper()
	return e.consumeWith(d, concurrency, queues...)
}

func (e *env) consumeWith(d driver.Driver, concurrency int, queues ...string) driver.Consumer {
	e.Helper()
	c, err := d.Consume(e.context(), consumerConfig(concurrency, queues))
	if err != nil {
		e.Fatalf("Consume(%q) = %v", queues, err)
	}
	e.mu.Lock()
	e.consumers = append(e.consumers, c)
	e.mu.Unlock()
	e.Cleanup(func() { closeQuietly(e.T, "consumer", c.Close) })
	return c
}

func consumerConfig(concurrency int, queues []string) driver.ConsumerConfig {
	return driver.ConsumerConfig{
		Queues: queues, Concurrency: concurrency, Encoder: wire.JSON{},
		Logger: slog.New(slog.DiscardHandler),
	}
}

// closeQuietly closes what a test has left open. Closing twice is nil or ErrClosed, as the driver likes.
func closeQuietly(tb testing.TB, what string, closer func(context.Context) error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), defaultPatience)
	defer cancel()
	if err := closer(ctx); err != nil && !errors.Is(err, driver.ErrClosed) {
		tb.Errorf("closing the %s: %v", what, err)
	}
}

// message returns a new message for a queue, with an id that no other message of the test has.
func (e *env) message(queue string) driver.Message {
	e.mu.Lock()
	e.count++
	n := e.count
	e.mu.Unlock()
	return driver.Message{
		Envelope: &wire.Envelope{
			Queue: queue, Actor: "actor", Args: json.RawMessage(fmt.Sprintf("[%d]", n)),
			ID: fmt.Sprintf("%s-%04d", queue, n), Timestamp: time.Now().UnixMilli(),
		},
		Encoder: wire.JSON{},
	}
}

func (e *env) messages(queue string, n int) []driver.Message {
	messages := make([]driver.Message, n)
	for i := range messages {
		messages[i] = e.message(queue)
	}
	return messages
}

// enqueue stores messages, all of which must be accepted.
func (e *env) enqueue(d driver.Driver, messages ...driver.Message) {
	e.Helper()
	e.ledger.stored(messages...) // before anybody can settle them
	if errs := d.Enqueue(e.context(), messages); errs != nil {
		e.Fatalf("Enqueue of %d messages = %v", len(messages), errors.Join(errs...))
	}
}

// fetch collects exactly n deliveries.
func (e *env) fetch(c driver.Consumer, n int) []driver.Delivery {
	e.Helper()
	ctx := e.context()
	var got []driver.Delivery
	for len(got) < n {
		deliveries, err := e.fetchOnce(ctx, c, n-len(got))
		if err != nil {
			e.Fatalf("Fetch after %d of %d deliveries = %v", len(got), n, err)
		}
		got = append(got, deliveries...)
	}
	return got
}

// fetchOnce calls Fetch and checks what is true of every answer. It may be called from any goroutine.
func (e *env) fetchOnce(ctx context.Context, c driver.Consumer, limit int) ([]driver.Delivery, error) {
	deliveries, err := c.Fetch(ctx, limit)
	switch {
	case err != nil && len(deliveries) > 0:
		e.Errorf("Fetch returned %d deliveries together with the error %v", len(deliveries), err)
	case err == nil && len(deliveries) == 0:
		err = errors.New("drivertest: Fetch returned neither a delivery nor an error")
	case len(deliveries) > limit:
		e.Errorf("Fetch with limit %d returned %d deliveries", limit, len(deliveries))
	}
	return deliveries, err
}

// fetchOne collects one delivery.
func (e *env) fetchOne(c driver.Consumer) *driver.Delivery {
	e.Helper()
	return &e.fetch(c, 1)[0]
}

// fetchNothing checks that nothing is to be had for a moment.
func (e *env) fetchNothing(c driver.Consumer) {
	e.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), nothingFor)
	defer cancel()
	deliveries, err := c.Fetch(ctx, 10)
	if len(deliveries) > 0 {
		e.Fatalf("Fetch returned %q, want nothing", keys(deliveries))
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		e.Fatalf("Fetch = %v, want the context's error", err)
	}
}

func (e *env) begin(c driver.Consumer, d *driver.Delivery) {
	e.Helper()
	if err := c.Begin(e.context(), d); err != nil {
		e.Fatalf("Begin of %s = %v", key(d.Body), err)
	}
}

// settle ends claims, all of which must be held.
func (e *env) settle(c driver.Consumer, settlements ...driver.Settlement) {
	e.Helper()
	if errs := c.Settle(e.context(), settlements); errs != nil {
		e.Fatalf("Settle of %d deliveries = %v", len(settlements), errors.Join(errs...))
	}
	for i := range settlements {
		e.ledger.settled(&settlements[i])
	}
}

// trySettle ends one claim and returns its error.
func (e *env) trySettle(c driver.Consumer, s driver.Settlement) error {
	e.Helper()
	errs := c.Settle(e.context(), []driver.Settlement{s})
	if errs == nil {
		e.ledger.settled(&s)
		return nil
	}
	if len(errs) != 1 {
		e.Fatalf("Settle of one delivery returned %d errors", len(errs))
	}
	if errs[0] == nil {
		e.Fatal("Settle returned a list of errors without an error in it")
	}
	return errs[0]
}

func (e *env) ack(c driver.Consumer, deliveries ...driver.Delivery) {
	e.Helper()
	settlements := make([]driver.Settlement, len(deliveries))
	for i := range deliveries {
		settlements[i] = driver.Settlement{Delivery: &deliveries[i]}
	}
	e.settle(c, settlements...)
}

func (e *env) closeConsumer(c driver.Consumer) {
	e.Helper()
	if err := c.Close(e.context()); err != nil {
		e.Fatalf("Consumer.Close = %v", err)
	}
}

// wantError checks that err wraps target.
func (e *env) wantError(what string, err, target error) {
	e.Helper()
	if !errors.Is(err, target) {
		e.Errorf("%s = %v, want an error that wraps %q", what, err, target)
	}
}

// wantErrors checks that there is one error a member and that each wraps target.
func (e *env) wantErrors(what string, errs []error, n int, target error) {
	e.Helper()
	if len(errs) != n {
		e.Errorf("%s returned %d errors, want %d", what, len(errs), n)
	}
	for _, err := range errs {
		e.wantError(what, err, target)
	}
}
