package drivertest

import (
	"context"
	"errors"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

func outages(_ Features, s Store) bool { return s.Outage != nil }

func outageTests() []test {
	return []test{
		{name: "calls fail during an outage and succeed after it", needs: outages, run: outageCalls},
		{name: "a waiting fetch survives an outage", needs: outages, run: outageFetch},
		{name: "what is settled after an outage is settled or comes again", needs: outages, run: outageSettle},
		{name: "a driver can be opened during an outage", needs: outages, run: outageOpen},
	}
}

// brief is how long a call may wait for an unreachable broker in these tests.
const brief = 500 * time.Millisecond

func briefly() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), brief)
}

func outageCalls(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	e.enqueue(d, e.message("alpha"))
	e.ack(c, e.fetch(c, 1)...)
	restore := e.store.Outage(e.T)
	lost := e.messages("alpha", 2)
	ctx, cancel := briefly()
	defer cancel()
	errs := d.Enqueue(ctx, lost)
	if len(errs) != 2 {
		e.Errorf("Enqueue during an outage returned %d errors, want 2", len(errs))
	}
	for i, err := range errs {
		switch {
		case err == nil:
			e.Errorf("Enqueue accepted message %d during an outage", i)
			e.ledger.stored(lost[i])
		case errors.Is(err, driver.ErrMaybeStored):
			e.ledger.maybeStored(lost[i])
		}
	}
	if deliveries, err := c.Fetch(ctx, 1); err == nil {
		e.Errorf("Fetch during an outage = %q", keys(deliveries))
	}
	restore()
	m := e.message("alpha")
	e.enqueueSoon(d, m)
	for {
		got := e.fetchSoon(c)
		e.ack(c, *got)
		if key(got.Body) == entryOf(&m).key {
			return
		}
	}
}

// enqueueSoon tries until a message is accepted, as after an outage.
func (e *env) enqueueSoon(d driver.Driver, m driver.Message) {
	e.Helper()
	ctx := e.context()
	for ctx.Err() == nil {
		errs := d.Enqueue(ctx, []driver.Message{m})
		if errs == nil {
			e.ledger.stored(m)
			return
		}
		if errors.Is(errs[0], driver.ErrMaybeStored) {
			e.ledger.maybeStored(m)
		}
		pause(ctx)
	}
	e.Fatal("Enqueue never succeeds again")
}

// fetchSoon tries until a message comes.
func (e *env) fetchSoon(c driver.Consumer) *driver.Delivery {
	e.Helper()
	ctx := e.context()
	var last error
	for ctx.Err() == nil {
		deliveries, err := c.Fetch(ctx, 1)
		if err == nil && len(deliveries) == 1 {
			return &deliveries[0]
		}
		last = err
		pause(ctx)
	}
	e.Fatalf("Fetch never succeeds again: %v", last)
	panic("unreachable")
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Millisecond):
	}
}

func outageFetch(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	answer := e.fetchLater(e.context(), c, 1)
	select {
	case a := <-answer:
		e.Fatalf("Fetch on an empty queue = %q, %v", keys(a.deliveries), a.err)
	case <-time.After(nothingFor): // most likely it waits by now
	}
	restore := e.store.Outage(e.T)
	<-time.After(nothingFor)
	restore()
	m := e.message("alpha")
	e.enqueueSoon(d, m)
	a := receive(e, "Fetch through an outage", answer)
	if a.err == nil {
		e.wantBody(&a.deliveries[0], &m)
		e.ack(c, a.deliveries...)
		return
	}
	got := e.fetchSoon(c) // it may fail, but only once
	e.wantBody(got, &m)
	e.ack(c, *got)
}

// outageSettle settles during an outage and again after it. A driver whose claims end with its session answers with
// ErrNotHeld, and then the message comes again.
func outageSettle(e *env) {
	d := e.start("alpha", "beta")
	c := e.consume(d, "alpha")
	m := e.message("alpha")
	e.enqueue(d, m)
	got := e.fetchOne(c)
	e.begin(c, got)
	next := e.message("beta")
	s := driver.Settlement{Delivery: got, FollowUps: []driver.Message{next}}
	restore := e.store.Outage(e.T)
	ctx, cancel := briefly()
	defer cancel()
	if errs := c.Settle(ctx, []driver.Settlement{s}); errs == nil {
		e.Error("Settle succeeded during an outage")
	}
	restore()
	patience := e.context()
	for {
		errs := c.Settle(e.context(), []driver.Settlement{s})
		if errs == nil {
			break
		}
		if errors.Is(errs[0], driver.ErrNotHeld) { // settled by the first try, or to come again
			e.ledger.maybeStored(m)
			e.ledger.settled(&driver.Settlement{Delivery: got})
			e.ledger.maybeStored(next)
			return
		}
		if patience.Err() != nil {
			e.Fatalf("Settle never succeeds again: %v", errs)
		}
		pause(patience)
	}
	e.ledger.settled(&s)
	if !e.features.Atomic {
		e.ledger.maybeStored(next) // twice, if the first try stored it
	}
}

func outageOpen(e *env) {
	first := e.start("alpha")
	restore := e.store.Outage(e.T)
	d := e.open()
	ctx, cancel := briefly()
	defer cancel()
	c, err := d.Consume(ctx, consumerConfig(1, []string{"alpha"}))
	if err != nil {
		e.Fatalf("Consume during an outage = %v", err)
	}
	defer closeQuietly(e.T, "consumer", c.Close)
	if deliveries, err := c.Fetch(ctx, 1); err == nil {
		e.Errorf("Fetch during an outage = %q", keys(deliveries))
	}
	restore()
	m := e.message("alpha")
	e.enqueueSoon(first, m)
	got := e.fetchSoon(c)
	e.wantBody(got, &m)
	e.ack(c, *got)
}
