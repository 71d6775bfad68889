package drivertest

import (
	"fmt"
	"strings"

	"github.com/dramatiq-go/dramatiq/driver"
)

func queueTests() []test {
	return []test{
		{name: "a consumer gets the messages of its queues only", run: isolation},
		{name: "queue names may hold dots, dashes and underscores", run: queueNames},
		{name: "a full queue does not keep back another", run: fullQueue},
		{name: "one consumer serves fifty queues", run: manyQueues},
		{name: "consumers of one driver share a queue", run: consumersShare},
	}
}

func isolation(e *env) {
	d := e.start("alpha", "beta", "gamma")
	alpha, others := e.consume(d, "alpha"), e.consume(d, "beta", "gamma")
	var messages []driver.Message
	for range 10 {
		messages = append(messages, e.message("alpha"), e.message("beta"), e.message("gamma"))
	}
	e.enqueue(d, messages...)
	check := func(c driver.Consumer, n int, queues string) {
		got := e.fetch(c, n)
		for i := range got {
			if !strings.Contains(queues, got[i].Queue) || !strings.HasPrefix(key(got[i].Body), got[i].Queue+"-") {
				e.Errorf("%s was delivered from queue %s to a consumer of %s", key(got[i].Body), got[i].Queue, queues)
			}
		}
		e.ack(c, got...)
		e.fetchNothing(c)
	}
	check(others, 20, "beta gamma")
	check(alpha, 10, "alpha")
}

func queueNames(e *env) {
	queues := []string{"a", "a.b", "a.b.c", "_a-b", "A", "a_b", "q9", "default", strings.Repeat("long", 30)}
	d := e.start(queues...)
	for _, q := range queues {
		e.enqueue(d, e.message(q))
	}
	for _, q := range queues {
		c := e.consume(d, q)
		got := e.fetchOne(c)
		if got.Queue != q || !strings.HasPrefix(key(got.Body), q+"-") {
			e.Errorf("a consumer of %s got %s of queue %s", q, key(got.Body), got.Queue)
		}
		e.ack(c, *got)
		e.fetchNothing(c)
	}
}

// fullQueue allows for what a pushing transport has prefetched, but no more.
func fullQueue(e *env) {
	const waiting, most = 1000, 200
	d := e.start("alpha", "beta", "gamma")
	e.enqueue(d, e.messages("alpha", waiting)...)
	c := e.consumeWith(d, 8, "alpha", "beta", "gamma")
	e.ack(c, e.fetch(c, 8)...)
	e.enqueue(d, e.message("beta"), e.message("gamma"))
	var others []string
	for n := 0; len(others) < 2; n++ {
		if n > most {
			e.Fatalf("%d messages of a full queue went before those of two others, of which came %q", most, others)
		}
		got := e.fetchOne(c)
		if got.Queue != "alpha" {
			others = append(others, got.Queue)
		}
		e.ack(c, *got)
	}
	e.closeConsumer(c)
	c = e.consume(d, "alpha") // the rest, in good portions
	for range (waiting - most - 100) / 50 {
		e.ack(c, e.fetch(c, 50)...)
	}
}

func manyQueues(e *env) {
	queues := make([]string, 50)
	for i := range queues {
		queues[i] = fmt.Sprintf("queue%02d", i)
	}
	d := e.start(queues...)
	c := e.consume(d, queues...)
	for round := range 2 {
		for i, q := range queues {
			if round == 0 || i%10 == 0 {
				e.enqueue(d, e.message(q))
			}
		}
		got := e.fetch(c, []int{50, 5}[round])
		seen := make(map[string]bool)
		for i := range got {
			if seen[got[i].Queue] {
				e.Errorf("queue %s twice", got[i].Queue)
			}
			seen[got[i].Queue] = true
		}
		e.ack(c, got...)
	}
}

func consumersShare(e *env) {
	d := e.start("alpha")
	first, second := e.consumeWith(d, 4, "alpha"), e.consumeWith(d, 4, "alpha")
	e.enqueue(d, e.messages("alpha", 20)...)
	e.ack(first, e.fetch(first, 4)...)
	e.closeConsumer(first) // what it has prefetched is the other's then
	for range 4 {
		e.ack(second, e.fetch(second, 4)...)
	}
	e.fetchNothing(second)
}
