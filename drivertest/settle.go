package drivertest

import (
	"context"
	"fmt"

	"github.com/dramatiq-go/dramatiq/driver"
)

func settleTests() []test {
	return []test{
		{name: "an acknowledged message does not come again", run: ackRemoves},
		{name: "a rejected message does not come again", run: rejectRemoves},
		{name: "a requeued message comes again unchanged", run: requeueReturns},
		{name: "the settlements of one batch have outcomes of their own", run: mixedOutcomes},
		{name: "a claim ends once", run: settleTwice},
		{name: "a lost claim of a batch fails only itself", run: lostClaimInBatch},
		{name: "a cancelled context leaves the claim to be settled again", run: settleCancelled},
		{name: "claims can be settled in any order and in single steps", run: settleInAnyOrder},
	}
}

func ackRemoves(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	e.enqueue(d, e.messages("alpha", 10)...)
	got := e.fetch(c, 10)
	e.wantStats(d, "alpha", driver.Stats{Claimed: 10})
	e.ack(c, got...)
	e.wantStats(d, "alpha", driver.Stats{})
	e.closeConsumer(c)
	e.fetchNothing(e.consume(d, "alpha"))
}

func rejectRemoves(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	e.enqueue(d, e.message("alpha"))
	got := e.fetchOne(c)
	e.begin(c, got)
	e.settle(c, driver.Settlement{
		Delivery: got, Outcome: driver.Reject, Death: driver.Death{Reason: "retries exhausted", Detail: "boom"},
	})
	e.wantStats(d, "alpha", driver.Stats{Dead: 1})
	e.fetchNothing(c)
	e.closeConsumer(c)
	e.fetchNothing(e.consume(d, "alpha"))
}

func requeueReturns(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	m := e.message("alpha")
	e.enqueue(d, m)
	for range 3 {
		got := e.fetchOne(c)
		e.wantBody(got, &m)
		if got.Suspect || got.Crashes != 0 {
			e.Errorf("a requeued message came back as %+v", *got)
		}
		e.begin(c, got)
		e.settle(c, driver.Settlement{Delivery: got, Outcome: driver.Requeue})
	}
	e.ack(c, *e.fetchOne(c))
}

func mixedOutcomes(e *env) {
	const n = 60
	d := e.start("alpha", "beta")
	c := e.consume(d, "alpha", "beta")
	e.enqueue(d, e.messages("alpha", n/2)...)
	e.enqueue(d, e.messages("beta", n/2)...)
	got := e.fetch(c, n)
	settlements := make([]driver.Settlement, n)
	again := make(map[string]bool)
	for i := range got {
		settlements[i] = driver.Settlement{Delivery: &got[i], Outcome: driver.Outcome(i % 3)}
		switch settlements[i].Outcome {
		case driver.Requeue:
			again[key(got[i].Body)] = true
		case driver.Reject:
			settlements[i].Death.Reason = fmt.Sprintf("reason %d", i)
		case driver.Ack:
		}
	}
	e.settle(c, settlements...)
	for _, k := range keys(e.fetch(c, len(again))) {
		if !again[k] {
			e.Errorf("%s came again though it was not requeued", k)
		}
		delete(again, k)
	}
	e.fetchNothing(c)
}

func settleTwice(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	for _, first := range []driver.Outcome{driver.Ack, driver.Reject, driver.Requeue} {
		for _, second := range []driver.Outcome{driver.Ack, driver.Reject, driver.Requeue} {
			m := e.message("alpha")
			e.enqueue(d, m)
			got := e.fetchOne(c)
			e.begin(c, got)
			e.settle(c, driver.Settlement{Delivery: got, Outcome: first})
			err := e.trySettle(c, driver.Settlement{Delivery: got, Outcome: second})
			e.wantError(fmt.Sprintf("%v after %v", second, first), err, driver.ErrNotHeld)
			if first == driver.Requeue {
				again := e.fetchOne(c)
				e.wantBody(again, &m)
				e.ack(c, *again)
			}
		}
	}
}

func lostClaimInBatch(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	e.enqueue(d, e.messages("alpha", 5)...)
	got := e.fetch(c, 5)
	const lost = 2
	e.ack(c, got[lost])
	settlements := acks(got)
	errs := c.Settle(e.context(), settlements)
	if len(errs) != len(got) {
		e.Fatalf("Settle with one lost claim returned %d errors for %d settlements", len(errs), len(got))
	}
	for i, err := range errs {
		if i == lost {
			e.wantError("the lost claim's error", err, driver.ErrNotHeld)
		} else if err != nil {
			e.Errorf("settlement %d failed beside a lost claim: %v", i, err)
		} else {
			e.ledger.settled(&settlements[i])
		}
	}
}

func settleCancelled(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	e.enqueue(d, e.message("alpha"))
	got := e.fetchOne(c)
	ctx, cancel := context.WithCancel(e.context())
	cancel()
	s := driver.Settlement{Delivery: got}
	errs := c.Settle(ctx, []driver.Settlement{s})
	if errs == nil { // allowed: it needs no waiting
		e.ledger.settled(&s)
		return
	}
	e.wantErrors("Settle with a cancelled context", errs, 1, context.Canceled)
	e.settle(c, s)
}

func settleInAnyOrder(e *env) {
	const n = 20
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	e.enqueue(d, e.messages("alpha", n)...)
	got := e.fetch(c, n)
	for i := range got {
		at := i * 7 % n // a permutation, as 7 and n have no common divisor
		e.begin(c, &got[at])
		e.ack(c, got[at])
		e.wantStats(d, "alpha", driver.Stats{Claimed: n - 1 - i})
	}
}
