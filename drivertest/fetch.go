package drivertest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

func shared(f Features, _ Store) bool { return f.Shared }

func fetchTests() []test {
	return []test{
		{name: "a fetch returns no more than its limit", run: fetchLimit},
		{name: "a waiting fetch wakes on an enqueue of the same driver", run: func(e *env) { fetchWakes(e, false) }},
		{name: "a waiting fetch wakes on an enqueue of another driver", needs: shared, run: func(e *env) { fetchWakes(e, true) }},
		{name: "a waiting fetch returns when its context ends", run: fetchCancelled},
		{name: "a fetch with a cancelled context keeps no message", run: fetchAlreadyCancelled},
		{name: "fetches that are cancelled as messages arrive lose none", run: fetchCancelledInFlight},
		{name: "two fetches of one consumer share what arrives", run: fetchTwice},
		{name: "a delivery's body stays as it is", run: bodyStays},
	}
}

func fetchLimit(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	e.enqueue(d, e.messages("alpha", 20)...)
	var all []driver.Delivery
	for _, limit := range []int{1, 1, 5, 100} {
		got, err := e.fetchOnce(e.context(), c, limit)
		if err != nil {
			e.Fatalf("Fetch = %v", err)
		}
		all = append(all, got...)
	}
	all = append(all, e.fetch(c, 20-len(all))...)
	e.ack(c, all...)
}

// fetched is an answer of Fetch.
type fetched struct {
	deliveries []driver.Delivery
	err        error
}

// fetchLater calls Fetch in a goroutine, which has ended when the test has.
func (e *env) fetchLater(ctx context.Context, c driver.Consumer, limit int) <-chan fetched {
	ctx, cancel := context.WithCancel(ctx)
	answer := make(chan fetched, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		deliveries, err := e.fetchOnce(ctx, c, limit)
		answer <- fetched{deliveries, err}
	}()
	e.Cleanup(func() {
		cancel()
		<-done
	})
	return answer
}

// receive waits for an answer.
func receive[T any](e *env, what string, answers <-chan T) T {
	e.Helper()
	select {
	case a := <-answers:
		return a
	case <-time.After(e.store.Patience):
		e.Fatalf("%s: no answer within %v", what, e.store.Patience)
		panic("unreachable")
	}
}

// fetchWakes covers both orders: an enqueue before the fetch waits, and one that finds it waiting.
func fetchWakes(e *env, another bool) {
	d := e.start("alpha")
	sender := d
	if another {
		sender = e.open()
	}
	c := e.consume(d, "alpha")
	for range 5 {
		answer := e.fetchLater(e.context(), c, 10)
		select {
		case a := <-answer:
			e.Fatalf("Fetch on an empty queue returned %q, %v", keys(a.deliveries), a.err)
		case <-time.After(nothingFor): // by now it waits, most likely; if not, the test is only weaker
		}
		e.enqueue(sender, e.message("alpha"))
		a := receive(e, "Fetch after an enqueue", answer)
		if a.err != nil {
			e.Fatalf("Fetch = %v", a.err)
		}
		e.ack(c, a.deliveries...)
	}
}

func fetchCancelled(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	ctx, cancel := context.WithCancel(e.context())
	answer := e.fetchLater(ctx, c, 10)
	cancel()
	a := receive(e, "Fetch after its context was cancelled", answer)
	e.wantError("Fetch after its context was cancelled", a.err, context.Canceled)
	e.fetchNothing(c) // a deadline's error
	m := e.message("alpha")
	e.enqueue(d, m)
	got := e.fetchOne(c)
	e.wantBody(got, &m)
	e.ack(c, *got)
}

func fetchAlreadyCancelled(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	e.enqueue(d, e.messages("alpha", 3)...)
	ctx, cancel := context.WithCancel(e.context())
	cancel()
	deliveries, err := c.Fetch(ctx, 10)
	if err == nil { // allowed: claimed by then and returned
		e.ack(c, deliveries...)
		return
	}
	e.wantError("Fetch with a cancelled context", err, context.Canceled)
	e.closeConsumer(c)
	another := e.consume(d, "alpha")
	e.ack(another, e.fetch(another, 3)...)
}

// fetchCancelledInFlight races cancellations with arrivals. What no fetch returned must be to be had by others once the
// consumer is closed.
func fetchCancelledInFlight(e *env) {
	const n = 200
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	var wg sync.WaitGroup
	wg.Go(func() {
		for range n {
			m := e.message("alpha")
			e.ledger.stored(m) // before it can be settled
			if errs := d.Enqueue(e.context(), []driver.Message{m}); errs != nil {
				e.Errorf("Enqueue = %v", errs)
				return
			}
		}
	})
	seen := make(map[string]bool)
	for i := range n {
		ctx, cancel := context.WithTimeout(e.context(), time.Duration(i%10)*100*time.Microsecond)
		deliveries, err := c.Fetch(ctx, 3)
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			e.Errorf("Fetch = %v", err)
		}
		e.once(seen, deliveries)
		e.ack(c, deliveries...) // through another context: the fetch's has ended
	}
	wg.Wait()
	e.closeConsumer(c)
	another := e.consume(d, "alpha")
	for len(seen) < n && !e.Failed() {
		got := e.fetch(another, 1)
		e.once(seen, got)
		e.ack(another, got...)
	}
}

func acks(deliveries []driver.Delivery) []driver.Settlement {
	settlements := make([]driver.Settlement, len(deliveries))
	for i := range deliveries {
		settlements[i].Delivery = &deliveries[i]
	}
	return settlements
}

// once marks deliveries as seen and complains about what was seen before.
func (e *env) once(seen map[string]bool, deliveries []driver.Delivery) {
	for _, k := range keys(deliveries) {
		if seen[k] {
			e.Errorf("%s was delivered twice", k)
		}
		seen[k] = true
	}
}

func fetchTwice(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	first := e.fetchLater(e.context(), c, 1)
	second := e.fetchLater(e.context(), c, 1)
	e.enqueue(d, e.messages("alpha", 2)...)
	seen := make(map[string]bool)
	for _, answer := range []<-chan fetched{first, second} {
		a := receive(e, "one of two fetches", answer)
		if a.err != nil {
			e.Fatalf("Fetch = %v", a.err)
		}
		e.once(seen, a.deliveries)
		e.ack(c, a.deliveries...)
	}
}

func bodyStays(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	kept := e.message("alpha")
	e.enqueue(d, kept)
	got := e.fetchOne(c)
	e.enqueue(d, e.messages("alpha", 100)...)
	for range 10 {
		e.ack(c, e.fetch(c, 10)...)
	}
	e.wantBody(got, &kept)
	e.ack(c, *got)
	e.wantBody(got, &kept)
}
