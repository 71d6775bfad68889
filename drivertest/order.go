package drivertest

import (
	"slices"

	"github.com/dramatiq-go/dramatiq/driver"
)

func ordered(f Features, _ Store) bool { return f.Ordered }

func requeueFirst(f Features, _ Store) bool { return f.Ordered && f.RequeueFirst }

func orderTests() []test {
	return []test{
		{name: "one consumer gets a queue's messages in the order in which they were stored", needs: ordered, run: fifo},
		{name: "each of several queues keeps its order", needs: ordered, run: fifoOfQueues},
		{name: "requeued messages go first and in their old order", needs: requeueFirst, run: requeueOrder},
		{name: "handed back messages go first and in their old order", needs: requeueFirst, run: handBackOrder},
	}
}

// wantOrder checks the order of deliveries.
func (e *env) wantOrder(what string, got []driver.Delivery, want ...string) {
	e.Helper()
	if !slices.Equal(keys(got), want) {
		e.Errorf("%s came as %q,\nwant %q", what, keys(got), want)
	}
}

func fifo(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	var want []string
	send := func(sizes ...int) {
		for _, n := range sizes {
			messages := e.messages("alpha", n)
			e.enqueue(d, messages...)
			want = append(want, ids(messages)...)
		}
	}
	send(1, 1, 5, 100, 1, 20)
	var got []driver.Delivery
	take := func(sizes ...int) {
		for _, n := range sizes {
			deliveries := e.fetch(c, n)
			e.ack(c, deliveries...)
			got = append(got, deliveries...)
		}
	}
	take(1, 30, 2, 7)
	send(1, 50)
	take(60, 60, 19)
	e.wantOrder("messages", got, want...)
}

func fifoOfQueues(e *env) {
	const n = 40
	queues := []string{"alpha", "beta", "gamma"}
	d := e.start(queues...)
	c := e.consume(d, queues...)
	want := make(map[string][]string)
	for range n / 4 {
		var batch []driver.Message
		for _, q := range queues {
			messages := e.messages(q, 4)
			want[q] = append(want[q], ids(messages)...)
			batch = append(batch, messages...)
		}
		e.enqueue(d, batch...)
	}
	got := make(map[string][]driver.Delivery)
	for range n / 4 {
		deliveries := e.fetch(c, 4*len(queues))
		for _, one := range deliveries {
			got[one.Queue] = append(got[one.Queue], one)
		}
		e.ack(c, deliveries...)
	}
	for _, q := range queues {
		e.wantOrder("messages of "+q, got[q], want[q]...)
	}
}

func requeueOrder(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	messages := e.messages("alpha", 20)
	want := ids(messages)
	e.enqueue(d, messages...)
	got := e.fetch(c, 10)
	var settlements []driver.Settlement
	for _, i := range []int{7, 2, 5, 0} {
		e.begin(c, &got[i])
		settlements = append(settlements, driver.Settlement{Delivery: &got[i], Outcome: driver.Requeue})
	}
	e.settle(c, settlements...)
	again := e.fetch(c, 4)
	e.wantOrder("requeued messages", again, want[0], want[2], want[5], want[7])
	e.settle(c, driver.Settlement{Delivery: &again[3], Outcome: driver.Requeue})
	e.settle(c, driver.Settlement{Delivery: &again[1], Outcome: driver.Requeue})
	rest := e.fetch(c, 12)
	e.wantOrder("the rest", rest, append([]string{want[2], want[7]}, want[10:]...)...)
	e.ack(c, rest...)
}

func handBackOrder(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	messages := e.messages("alpha", 20)
	want := ids(messages)
	e.enqueue(d, messages...)
	got := e.fetch(c, 10)
	e.ack(c, got[3], got[4])
	e.closeConsumer(c)
	another := e.consume(d, "alpha")
	back := e.fetch(another, 18)
	e.wantOrder("handed back messages and the rest", back, append(slices.Clone(want[:3]), want[5:]...)...)
	e.ack(another, back...)
}
