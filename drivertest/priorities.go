package drivertest

import (
	"cmp"
	"slices"

	"github.com/dramatiq-go/dramatiq/driver"
)

func priorities(f Features, _ Store) bool { return f.Priorities }

func priorityTests() []test {
	return []test{
		{name: "higher priorities go first and each level keeps its order", needs: priorities, run: priorityLevels},
		{name: "urgent messages overtake a thousand that wait", needs: priorities, run: priorityOvertakes},
		{name: "follow-ups keep their priority", needs: priorities, run: priorityFollowUps},
		{name: "requeued messages keep their priority", needs: func(f Features, _ Store) bool {
			return f.Priorities && f.RequeueFirst
		}, run: priorityRequeued},
	}
}

func (e *env) withPriorities(queue string, levels ...uint8) []driver.Message {
	messages := e.messages(queue, len(levels))
	for i := range messages {
		messages[i].Priority = levels[i]
	}
	return messages
}

// byPriority returns the ids of messages in the order in which they are to come.
func byPriority(messages []driver.Message) []string {
	sorted := slices.Clone(messages)
	slices.SortStableFunc(sorted, func(a, b driver.Message) int { return cmp.Compare(b.Priority, a.Priority) })
	return ids(sorted)
}

// priorityLevels opens the consumer last, so that a transport that pushes has nothing prefetched.
func priorityLevels(e *env) {
	d := e.start("alpha")
	messages := e.withPriorities("alpha", 0, 3, 0, 255, 3, 0, 7, 255, 1, 3, 0, 0, 7, 7, 1, 254, 0)
	e.enqueue(d, messages[:5]...)
	for _, m := range messages[5:10] {
		e.enqueue(d, m)
	}
	e.enqueue(d, messages[10:]...)
	c := e.consume(d, "alpha")
	got := e.fetch(c, len(messages))
	e.wantOrder("messages", got, byPriority(messages)...)
	e.ack(c, got...)
}

func priorityOvertakes(e *env) {
	d := e.start("alpha")
	waiting := e.messages("alpha", 1000)
	e.enqueue(d, waiting...)
	urgent := e.withPriorities("alpha", 9, 9, 9, 9, 9, 9, 9, 9, 9, 9)
	for _, m := range urgent {
		e.enqueue(d, m)
	}
	c := e.consume(d, "alpha")
	got := e.fetch(c, 12)
	e.wantOrder("urgent messages", got, append(ids(urgent), ids(waiting[:2])...)...)
	e.ack(c, got...)
}

func priorityFollowUps(e *env) {
	d := e.start("alpha", "beta")
	c := e.consume(d, "alpha")
	e.enqueue(d, e.message("alpha"))
	next := e.withPriorities("beta", 0, 5, 0, 9, 5)
	e.settle(c, driver.Settlement{Delivery: e.fetchOne(c), FollowUps: next})
	followers := e.consume(d, "beta")
	got := e.fetch(followers, len(next))
	e.wantOrder("follow-ups", got, byPriority(next)...)
	e.ack(followers, got...)
}

func priorityRequeued(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	messages := e.withPriorities("alpha", 0, 0, 5, 5)
	e.enqueue(d, messages...)
	got := e.fetch(c, 4)
	settlements := acks(got)
	for i := range settlements {
		settlements[i].Outcome = driver.Requeue
	}
	e.settle(c, settlements...)
	more := e.withPriorities("alpha", 5, 0, 9)
	e.enqueue(d, more...)
	got = e.fetch(c, 7)
	e.wantOrder("messages", got, byPriority(append(messages, more...))...)
	e.ack(c, got...)
}
