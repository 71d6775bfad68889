package drivertest

import (
	"slices"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

func closeTests() []test {
	return []test{
		{name: "closing a consumer hands back what did not begin", run: closeHandsBack},
		{name: "what began and was not settled comes again after its consumer closed", run: closeLeavesBegun},
		{name: "settlements before a close are kept", run: closeKeepsSettlements},
		{name: "closing a consumer ends its waiting fetch", run: closeEndsFetch},
		{name: "a closed consumer refuses calls", run: closedConsumer},
		{name: "a closed driver refuses calls", run: closedDriver},
		{name: "what one driver stored is found by the next", needs: shared, run: reopened},
	}
}

func closeHandsBack(e *env) {
	d := e.start("alpha", "beta")
	e.enqueue(d, e.messages("alpha", 20)...)
	e.enqueue(d, e.messages("beta", 20)...)
	c := e.consume(d, "alpha", "beta")
	got := e.fetch(c, 15)
	e.ack(c, got[:5]...)
	e.closeConsumer(c)
	e.wantWaiting(d, "alpha", "beta", 35)
	another := e.consume(d, "alpha", "beta")
	back := e.fetch(another, 35)
	for i := range back {
		if back[i].Suspect || back[i].Crashes != 0 {
			e.Errorf("%s was handed back as a suspect", key(back[i].Body))
		}
		if slices.Contains(keys(got[:5]), key(back[i].Body)) {
			e.Errorf("%s came again though it was acknowledged", key(back[i].Body))
		}
	}
	e.ack(another, back...)
	e.fetchNothing(another)
}

// wantWaiting checks that n messages of two queues wait and none is claimed.
func (e *env) wantWaiting(d driver.Driver, first, second string, n int) {
	e.Helper()
	if !e.features.Stats {
		return
	}
	a, b := e.stats(d, first), e.stats(d, second)
	if a.Waiting+b.Waiting != n || a.Claimed+b.Claimed != 0 {
		e.Errorf("%+v and %+v, want %d waiting and none claimed", a, b, n)
	}
}

func closeLeavesBegun(e *env) {
	d := e.start("alpha")
	m := e.message("alpha")
	e.enqueue(d, m)
	c := e.consume(d, "alpha")
	got := e.fetchOne(c)
	e.begin(c, got)
	closed := time.Now()
	e.closeConsumer(c)
	another := e.consume(d, "alpha")
	again := e.fetchOne(another)
	if early := e.store.LeaseTimeout / 4; e.features.Leases && time.Since(closed) < early {
		e.Errorf("a message that may still run was given away %v after the close, want its lease to run out", time.Since(closed))
	}
	e.wantBody(again, &m)
	e.begin(another, again)
	e.ack(another, *again)
	e.fetchNothing(another)
}

func closeKeepsSettlements(e *env) {
	d := e.start("alpha", "beta")
	for range 10 {
		e.enqueue(d, e.messages("alpha", 5)...)
		c := e.consume(d, "alpha")
		got := e.fetch(c, 5)
		for i := range got {
			e.begin(c, &got[i])
		}
		settlements := acks(got)
		settlements[0].FollowUps = []driver.Message{e.message("beta")}
		e.settle(c, settlements...)
		e.closeConsumer(c)
	}
	e.fetchNothing(e.consume(d, "alpha"))
	followers := e.consume(d, "beta")
	e.ack(followers, e.fetch(followers, 10)...)
}

func closeEndsFetch(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	answer := e.fetchLater(e.context(), c, 1)
	select {
	case a := <-answer:
		e.Fatalf("Fetch on an empty queue = %q, %v", keys(a.deliveries), a.err)
	case <-time.After(nothingFor): // most likely it waits by now
	}
	e.closeConsumer(c)
	a := receive(e, "Fetch of a consumer that was closed", answer)
	e.wantError("Fetch of a consumer that was closed", a.err, driver.ErrClosed)
}

func closedConsumer(e *env) {
	d := e.start("alpha")
	e.enqueue(d, e.message("alpha"))
	c := e.consume(d, "alpha")
	got := e.fetchOne(c)
	e.closeConsumer(c)
	_, err := c.Fetch(e.context(), 1)
	e.wantError("Fetch after Close", err, driver.ErrClosed)
	e.wantError("Begin after Close", c.Begin(e.context(), got), driver.ErrClosed)
	errs := c.Settle(e.context(), []driver.Settlement{{Delivery: got}, {Delivery: got, Outcome: driver.Reject}})
	e.wantErrors("Settle after Close", errs, 2, driver.ErrClosed)
	if err := c.Close(e.context()); err != nil {
		e.wantError("closing again", err, driver.ErrClosed)
	}
}

func closedDriver(e *env) {
	d := e.open()
	if err := d.Declare(e.context(), []string{"alpha"}); err != nil { // not in the ledger: there may be no driver left
		e.Fatalf("Declare = %v", err)
	}
	if err := d.Close(e.context()); err != nil {
		e.Fatalf("Driver.Close = %v", err)
	}
	e.wantErrors("Enqueue after Close", d.Enqueue(e.context(), e.messages("alpha", 3)), 3, driver.ErrClosed)
	e.wantError("Declare after Close", d.Declare(e.context(), []string{"beta"}), driver.ErrClosed)
	_, err := d.Consume(e.context(), consumerConfig(1, []string{"alpha"}))
	e.wantError("Consume after Close", err, driver.ErrClosed)
	if inspector, ok := d.(driver.Inspector); ok {
		_, err := inspector.Stats(e.context(), "alpha")
		e.wantError("Stats after Close", err, driver.ErrClosed)
		_, err = inspector.DeadLetters(e.context(), "alpha", "", 1)
		e.wantError("DeadLetters after Close", err, driver.ErrClosed)
	}
	if err := d.Close(e.context()); err != nil {
		e.wantError("closing again", err, driver.ErrClosed)
	}
}

func reopened(e *env) {
	d := e.start("alpha")
	messages := e.messages("alpha", 3)
	e.enqueue(d, messages...)
	c := e.consume(d, "alpha")
	e.ack(c, e.fetch(c, 1)...)
	e.closeConsumer(c)
	if err := d.Close(e.context()); err != nil {
		e.Fatalf("Driver.Close = %v", err)
	}
	d = e.open()
	c = e.consume(d, "alpha")
	e.ack(c, e.fetch(c, 2)...)
	e.fetchNothing(c)
}
