package drivertest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

func delays(f Features, _ Store) bool { return f.Delays }

func delayTests() []test {
	return []test{
		{name: "a delayed message comes at its time and not before", needs: delays, run: delayKept},
		{name: "a due time in the past means at once", needs: delays, run: duePast},
		{name: "delayed messages come in the order of their due times", needs: func(f Features, _ Store) bool {
			return f.Delays && f.Ordered
		}, run: dueOrder},
		{name: "a waiting fetch learns of a nearer due time", needs: delays, run: func(e *env) { nearerDue(e, false) }},
		{name: "a waiting fetch learns of a nearer due time from another driver", needs: func(f Features, _ Store) bool {
			return f.Delays && f.Shared
		}, run: func(e *env) { nearerDue(e, true) }},
		{name: "thousands of far messages do not keep back near ones", needs: delays, run: farAndNear},
		{name: "a delay outlives its consumer", needs: delays, run: delayOutlives},
		{name: "a delay outlives its driver", needs: func(f Features, _ Store) bool {
			return f.Delays && f.Shared
		}, run: delayOutlivesDriver},
		{name: "a delayed message that is requeued comes at once", needs: delays, run: delayedRequeued},
		{name: "delayed messages of many consumers are handled once", needs: delays, run: delayedConcurrently},
	}
}

// dueIn returns a due time in whole milliseconds, the unit of the wire.
func dueIn(d time.Duration) time.Time { return time.Now().Add(d).Truncate(time.Millisecond) }

// wantDue checks that now is not before a due time, and logs by how much it is later.
func (e *env) wantDue(what string, due time.Time) {
	e.Helper()
	if late := time.Since(due); late < 0 {
		e.Errorf("%s came %v before it was due", what, -late)
	} else {
		e.Logf("%s came %v after it was due", what, late)
	}
}

func delayKept(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	for _, delay := range []time.Duration{time.Millisecond, 50 * time.Millisecond, 300 * time.Millisecond} {
		m := e.message("alpha")
		m.Due = dueIn(delay)
		e.enqueue(d, m)
		got := e.fetchOne(c)
		e.wantDue(fmt.Sprintf("a message delayed by %v", delay), m.Due)
		e.wantBody(got, &m)
		if got.Queue != "alpha" || got.Redelivered || got.Suspect {
			e.Errorf("a delayed message was delivered as %+v", *got)
		}
		e.ack(c, *got)
	}
	m := e.message("alpha")
	m.Due = time.Now().AddDate(50, 0, 0)
	e.enqueue(d, m)
	e.wantStats(d, "alpha", driver.Stats{Delayed: 1})
	e.fetchNothing(c)
}

func duePast(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	messages := e.messages("alpha", 3)
	messages[0].Due = time.Now()
	messages[1].Due = time.Now().Add(-time.Hour)
	messages[2].Due = time.Unix(0, 0)
	e.enqueue(d, messages...)
	e.ack(c, e.fetch(c, 3)...)
}

