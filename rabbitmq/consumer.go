package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/wire"
)

const (
	// prefetchFactor times the concurrency is how many messages of each queue the server pushes ahead. They are out of
	// reach of other consumers until they are settled, so more would starve idle workers while this one is busy.
	prefetchFactor = 2
	maxPrefetch    = 1<<16 - 1
	// delayedPrefetch is how many messages of a delay queue one consumer holds until they are due.
	delayedPrefetch = 1000
	// settledAfter is how long a session must last for the next attempts to start without a pause again.
	settledAfter = 10 * time.Second
)

// consumer consumes queues over a connection of its own, which it opens anew whenever it is lost.
type consumer struct {
	driver   *Driver
	cfg      driver.ConsumerConfig
	inbox    *inbox
	stop     context.CancelFunc
	finished chan struct{} // closed when the goroutine of run has ended
}

var _ driver.Consumer = (*consumer)(nil)

// Consume registers a consumer of the queues and of their delay queues. It connects in the background.
func (d *Driver) Consume(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("rabbitmq: consume: %w", err)
	}
	d.mu.Lock()
	closed := d.closed
	d.mu.Unlock()
	if closed {
		return nil, fmt.Errorf("rabbitmq: consume: %w", driver.ErrClosed)
	}
	cfg.Queues = slices.Compact(slices.Sorted(slices.Values(cfg.Queues)))
	if len(cfg.Queues) == 0 {
		return nil, errors.New("rabbitmq: consume: no queues are given")
	}
	for _, queue := range cfg.Queues {
		if err := checkQueueName(queue); err != nil {
			return nil, fmt.Errorf("rabbitmq: consume: %w", err)
		}
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	c := &consumer{driver: d, cfg: cfg, inbox: newInbox(len(cfg.Queues)), stop: stop, finished: make(chan struct{})}
	go c.run(run)
	return c, nil
}

// run keeps a session open until ctx ends.
func (c *consumer) run(ctx context.Context) {
	defer close(c.finished)
	var pauses backoff
	for ctx.Err() == nil {
		started := time.Now()
		conn, err := c.driver.cfg.dial(ctx, "consumer")
		if err == nil {
			c.cfg.Logger.InfoContext(ctx, "consumer connected", slog.String("broker", c.driver.cfg.String()))
			started = time.Now()
			err = c.session(ctx, conn)
			if time.Since(started) > settledAfter {
				pauses.reset()
			}
		}
		if ctx.Err() != nil {
			return
		}
		c.inbox.reportAll(err)
		c.cfg.Logger.WarnContext(ctx, "consumer is not connected", slog.Any("error", err))
		pauses.wait(ctx, time.Since(started))
	}
}

// session consumes over one connection until that or ctx ends.
func (c *consumer) session(ctx context.Context, conn *amqp.Connection) error {
	closed := conn.NotifyClose(make(chan *amqp.Error, 1))
	topology := newTopology(conn, c.driver.cfg.MaxPriority)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var sources, delayedSources sync.WaitGroup
	c.inbox.reportAll(errConnecting)
	for lane, queue := range c.cfg.Queues {
		ready := &source{
			consumer: c, conn: conn, topology: topology, queue: queue, name: queue, lane: lane,
			prefetch: min(prefetchFactor*max(c.cfg.Concurrency, 1), maxPrefetch),
		}
		delayed := *ready
		delayed.name, delayed.prefetch, delayed.delayed = wire.DelayQueue(queue), delayedPrefetch, true
		sources.Go(func() { ready.run(ctx) })
		delayedSources.Go(func() { delayed.run(ctx) })
	}
	var err error
	select {
	case reason, ok := <-closed:
		err = errEnded
		if ok {
			err = fmt.Errorf("%w: %w", errEnded, reason)
		}
	case <-ctx.Done():
		waitFor(&delayedSources, closeTimeout) // what they are moving
		closeConnection(conn)
		err = ctx.Err()
	}
	cancel()
	sources.Wait()
	delayedSources.Wait()
	return err
}

// waitFor waits for a group, but not for ever.
func waitFor(group *sync.WaitGroup, limit time.Duration) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		group.Wait()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	}
}

// Fetch returns what the server has pushed. Of each queue, twice the concurrency is pushed before it is fetched.
func (c *consumer) Fetch(ctx context.Context, limit int) ([]driver.Delivery, error) {
	if limit < 1 {
		return nil, fmt.Errorf("rabbitmq: fetch: the limit is %d, must be at least 1", limit)
	}
	return c.inbox.fetch(ctx, limit)
}

// Begin reports whether the delivery's session is still there, as far as is known here.
func (c *consumer) Begin(ctx context.Context, d *driver.Delivery) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("rabbitmq: begin: %w", err)
	}
	if c.inbox.isClosed() {
		return fmt.Errorf("rabbitmq: begin: %w", errors.Join(driver.ErrClosed, driver.ErrNotHeld))
	}
	held, ok := d.Claim.(*claim)
	if !ok || held.link.consumer != c || !held.link.held() {
		return fmt.Errorf("rabbitmq: begin: %w", driver.ErrNotHeld)
	}
	held.mu.Lock()
	defer held.mu.Unlock()
	if held.taken {
		return fmt.Errorf("rabbitmq: begin: %w", driver.ErrNotHeld)
	}
	return nil
}

// Close hands back everything that is not settled, messages that began included: the server knows no difference. If ctx
// ends before the server has answered, the rest goes on in the background for a few seconds. Closing twice is fine.
func (c *consumer) Close(ctx context.Context) error {
	c.inbox.close()
	c.stop()
	select {
	case <-c.finished:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("rabbitmq: close consumer: %w", ctx.Err())
	}
}
