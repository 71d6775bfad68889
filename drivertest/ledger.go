package drivertest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/wire"
)

// far is the due time beyond which a message is not waited for when a test ends.
const far = time.Minute

// entry is a message in a queue. Several messages may share one, as a retry shares its id with the message it replaces.
type entry struct{ queue, key string }

// ledger is what the store must hold.
type ledger struct {
	mu     sync.Mutex // guards below
	queues []string
	alive  map[entry]int // stored and not settled
	later  map[entry]int // likewise, due after the end of the test
	maybe  map[entry]int // perhaps stored
	dead   map[entry]int // rejected
}

func newLedger() ledger {
	return ledger{
		alive: make(map[entry]int), later: make(map[entry]int), maybe: make(map[entry]int), dead: make(map[entry]int),
	}
}

func (l *ledger) declare(queues []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range queues {
		if !slices.Contains(l.queues, q) {
			l.queues = append(l.queues, q)
		}
	}
}

func (l *ledger) stored(messages ...driver.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(messages)
}

func (l *ledger) add(messages []driver.Message) {
	for i := range messages {
		if messages[i].Due.After(time.Now().Add(far)) {
			l.later[entryOf(&messages[i])]++
		} else {
			l.alive[entryOf(&messages[i])]++
		}
	}
}

// maybeStored records messages that may be there and need not.
func (l *ledger) maybeStored(messages ...driver.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range messages {
		l.maybe[entryOf(&messages[i])]++
	}
}

func (l *ledger) settled(s *driver.Settlement) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(s.FollowUps)
	at := entry{s.Delivery.Queue, key(s.Delivery.Body)}
	switch s.Outcome {
	case driver.Requeue:
	case driver.Reject:
		l.remove(at)
		l.dead[at]++
	case driver.Ack:
		l.remove(at)
	}
}

// remove takes one message out and reports whether it was there.
func (l *ledger) remove(at entry) bool {
	for _, m := range []map[entry]int{l.alive, l.later, l.maybe} {
		if m[at] > 0 {
			if m[at]--; m[at] == 0 {
				delete(m, at)
			}
			return true
		}
	}
	return false
}

// delivered takes out a message that the final consumer received and acknowledged.
func (l *ledger) delivered(d *driver.Delivery) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.remove(entry{d.Queue, key(d.Body)})
}

func (l *ledger) missing() []entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	var missing []entry
	for at := range l.alive {
		missing = append(missing, at)
	}
	return missing
}

func total(counts map[entry]int, queue string) (n int) {
	for at, count := range counts {
		if at.queue == queue {
			n += count
		}
	}
	return n
}

// entryOf names a message by its id, or by its bytes if it has none.
func entryOf(m *driver.Message) entry {
	body, err := m.Append(nil)
	if err != nil {
		return entry{m.Envelope.Queue, "unencodable: " + err.Error()}
	}
	return entry{m.Envelope.Queue, key(body)}
}

// key is the id of the envelope in a body, or for what is none the body.
func key(body []byte) string {
	envelope, err := wire.JSON{}.Decode(body)
	if err != nil {
		return "raw: " + string(body)
	}
	return envelope.ID
}

func keys(deliveries []driver.Delivery) []string {
	list := make([]string, len(deliveries))
	for i := range deliveries {
		list[i] = key(deliveries[i].Body)
	}
	return list
}

func ids(messages []driver.Message) []string {
	list := make([]string, len(messages))
	for i := range messages {
		list[i] = entryOf(&messages[i]).key
	}
	return list
}

// finish is the invariant check after every test: what was stored and never settled is there, once, and nothing else.
func (e *env) finish() {
	e.Helper()
	if e.Failed() || len(e.ledger.queues) == 0 {
		return
	}
	d := e.open()
	e.checkStats(d)
	e.mu.Lock()
	consumers := slices.Clone(e.consumers)
	e.mu.Unlock()
	for _, c := range consumers {
		closeQuietly(e.T, "consumer", c.Close)
	}
	c := e.consume(d, e.ledger.queues...)
	ctx := e.context()
	for len(e.ledger.missing()) > 0 {
		deliveries, err := e.fetchOnce(ctx, c, concurrency)
		if err != nil {
			e.Fatalf("at the end: %v; not found in the store: %v", err, e.ledger.missing())
		}
		e.takeOut(ctx, c, deliveries)
	}
	ctx, cancel := context.WithTimeout(context.Background(), nothingFor)
	defer cancel()
	for {
		deliveries, err := c.Fetch(ctx, concurrency)
		if err != nil {
			break
		}
		e.takeOut(e.context(), c, deliveries)
	}
	e.checkStats(d)
}

func (e *env) takeOut(ctx context.Context, c driver.Consumer, deliveries []driver.Delivery) {
	e.Helper()
	for i := range deliveries {
		d := &deliveries[i]
		if !e.ledger.delivered(d) {
			e.Errorf("at the end: %s of queue %s was delivered, though it was settled or never stored", key(d.Body), d.Queue)
		}
		if err := c.Begin(ctx, d); err != nil {
			e.Fatalf("at the end: Begin = %v", err)
		}
		if errs := c.Settle(ctx, []driver.Settlement{{Delivery: d}}); errs != nil {
			e.Fatalf("at the end: Settle = %v", errs)
		}
	}
}

// checkStats compares the ledger with the store's own counts, where it has them.
func (e *env) checkStats(d driver.Driver) {
	e.Helper()
	if !e.features.Stats {
		return
	}
	e.ledger.mu.Lock()
	defer e.ledger.mu.Unlock()
	for _, queue := range e.ledger.queues {
		stats := e.stats(d, queue)
		low := total(e.ledger.alive, queue) + total(e.ledger.later, queue)
		high := low + total(e.ledger.maybe, queue)
		if n := stats.Waiting + stats.Delayed + stats.Claimed; n < low || n > high {
			e.Errorf("queue %s: %+v, want %d messages (up to %d) beside the dead", queue, stats, low, high)
		}
		if dead := total(e.ledger.dead, queue); stats.Dead != dead {
			e.Errorf("queue %s: %+v, want %d dead", queue, stats, dead)
		}
	}
}

const noInspector = "Features.Stats or DeadLetters is promised, but the driver is no driver.Inspector"

func (e *env) stats(d driver.Driver, queue string) driver.Stats {
	e.Helper()
	inspector, ok := d.(driver.Inspector)
	if !ok {
		e.Fatal(noInspector)
	}
	stats, err := inspector.Stats(e.context(), queue)
	if err != nil {
		e.Fatalf("Stats(%q) = %v", queue, err)
	}
	return stats
}

// wantStats checks a queue's counts where the driver promises them.
func (e *env) wantStats(d driver.Driver, queue string, want driver.Stats) {
	e.Helper()
	if !e.features.Stats {
		return
	}
	if got := e.stats(d, queue); got != want {
		e.Errorf("queue %s: %+v, want %+v", queue, got, want)
	}
}
