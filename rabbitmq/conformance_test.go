package rabbitmq_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/drivertest"
	"github.com/dramatiq-go/dramatiq/rabbitmq"
	"github.com/dramatiq-go/dramatiq/wire"
)

func TestConformance(t *testing.T) {
	// Not promised: Delays, because more than 1000 far messages keep back nearer ones; RequeueFirst, because what has been
	// pushed ahead goes before what is requeued.
	drivertest.Run(t, drivertest.Features{Verbatim: true, Shared: true, Ordered: true, Priorities: true}, newStore)
}

// TestConformance_Delays runs what the suite's core asks of delays.
func TestConformance_Delays(t *testing.T) {
	drivertest.RunCore(t, drivertest.Features{Verbatim: true, Shared: true, Delays: true}, newStore)
}

// newStore returns a store behind a proxy, with priorities.
func newStore(tb testing.TB) drivertest.Store {
	tb.Helper()
	p, url := newProxy(tb)
	store := newStoreAt(tb, url+"?max_priority=9")
	store.Outage = func(testing.TB) func() {
		p.set(true, false)
		return func() { p.set(false, false) }
	}
	return store
}

// newStoreAt returns a store whose queues are deleted when the test has ended.
func newStoreAt(tb testing.TB, url string) drivertest.Store {
	tb.Helper()
	prefix := "t" + strings.ReplaceAll(wire.NewID(), "-", "")[:12] + "."
	used := &names{seen: make(map[string]bool)}
	tb.Cleanup(func() {
		a := newAdmin(tb)
		for name := range used.seen {
			a.delete(name, wire.DelayQueue(name), wire.DeadQueue(name))
		}
	})
	return drivertest.Store{Open: func(tb testing.TB) driver.Driver {
		tb.Helper()
		d, err := rabbitmq.Open(url)
		if err != nil {
			tb.Fatal(err)
		}
		return &prefixed{Driver: d, prefix: prefix, used: used}
	}}
}

// names remembers the queues of a test, to be deleted at its end.
type names struct {
	mu   sync.Mutex // guards below
	seen map[string]bool
}

func (n *names) add(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen[name] = true
}

// prefixed gives a test of the suite queues of its own on the shared server, without the suite or the stored messages
// showing it.
type prefixed struct {
	driver.Driver
	prefix string
	used   *names
}

func (p *prefixed) add(queues []string) []string {
	long := make([]string, len(queues))
	for i, queue := range queues {
		long[i] = p.prefix + queue
		p.used.add(long[i])
	}
	return long
}

func (p *prefixed) Declare(ctx context.Context, queues []string) error {
	return p.Driver.Declare(ctx, p.add(queues))
}

func (p *prefixed) Enqueue(ctx context.Context, messages []driver.Message) []error {
	return p.Driver.Enqueue(ctx, p.messages(messages))
}

func (p *prefixed) messages(messages []driver.Message) []driver.Message {
	long := make([]driver.Message, len(messages))
	for i, m := range messages {
		m.Envelope = m.Envelope.Clone()
		m.Envelope.Queue = p.prefix + m.Envelope.Queue
		m.Encoder = shortening{m.Encoder, p.prefix}
		p.used.add(m.Envelope.Queue)
		long[i] = m
	}
	return long
}

func (p *prefixed) Consume(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	cfg.Queues = p.add(cfg.Queues)
	cfg.Encoder = shortening{cfg.Encoder, p.prefix}
	c, err := p.Driver.Consume(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &prefixedConsumer{c, p}, nil
}

type prefixedConsumer struct {
	driver.Consumer
	driver *prefixed
}

func (c *prefixedConsumer) Fetch(ctx context.Context, limit int) ([]driver.Delivery, error) {
	deliveries, err := c.Consumer.Fetch(ctx, limit)
	for i := range deliveries {
		deliveries[i].Queue = strings.TrimPrefix(deliveries[i].Queue, c.driver.prefix)
	}
	return deliveries, err
}

func (c *prefixedConsumer) Settle(ctx context.Context, settlements []driver.Settlement) []error {
	long := make([]driver.Settlement, len(settlements))
	for i, s := range settlements {
		s.FollowUps = c.driver.messages(s.FollowUps)
		long[i] = s
	}
	return c.Consumer.Settle(ctx, long)
}

// shortening stores envelopes without the prefix of their queue.
type shortening struct {
	wire.Encoder
	prefix string
}

func (s shortening) Append(dst []byte, e *wire.Envelope) ([]byte, error) {
	short := *e
	short.Queue = strings.TrimPrefix(e.Queue, s.prefix)
	return s.Encoder.Append(dst, &short)
}
