// Package rabbitmq is the message transport on RabbitMQ. Its queues are those of Python Dramatiq, declared with the same
// arguments and holding the same messages, so that producers and workers of both languages share them.
//
// # What it promises
//
// Enqueue returns nil once the server has confirmed that it stores the messages; on durable queues, as these are, they
// survive a restart of the server. A message is handed out until it is settled: RabbitMQ has no transactions that would
// cover a settlement and its follow-ups, so the follow-ups are stored and confirmed first and the message is removed
// after that. A crash in between repeats the message and its follow-ups, and loses nothing.
//
// A delivery belongs to the channel that brought it. When the connection is lost, the server gives what was not settled
// to another consumer, and every call about such a delivery reports driver.ErrNotHeld.
//
// # Delays
//
// A delayed message waits in the queue's delay queue, as Python leaves it there. A consumer of the queue takes the
// messages out, up to 1000 of them, and moves them to the queue when they are due. More messages than that which are due
// later than others keep those others back; the server's consumer timeout (30 minutes unless configured) interrupts and
// restarts that wait.
package rabbitmq

import (
	"context"
	"fmt"
	"sync"

	"github.com/dramatiq-go/dramatiq/driver"
)

// Driver is a connection to one RabbitMQ server and virtual host. It is safe for concurrent use.
type Driver struct {
	cfg Config

	mu        sync.Mutex // guards below
	closed    bool
	publisher *publisher // the last one; it may have ended
	opening   *opening   // non-nil while a connection is being opened
	stop      context.CancelFunc
	running   sync.WaitGroup // goroutines that open connections
}

var _ driver.Driver = (*Driver)(nil)

// New returns a driver. It connects when it is first used, and again whenever the connection has been lost.
func New(cfg Config) (*Driver, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, driver.Misconfigured(err)
	}
	return &Driver{cfg: cfg}, nil
}

// String names the server without the password.
func (d *Driver) String() string { return d.cfg.String() }

// Declare creates each queue with its delay queue and its dead-letter queue, or checks that they exist as they should.
// A queue that exists with other arguments is an error that wraps driver.ErrMisconfigured.
func (d *Driver) Declare(ctx context.Context, queues []string) error {
	p, err := d.connected(ctx)
	if err != nil {
		return fmt.Errorf("rabbitmq: declare queues: %w", err)
	}
	p.topology.forget(queues...)
	failed, err := p.topology.ensure(ctx, queues)
	if err != nil {
		return fmt.Errorf("rabbitmq: declare queues: %w", err)
	}
	for _, queue := range queues {
		if err := failed[queue]; err != nil {
			return fmt.Errorf("rabbitmq: %w", err)
		}
	}
	return nil
}

// Close closes the publishing connection. Calls in flight end with an error. Closing twice is fine.
func (d *Driver) Close(ctx context.Context) error {
	d.mu.Lock()
	d.closed = true
	p, stop := d.publisher, d.stop
	d.mu.Unlock()
	if stop != nil {
		stop()
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.running.Wait()
		if p != nil {
			p.close()
		}
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("rabbitmq: close: %w", ctx.Err())
	}
}
