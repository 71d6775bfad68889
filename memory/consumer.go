package memory

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

// consumer claims messages of some queues. All fields but the first three are guarded by the store's lock.
type consumer struct {
	driver *Driver
	store  *store
	queues []*queue

	claims   list
	next     int           // the queue whose turn it is
	fetching int           // fetches that wait and have not been signalled
	wake     chan struct{} // closed to signal them; nil if there are none
	closed   bool
	lapsing  bool // its lease is running out
}

var _ driver.Consumer = (*consumer)(nil)

func newConsumer(d *Driver, names []string) *consumer {
	c := &consumer{driver: d, store: d.store}
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	for _, name := range names {
		if q := c.store.queue(name); !slices.Contains(c.queues, q) {
			c.queues = append(c.queues, q)
		}
	}
	return c
}

func (c *consumer) register() {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	for _, q := range c.queues {
		q.consumers = append(q.consumers, c)
	}
}

// Fetch implements driver.Consumer.
func (c *consumer) Fetch(ctx context.Context, limit int) ([]driver.Delivery, error) {
	if limit < 1 {
		return nil, fmt.Errorf("memory: fetch: limit %d is below 1", limit)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("memory: fetch: %w", err)
	}
	for {
		deliveries, wake, due, err := c.claim(limit)
		if err != nil || len(deliveries) > 0 {
			return deliveries, err
		}
		if err := c.wait(ctx, wake, due); err != nil {
			return nil, fmt.Errorf("memory: fetch: %w", err)
		}
	}
}

// claim takes what is due, in turn from the queues. If there is nothing, it registers a waiting fetch and returns its
// signal and when to look again, zero for never.
func (c *consumer) claim(limit int) (deliveries []driver.Delivery, wake chan struct{}, due time.Time, err error) {
	s := c.store
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.closed {
		return nil, nil, due, fmt.Errorf("memory: fetch: consumer %w", driver.ErrClosed)
	}
	s.tick(now)
	total := 0
	for _, q := range c.queues {
		s.promote(q, now)
		total += q.waiting
	}
	if total > 0 {
		return c.take(min(limit, total)), nil, due, nil
	}
	if c.wake == nil {
		c.wake = make(chan struct{})
	}
	c.fetching++
	return nil, c.wake, c.nextDue(), nil
}

// take claims exactly n messages, which must be there, one of each queue in turn.
func (c *consumer) take(n int) []driver.Delivery {
	deliveries := make([]driver.Delivery, 0, n)
	empty := 0 // queues in a row that had nothing: they need no second look within a round
	for len(deliveries) < n {
		if c.next >= len(c.queues) {
			c.next = 0
		}
		q := c.queues[c.next]
		if empty >= len(c.queues)-1 { // all but this one are empty
			for len(deliveries) < n {
				deliveries = append(deliveries, c.hold(q.pop()))
			}
			break
		}
		c.next++
		if q.waiting == 0 {
			empty++
			continue
		}
		empty = 0
		deliveries = append(deliveries, c.hold(q.pop()))
	}
	return deliveries
}

func (c *consumer) hold(m *message) driver.Delivery {
	m.holder = c
	c.claims.push(m)
	m.queue.claimed++
	return driver.Delivery{
		Queue: m.queue.name, Body: m.body,
		Redelivered: m.redelivered, Suspect: m.suspect, Crashes: m.crashes, Claim: m,
	}
}

// nextDue is the next time at which something may be to be had without anybody saying so.
func (c *consumer) nextDue() (next time.Time) {
	for _, q := range c.queues {
		if due, ok := q.delayed.next(); ok && (next.IsZero() || due.Before(next)) {
			next = due
		}
	}
	if lapses := c.store.lapses; len(lapses) > 0 && (next.IsZero() || lapses[0].at.Before(next)) {
		next = lapses[0].at
	}
	return next
}

// wait waits for a signal or a due time. A fetch that ends without looking passes its signal on.
func (c *consumer) wait(ctx context.Context, wake chan struct{}, due time.Time) error {
	var expired <-chan time.Time
	if !due.IsZero() {
		timer := time.NewTimer(time.Until(due))
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-wake:
		return nil
	case <-expired:
		c.leave(wake)
		return nil
	case <-ctx.Done():
		if signalled := c.leave(wake); signalled {
			c.passOn()
		}
		return ctx.Err()
	}
}

// leave takes back the registration of a waiting fetch; it reports whether the fetch had been signalled before.
func (c *consumer) leave(wake chan struct{}) (signalled bool) {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	if c.wake != wake {
		return true
	}
	c.fetching--
	return false
}

// passOn wakes others for what waits in the consumer's queues.
func (c *consumer) passOn() {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	for _, q := range c.queues {
		q.wake(q.waiting)
	}
}

// signal wakes the consumer's waiting fetches and returns how many they are.
func (c *consumer) signal() int {
	n := c.fetching
	if n > 0 {
		close(c.wake)
		c.wake, c.fetching = nil, 0
	}
	return n
}

// Begin implements driver.Consumer.
func (c *consumer) Begin(ctx context.Context, d *driver.Delivery) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memory: begin: %w", err)
	}
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	m, err := c.held(d)
	if err != nil {
		return fmt.Errorf("memory: begin: %w", err)
	}
	m.begun = true
	m.started = m.suspect
	return nil
}

// held returns the message of a delivery whose claim is held.
func (c *consumer) held(d *driver.Delivery) (*message, error) {
	if c.closed {
		return nil, fmt.Errorf("consumer %w", driver.ErrClosed)
	}
	m, ok := d.Claim.(*message)
	if !ok {
		return nil, fmt.Errorf("not a delivery of this package: %w", driver.ErrNotHeld)
	}
	if len(c.store.lapses) > 0 { // else no claim can have been lost to time, which is costly to ask for
		c.store.tick(time.Now())
	}
	if m.holder != c {
		return nil, driver.ErrNotHeld
	}
	return m, nil
}

// Close implements driver.Consumer. Claims of messages that began are taken back after Config.LeaseTimeout. Closing again
// does nothing.
func (c *consumer) Close(context.Context) error {
	c.driver.forget(c)
	c.release()
	return nil
}

// release ends the consumer and hands back what did not begin.
func (c *consumer) release() {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	if c.closed {
		return
	}
	c.leaveQueues()
	for m := c.claims.first; m != nil; {
		following := m.next
		if !m.begun {
			c.store.restore(m, m.successor())
		}
		m = following
	}
	c.store.lapse(c, time.Now())
}

// die ends the consumer and hands back nothing.
func (c *consumer) die() {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	if c.closed {
		return
	}
	c.leaveQueues()
	c.store.lapse(c, time.Now())
}

func (c *consumer) leaveQueues() {
	c.closed = true
	c.signal()
	for _, q := range c.queues {
		q.consumers = slices.DeleteFunc(q.consumers, func(other *consumer) bool { return other == c })
		q.wake(q.waiting) // in place of the fetches that were just ended
	}
}

// Silence starts the end of the consumer's lease, as if its process had been stopped; its methods go on working, as they
// would after SIGCONT. Tests reach it through an interface, as no other driver has it.
func (c *consumer) Silence() {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	c.store.lapse(c, time.Now())
}
