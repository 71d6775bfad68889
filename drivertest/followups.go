package drivertest

import (
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

func followUpTests() []test {
	return []test{
		{name: "follow-ups are stored with every outcome", run: followUpsOfOutcomes},
		{name: "a follow-up may carry the id of the message that it replaces", run: followUpSameID},
		{name: "follow-ups of a batch go to their queues", run: followUpsOfBatch},
		{name: "a follow-up that cannot be encoded leaves the message claimed", run: followUpUnencodable},
		{name: "a claim that was settled stores no follow-ups", run: followUpsOfSettledClaim},
		{name: "a closed consumer stores no follow-ups", run: followUpsAfterClose},
		{name: "a chain of follow-ups holds one message at any time", needs: func(f Features, _ Store) bool {
			return f.Atomic && f.Stats
		}, run: followUpChain},
		{name: "follow-ups are delayed as they ask", needs: func(f Features, _ Store) bool {
			return f.Delays
		}, run: followUpDelayed},
	}
}

func followUpsOfOutcomes(e *env) {
	d := e.start("alpha", "beta")
	c := e.consume(d, "alpha")
	followers := e.consume(d, "beta")
	for _, outcome := range []driver.Outcome{driver.Ack, driver.Reject, driver.Requeue} {
		m := e.message("alpha")
		e.enqueue(d, m)
		got := e.fetchOne(c)
		e.begin(c, got)
		next := e.messages("beta", 2)
		next[1].Envelope.Args = json.RawMessage(`[NaN,123456789012345678901234567890,"\ud800"]`)
		e.settle(c, driver.Settlement{Delivery: got, Outcome: outcome, FollowUps: next})
		received := e.fetch(followers, 2)
		for i := range received {
			if key(received[i].Body) == next[0].Envelope.ID {
				e.wantBody(&received[i], &next[0])
			} else {
				e.wantBody(&received[i], &next[1])
			}
		}
		e.ack(followers, received...)
		if outcome == driver.Requeue {
			again := e.fetchOne(c)
			e.wantBody(again, &m)
			e.ack(c, *again)
		}
	}
	e.fetchNothing(c)
	e.fetchNothing(followers)
}

// followUpSameID is a retry: the same message once more, with other options, in the same queue.
func followUpSameID(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	m := e.message("alpha")
	e.enqueue(d, m)
	for retry := range 3 {
		got := e.fetchOne(c)
		e.wantBody(got, &m)
		if got.Suspect || got.Crashes != 0 {
			e.Errorf("a retry was delivered as %+v", *got)
		}
		e.begin(c, got)
		next := m
		next.Envelope = m.Envelope.Clone()
		next.Envelope.Options.SetInt("retries", int64(retry+1))
		e.settle(c, driver.Settlement{Delivery: got, FollowUps: []driver.Message{next}})
		e.wantStats(d, "alpha", driver.Stats{Waiting: 1})
		m = next
	}
	e.ack(c, *e.fetchOne(c))
}

func followUpsOfBatch(e *env) {
	const n = 30
	d := e.start("alpha", "beta", "gamma")
	c := e.consume(d, "alpha")
	e.enqueue(d, e.messages("alpha", n)...)
	settlements := acks(e.fetch(c, n))
	want := make(map[entry]bool)
	for i := range settlements {
		for _, queue := range []string{"beta", "gamma"}[:i%3] {
			m := e.message(queue)
			want[entryOf(&m)] = true
			settlements[i].FollowUps = append(settlements[i].FollowUps, m)
		}
	}
	e.settle(c, settlements...)
	e.fetchNothing(c)
	followers := e.consume(d, "beta", "gamma")
	for _, got := range e.fetch(followers, len(want)) {
		at := entry{got.Queue, key(got.Body)}
		if !want[at] {
			e.Errorf("%v was delivered twice or never sent", at)
		}
		delete(want, at)
		e.ack(followers, got)
	}
}

func followUpUnencodable(e *env) {
	d := e.start("alpha", "beta")
	c := e.consume(d, "alpha")
	e.enqueue(d, e.messages("alpha", 2)...)
	settlements := acks(e.fetch(c, 2))
	bad := e.message("beta")
	bad.Encoder = unencodable{}
	settlements[0].FollowUps = []driver.Message{e.message("beta"), bad}
	settlements[1].FollowUps = []driver.Message{e.message("beta")}
	errs := c.Settle(e.context(), settlements)
	if len(errs) != 2 {
		e.Fatalf("Settle with a bad follow-up returned %d errors for 2 settlements", len(errs))
	}
	e.wantError("the error of the bad follow-up", errs[0], errUnencodable)
	if errs[1] != nil {
		e.Fatalf("the neighbour of a bad follow-up failed: %v", errs[1])
	}
	e.ledger.settled(&settlements[1])
	if !e.features.Atomic { // it may have stored the good one before
		e.ledger.maybeStored(settlements[0].FollowUps[0])
	}
	settlements[0].FollowUps = nil
	e.settle(c, settlements[0])
	if e.features.Atomic {
		e.wantStats(d, "beta", driver.Stats{Waiting: 1})
	}
}

func followUpsOfSettledClaim(e *env) {
	d := e.start("alpha", "beta")
	c := e.consume(d, "alpha")
	e.enqueue(d, e.message("alpha"))
	got := e.fetchOne(c)
	e.ack(c, *got)
	err := e.trySettle(c, driver.Settlement{Delivery: got, FollowUps: e.messages("beta", 1)})
	e.wantError("Settle of a settled claim", err, driver.ErrNotHeld)
	e.fetchNothing(e.consume(d, "beta"))
}

func followUpsAfterClose(e *env) {
	d := e.start("alpha", "beta")
	c := e.consume(d, "alpha")
	e.enqueue(d, e.messages("alpha", 2)...)
	got := e.fetch(c, 2)
	e.begin(c, &got[0])
	e.closeConsumer(c)
	for i := range got {
		err := e.trySettle(c, driver.Settlement{Delivery: &got[i], FollowUps: e.messages("beta", 1)})
		e.wantError("Settle after Close", err, driver.ErrClosed)
	}
	e.fetchNothing(e.consume(d, "beta"))
}

// followUpChain moves one message through a pipeline while another goroutine counts: there is never none and never two.
func followUpChain(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	e.enqueue(d, e.message("alpha"))
	var stop atomic.Bool
	var wg sync.WaitGroup
	inspector, ok := d.(driver.Inspector)
	if !ok {
		e.Fatal(noInspector)
	}
	wg.Go(func() {
		for !stop.Load() {
			s, err := inspector.Stats(e.context(), "alpha")
			if err != nil {
				e.Errorf("Stats = %v", err)
				return
			}
			if n := s.Waiting + s.Delayed + s.Claimed; n != 1 {
				e.Errorf("seen in between: %+v, want one message", s)
				return
			}
		}
	})
	for range 100 {
		got := e.fetchOne(c)
		e.begin(c, got)
		e.settle(c, driver.Settlement{Delivery: got, FollowUps: e.messages("alpha", 1)})
	}
	stop.Store(true)
	wg.Wait()
	e.ack(c, *e.fetchOne(c))
}

func followUpDelayed(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	m := e.message("alpha")
	e.enqueue(d, m)
	got := e.fetchOne(c)
	next := m
	next.Due = dueIn(200 * time.Millisecond)
	later := e.message("alpha")
	later.Due = dueIn(time.Hour)
	e.settle(c, driver.Settlement{Delivery: got, FollowUps: []driver.Message{next, later}})
	got = e.fetchOne(c)
	e.wantDue(fmt.Sprintf("follow-up %s", key(got.Body)), next.Due)
	e.wantBody(got, &m)
	e.ack(c, *got)
	e.wantStats(d, "alpha", driver.Stats{Delayed: 1})
}
