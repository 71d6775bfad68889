// Package memory is the in-memory driver: a message store that lives and dies with the process. It is meant for tests,
// examples and programs whose tasks need not survive them. It does all that a driver can do: delays, priorities, atomic
// settlement, dead letters with their reasons, crash counts, inspection.
//
// New makes a store and a first driver on it. Further drivers on the same store, made by Share, stand for further
// processes; Kill ends one of them as SIGKILL would end a process, so that recovery can be tried without a server:
//
//	d := memory.New(memory.Config{LeaseTimeout: time.Second})
//	worker := d.Share()
//	… // run a worker on it
//	worker.Kill()
//	… // a second later its claims are back, as suspects, for other workers
//
// # Time
//
// The package starts no goroutines and polls nothing: a fetch that waits holds one timer for the next due time. Time is
// read from package time alone, so that in a testing/synctest bubble a delay of days takes no time at all.
//
// # Leases
//
// Within one process nobody dies in silence, so a consumer's claims have no lease while it is open. The lease begins when
// a driver is killed, or when a consumer is closed while messages that began are not settled; after Config.LeaseTimeout
// their claims are taken back and count as those of a dead worker.
//
// # Order and cost
//
// Each queue is first in, first out within a level of priority; delayed messages enter at their due time. Requeued and
// handed back messages return to where they were. Storing and claiming cost O(1) for messages that are due and O(log n)
// for delayed ones; a batch takes the store's only lock once, for no longer than that work.
package memory

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

const (
	defaultDeadLetterTTL = 7 * 24 * time.Hour
	defaultLeaseTimeout  = time.Minute
)

// Config configures a store. The zero value is ready to use.
type Config struct {
	// DeadLetterTTL is how long dead letters are kept; 7 days by default, as in Python.
	DeadLetterTTL time.Duration
	// LeaseTimeout is how long after the death of their consumer claims are taken back; a minute by default.
	LeaseTimeout time.Duration
}

func (c Config) withDefaults() Config {
	c.DeadLetterTTL = cmp.Or(c.DeadLetterTTL, defaultDeadLetterTTL)
	c.LeaseTimeout = cmp.Or(c.LeaseTimeout, defaultLeaseTimeout)
	return c
}

// Driver is one process's access to an in-memory store. It is safe for concurrent use.
type Driver struct {
	store *store

	mu        sync.Mutex // guards below; taken before store.mu, never after
	closed    bool
	consumers map[*consumer]struct{}
}

var (
	_ driver.Driver    = (*Driver)(nil)
	_ driver.Inspector = (*Driver)(nil)
)

// New makes an empty store and returns a driver on it.
func New(cfg Config) *Driver {
	return &Driver{store: newStore(cfg.withDefaults()), consumers: make(map[*consumer]struct{})}
}

// Share returns another driver on d's store, as another process would open it. It works after d has been closed or killed
// too, as a restart would.
func (d *Driver) Share() *Driver {
	return &Driver{store: d.store, consumers: make(map[*consumer]struct{})}
}

// Declare makes queues known. Queues that were never declared work too. It fails with driver.ErrClosed or ctx's error.
func (d *Driver) Declare(ctx context.Context, queues []string) error {
	if err := d.check(ctx); err != nil {
		return fmt.Errorf("memory: declare queues: %w", err)
	}
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	for _, name := range queues {
		d.store.queue(name)
	}
	return nil
}

// Enqueue stores messages; see driver.Enqueuer. A message whose encoder fails fails alone. It never blocks.
func (d *Driver) Enqueue(ctx context.Context, messages []driver.Message) []error {
	if len(messages) == 0 {
		return nil
	}
	if err := d.check(ctx); err != nil {
		return driver.Failed(fmt.Errorf("memory: enqueue: %w", err), len(messages))
	}
	encoded, errs := encode(messages)
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	d.store.put(encoded, time.Now())
	return errs
}

// Consume registers a consumer; see driver.Driver. It fails with driver.ErrClosed or ctx's error.
func (d *Driver) Consume(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	if err := d.check(ctx); err != nil {
		return nil, fmt.Errorf("memory: consume: %w", err)
	}
	c := newConsumer(d, cfg.Queues)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, fmt.Errorf("memory: consume: driver %w", driver.ErrClosed)
	}
	d.consumers[c] = struct{}{}
	c.register()
	return c, nil
}

// Close closes the driver and what consumers are left. The store and other drivers on it stay. Closing again does nothing.
func (d *Driver) Close(context.Context) error {
	d.end((*consumer).release)
	return nil
}

// Kill ends the driver as SIGKILL would end its process: all calls on it and on its consumers fail with driver.ErrClosed
// from now on, nothing is handed back, and after Config.LeaseTimeout its claims are taken over.
func (d *Driver) Kill() {
	d.end((*consumer).die)
}

func (d *Driver) end(end func(*consumer)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for c := range d.consumers {
		end(c)
	}
	clear(d.consumers)
}

func (d *Driver) forget(c *consumer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.consumers, c)
}

func (d *Driver) check(ctx context.Context) error {
	d.mu.Lock()
	closed := d.closed
	d.mu.Unlock()
	if closed {
		return fmt.Errorf("driver %w", driver.ErrClosed)
	}
	return ctx.Err()
}
