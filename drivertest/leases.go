package drivertest

import (
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

func leases(f Features, _ Store) bool { return f.Leases }

func leaseTests() []test {
	return []test{
		{name: "claims of a silent consumer are taken over", needs: leases, run: takeOver},
		{name: "a waiting fetch of another driver gets what a silent consumer held", needs: func(f Features, _ Store) bool {
			return f.Leases && f.Shared
		}, run: takeOverWaiting},
		{name: "a consumer that is not called keeps its claims", needs: leases, run: claimsKept},
		{name: "the neighbours of a silent consumer keep their claims", needs: leases, run: neighboursKeep},
		{name: "a claim that was taken over cannot be settled", needs: leases, run: settleTakenOver},
		{name: "a claim that was taken over cannot begin", needs: leases, run: beginTakenOver},
		{name: "a claim that was taken over stores no follow-ups", needs: func(f Features, _ Store) bool {
			return f.Leases && f.Atomic
		}, run: followUpsTakenOver},
		{name: "a silent consumer hands nothing back that was taken over", needs: leases, run: closeTakenOver},
	}
}

// abandon makes a consumer silent.
func (e *env) abandon(c driver.Consumer) {
	e.Helper()
	e.store.Abandon(e.T, c)
}

// takenOver fetches n messages one after the other, as suspects may be handed out a few at a time, and acknowledges them.
func (e *env) takenOver(c driver.Consumer, n int) []driver.Delivery {
	e.Helper()
	var all []driver.Delivery
	seen := make(map[string]bool)
	for range n {
		got := e.fetchOne(c)
		if !got.Redelivered {
			e.Errorf("%s was taken over and is not marked as redelivered", key(got.Body))
		}
		e.begin(c, got)
		e.ack(c, *got)
		all = append(all, *got)
	}
	e.once(seen, all)
	return all
}

func takeOver(e *env) {
	d := e.start("alpha", "beta")
	e.enqueue(d, e.messages("alpha", 8)...)
	e.enqueue(d, e.messages("beta", 8)...)
	c := e.consume(d, "alpha", "beta")
	got := e.fetch(c, 16)
	for i := range got[:6] {
		e.begin(c, &got[i])
	}
	e.ack(c, got[:4]...)
	e.abandon(c)
	another := e.consume(e.open(), "alpha", "beta")
	e.takenOver(another, 12)
	e.fetchNothing(another)
}

func takeOverWaiting(e *env) {
	d := e.start("alpha")
	m := e.message("alpha")
	e.enqueue(d, m)
	c := e.consume(d, "alpha")
	e.fetch(c, 1)
	another := e.consume(e.open(), "alpha")
	answer := e.fetchLater(e.context(), another, 1)
	e.abandon(c)
	a := receive(e, "Fetch", answer)
	if a.err != nil {
		e.Fatalf("Fetch = %v", a.err)
	}
	e.wantBody(&a.deliveries[0], &m)
	e.ack(another, a.deliveries...)
}

// pass lets n lease timeouts go by.
func (e *env) pass(n int) {
	<-time.After(time.Duration(n) * e.store.LeaseTimeout)
}

func claimsKept(e *env) {
	d := e.start("alpha")
	e.enqueue(d, e.messages("alpha", 4)...)
	c := e.consume(d, "alpha")
	got := e.fetch(c, 4)
	e.begin(c, &got[0])
	another := e.consume(e.open(), "alpha")
	e.pass(3)
	e.fetchNothing(another)
	e.begin(c, &got[1])
	settlements := acks(got)
	settlements[1].FollowUps = e.messages("alpha", 1)
	e.settle(c, settlements...)
	e.closeConsumer(c) // which may have prefetched the follow-up
	e.ack(another, e.fetch(another, 1)...)
	e.fetchNothing(another)
}

func neighboursKeep(e *env) {
	d := e.start("alpha")
	e.enqueue(d, e.messages("alpha", 4)...)
	silent, neighbour := e.consumeWith(d, 2, "alpha"), e.consumeWith(d, 2, "alpha")
	e.fetch(silent, 2)
	held := e.fetch(neighbour, 2)
	e.abandon(silent)
	another := e.consume(e.open(), "alpha")
	e.takenOver(another, 2)
	e.fetchNothing(another)
	e.ack(neighbour, held...)
}

func settleTakenOver(e *env) {
	d := e.start("alpha")
	for _, outcome := range []driver.Outcome{driver.Ack, driver.Reject, driver.Requeue} {
		c := e.consume(d, "alpha")
		m := e.message("alpha")
		e.enqueue(d, m)
		lost := e.fetchOne(c)
		e.begin(c, lost)
		e.abandon(c)
		another := e.consume(e.open(), "alpha")
		got := e.fetchOne(another)
		e.wantBody(got, &m)
		err := e.trySettle(c, driver.Settlement{Delivery: lost, Outcome: outcome, Death: driver.Death{Reason: "late"}})
		e.wantError("a late "+outcome.String(), err, driver.ErrNotHeld)
		e.begin(another, got)
		e.ack(another, *got)
		err = e.trySettle(c, driver.Settlement{Delivery: lost, Outcome: outcome})
		e.wantError("a very late "+outcome.String(), err, driver.ErrNotHeld)
		e.closeConsumer(another)
	}
}

func beginTakenOver(e *env) {
	d := e.start("alpha")
	e.enqueue(d, e.message("alpha"))
	c := e.consume(d, "alpha")
	lost := e.fetchOne(c)
	e.abandon(c)
	another := e.consume(e.open(), "alpha")
	got := e.fetchOne(another)
	e.wantError("a late Begin", c.Begin(e.context(), lost), driver.ErrNotHeld)
	e.begin(another, got)
	e.ack(another, *got)
	e.wantError("a very late Begin", c.Begin(e.context(), lost), driver.ErrNotHeld)
}

func followUpsTakenOver(e *env) {
	d := e.start("alpha", "beta")
	e.enqueue(d, e.messages("alpha", 2)...)
	c := e.consume(d, "alpha")
	lost := e.fetch(c, 2)
	e.begin(c, &lost[0])
	e.abandon(c)
	another := e.consume(e.open(), "alpha")
	first := e.fetchOne(another)
	late := acks(lost)
	for i := range late {
		late[i].FollowUps = e.messages("beta", 2)
	}
	for i := range late {
		if key(lost[i].Body) == key(first.Body) {
			e.wantError("a late settlement", e.trySettle(c, late[i]), driver.ErrNotHeld)
		}
	}
	e.ack(another, *first)
	second := e.fetchOne(another)
	e.wantErrors("late settlements", c.Settle(e.context(), late), 2, driver.ErrNotHeld)
	e.ack(another, *second)
	e.wantStats(d, "beta", driver.Stats{})
	e.fetchNothing(e.consume(d, "beta"))
}

func closeTakenOver(e *env) {
	d := e.start("alpha")
	e.enqueue(d, e.message("alpha"))
	c := e.consume(d, "alpha")
	e.fetch(c, 1)
	e.abandon(c)
	another := e.consume(e.open(), "alpha")
	got := e.fetchOne(another)
	closeQuietly(e.T, "silent consumer", c.Close)
	e.fetchNothing(another)
	e.begin(another, got)
	e.ack(another, *got)
}