func dueOrder(e *env) {
	const n, step = 20, 25 * time.Millisecond
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	messages := e.messages("alpha", n)
	first := dueIn(150 * time.Millisecond)
	for i := range messages {
		messages[i].Due = first.Add(time.Duration(i) * step)
	}
	want := ids(messages)
	due := make(map[string]time.Time)
	for i := range messages {
		due[want[i]] = messages[i].Due
	}
	rand.Shuffle(n, func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
	e.enqueue(d, messages[:n/2]...)
	e.enqueue(d, messages[n/2:]...)
	var order []string
	for len(order) < n {
		deliveries, err := e.fetchOnce(e.context(), c, n)
		if err != nil {
			e.Fatalf("Fetch = %v", err)
		}
		for _, k := range keys(deliveries) {
			e.wantDue(k, due[k])
			order = append(order, k)
		}
		e.ack(c, deliveries...)
	}
	if !slices.Equal(order, want) {
		e.Errorf("came as %q,\nwant %q", order, want)
	}
}

func nearerDue(e *env, another bool) {
	d := e.start("alpha")
	sender := d
	if another {
		sender = e.open()
	}
	c := e.consume(d, "alpha")
	later := e.message("alpha")
	later.Due = dueIn(time.Hour)
	e.enqueue(d, later)
	answer := e.fetchLater(e.context(), c, 10)
	select {
	case a := <-answer:
		e.Fatalf("Fetch returned %q, %v; nothing is due", keys(a.deliveries), a.err)
	case <-time.After(nothingFor): // most likely it waits by now
	}
	near := e.message("alpha")
	near.Due = dueIn(100 * time.Millisecond)
	e.enqueue(sender, near)
	a := receive(e, "Fetch", answer)
	if a.err != nil {
		e.Fatalf("Fetch = %v", a.err)
	}
	e.wantDue("the nearer message", near.Due)
	e.wantBody(&a.deliveries[0], &near)
	e.ack(c, a.deliveries...)
}

func farAndNear(e *env) {
	const n = 3000
	d := e.start("alpha", "beta")
	c := e.consumeWith(d, 4, "alpha", "beta")
	messages := e.messages("alpha", n)
	for i := range messages {
		messages[i].Due = dueIn(24 * time.Hour)
	}
	e.enqueue(d, messages...)
	for _, queue := range []string{"alpha", "beta"} {
		atOnce, near := e.message(queue), e.message(queue)
		near.Due = dueIn(200 * time.Millisecond)
		e.enqueue(d, atOnce, near)
		got := e.fetchOne(c)
		e.wantBody(got, &atOnce)
		e.ack(c, *got)
		got = e.fetchOne(c)
		e.wantDue("a message behind thousands of far ones", near.Due)
		e.wantBody(got, &near)
		e.ack(c, *got)
	}
	e.wantStats(d, "alpha", driver.Stats{Delayed: n})
}

func delayOutlives(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	m := e.message("alpha")
	m.Due = dueIn(300 * time.Millisecond)
	e.enqueue(d, m)
	e.fetchNothing(c)
	e.closeConsumer(c)
	another := e.consume(d, "alpha")
	got := e.fetchOne(another)
	e.wantDue("a message whose consumer closed", m.Due)
	e.wantBody(got, &m)
	e.ack(another, *got)
}

func delayOutlivesDriver(e *env) {
	d := e.start("alpha")
	m := e.message("alpha")
	m.Due = dueIn(300 * time.Millisecond)
	e.enqueue(d, m)
	if err := d.Close(e.context()); err != nil {
		e.Fatalf("Driver.Close = %v", err)
	}
	c := e.consume(e.open(), "alpha")
	got := e.fetchOne(c)
	e.wantDue("a message whose driver closed", m.Due)
	e.wantBody(got, &m)
	e.ack(c, *got)
}

func delayedRequeued(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	m := e.message("alpha")
	m.Due = dueIn(50 * time.Millisecond)
	e.enqueue(d, m)
	for range 2 {
		got := e.fetchOne(c)
		e.wantDue("a delayed message", m.Due)
		e.settle(c, driver.Settlement{Delivery: got, Outcome: driver.Requeue})
	}
	e.closeConsumer(c)
	another := e.consume(d, "alpha")
	got := e.fetchOne(another)
	e.wantBody(got, &m)
	e.ack(another, *got)
}

func delayedConcurrently(e *env) {
	const n, consumers = 200, 4
	d := e.start("alpha")
	messages := e.messages("alpha", n)
	for i := range messages {
		messages[i].Due = dueIn(time.Duration(rand.IntN(300)) * time.Millisecond)
	}
	t := newTally(n)
	stop := e.workers(d, consumers, t, "alpha")
	e.enqueue(d, messages...)
	receive(e, "handling all messages", t.done)
	stop()
	e.wantOnce(t)
}
