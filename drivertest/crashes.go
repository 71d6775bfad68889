package drivertest

import (
	"github.com/dramatiq-go/dramatiq/driver"
)

func crashes(f Features, _ Store) bool { return f.Crashes }

func crashTests() []test {
	return []test{
		{name: "being claimed by a dead consumer makes a suspect, not a crash", needs: crashes, run: suspects},
		{name: "recorded starts without an end are counted", needs: crashes, run: crashesCounted},
		{name: "a suspect that did not begin is not counted", needs: crashes, run: crashNotBegun},
		{name: "a suspect that was requeued or handed back is not counted", needs: crashes, run: crashEnded},
		{name: "the retry of a suspect starts with a clean record", needs: crashes, run: crashRetry},
		{name: "a suspect can be rejected", needs: crashes, run: crashRejected},
	}
}

// dies claims a message with a new consumer, begins it if asked to, and falls silent; it returns the delivery.
func (e *env) dies(d driver.Driver, begin bool) *driver.Delivery {
	e.Helper()
	c := e.consumeWith(d, 1, "alpha")
	got := e.fetchOne(c)
	if begin {
		e.begin(c, got)
	}
	e.abandon(c)
	return got
}

func (e *env) wantSuspect(got *driver.Delivery, crashes int) {
	e.Helper()
	if !got.Redelivered || !got.Suspect || got.Crashes != crashes {
		e.Errorf("redelivered %v, suspect %v, crashes %d; want true, true, %d",
			got.Redelivered, got.Suspect, got.Crashes, crashes)
	}
}

func suspects(e *env) {
	d := e.start("alpha")
	e.enqueue(d, e.messages("alpha", 4)...)
	c := e.consume(d, "alpha")
	got := e.fetch(c, 4)
	e.begin(c, &got[0])
	e.begin(c, &got[1])
	e.abandon(c)
	another := e.consume(e.open(), "alpha")
	for _, back := range e.takenOver(another, 4) {
		e.wantSuspect(&back, 0)
	}
}

func crashesCounted(e *env) {
	d := e.start("alpha")
	m := e.message("alpha")
	e.enqueue(d, m)
	e.dies(d, true) // a first start is not recorded
	for crashes := range 3 {
		got := e.dies(e.open(), true)
		e.wantSuspect(got, crashes)
		e.wantBody(got, &m)
	}
	c := e.consume(d, "alpha")
	got := e.fetchOne(c)
	e.wantSuspect(got, 3)
	e.begin(c, got)
	e.ack(c, *got)
}

func crashNotBegun(e *env) {
	d := e.start("alpha")
	e.enqueue(d, e.message("alpha"))
	e.dies(d, false)
	e.wantSuspect(e.dies(d, false), 0)
	e.wantSuspect(e.dies(d, true), 0)
	e.wantSuspect(e.dies(d, false), 1)
	c := e.consume(d, "alpha")
	got := e.fetchOne(c)
	e.wantSuspect(got, 1)
	e.ack(c, *got)
}

func crashEnded(e *env) {
	d := e.start("alpha")
	e.enqueue(d, e.message("alpha"))
	e.dies(d, false)

	c := e.consume(d, "alpha")
	got := e.fetchOne(c)
	e.wantSuspect(got, 0)
	e.begin(c, got)
	e.settle(c, driver.Settlement{Delivery: got, Outcome: driver.Requeue})
	got = e.fetchOne(c)
	if got.Crashes != 0 {
		e.Errorf("%d crashes after a requeue, want 0", got.Crashes)
	}
	e.closeConsumer(c) // hands back: it did not begin again

	got = e.dies(d, false)
	if got.Crashes != 0 {
		e.Errorf("%d crashes after a hand-back, want 0", got.Crashes)
	}
	c = e.consume(d, "alpha")
	got = e.fetchOne(c)
	e.wantSuspect(got, 0)
	e.ack(c, *got)
}

func crashRetry(e *env) {
	d := e.start("alpha")
	m := e.message("alpha")
	e.enqueue(d, m)
	e.dies(d, true)
	e.dies(d, true)
	c := e.consume(d, "alpha")
	got := e.fetchOne(c)
	e.wantSuspect(got, 1)
	e.begin(c, got)
	e.settle(c, driver.Settlement{Delivery: got, FollowUps: []driver.Message{m}})
	got = e.fetchOne(c)
	if got.Suspect || got.Crashes != 0 {
		e.Errorf("the retry of a suspect was delivered as %+v", *got)
	}
	e.begin(c, got)
	e.ack(c, *got)
}

func crashRejected(e *env) {
	d := e.start("alpha")
	e.enqueue(d, e.message("alpha"))
	e.dies(d, true)
	e.dies(d, true)
	c := e.consume(d, "alpha")
	got := e.fetchOne(c)
	e.wantSuspect(got, 1)
	e.settle(c, driver.Settlement{Delivery: got, Outcome: driver.Reject, Death: driver.Death{Reason: "crashed too often"}})
	e.fetchNothing(c)
}
