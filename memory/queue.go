package memory

import (
	"cmp"
	"container/heap"
	"slices"
	"time"
)

// queue is what is stored under one name.
type queue struct {
	name      string
	levels    []*level // highest priority first
	delayed   dueHeap
	dead      []deadLetter // oldest first
	waiting   int          // messages in levels
	claimed   int
	consumers []*consumer
	turn      int // the consumer to wake next
}

// level is the messages of one priority that are due: new ones in their order, and those that came back, which go first
// as they are older.
type level struct {
	priority uint8
	fresh    list
	returned seqHeap
}

func (q *queue) level(priority uint8) *level {
	i, found := slices.BinarySearchFunc(q.levels, priority, func(l *level, p uint8) int { return cmp.Compare(p, l.priority) })
	if !found {
		q.levels = slices.Insert(q.levels, i, &level{priority: priority})
	}
	return q.levels[i]
}

func (q *queue) pushFresh(m *message) {
	q.level(m.priority).fresh.push(m)
	q.waiting++
}

// pushReturned puts a message back where it was.
func (q *queue) pushReturned(m *message) {
	heap.Push(&q.level(m.priority).returned, m)
	q.waiting++
}

// pop takes out the first message; there must be one.
func (q *queue) pop() *message {
	for _, l := range q.levels {
		fresh := l.fresh.first
		switch {
		case len(l.returned) > 0 && (fresh == nil || l.returned[0].seq < fresh.seq):
			q.waiting--
			return heap.Pop(&l.returned).(*message)
		case fresh != nil:
			q.waiting--
			l.fresh.remove(fresh)
			return fresh
		}
	}
	panic("memory: a queue lost count of its messages")
}

// wake wakes up to n waiting fetches, each consumer's in turn.
func (q *queue) wake(n int) {
	for range q.consumers {
		if n <= 0 {
			return
		}
		q.turn++
		if q.turn >= len(q.consumers) {
			q.turn = 0
		}
		n -= q.consumers[q.turn].signal()
	}
}

// wakeAll wakes all waiting fetches.
func (q *queue) wakeAll() {
	for _, c := range q.consumers {
		c.signal()
	}
}

// dueHeap orders messages by their due time, and those of one time as they were stored.
type dueHeap []*message

func (h dueHeap) Len() int { return len(h) }

func (h dueHeap) Less(i, j int) bool {
	if !h[i].due.Equal(h[j].due) {
		return h[i].due.Before(h[j].due)
	}
	return h[i].seq < h[j].seq
}

func (h dueHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push is for package heap.
func (h *dueHeap) Push(x any) { *h = append(*h, x.(*message)) }

// Pop is for package heap.
func (h *dueHeap) Pop() any { return popLast((*[]*message)(h)) }

// next returns the next due time, if there is one.
func (h dueHeap) next() (time.Time, bool) {
	if len(h) == 0 {
		return time.Time{}, false
	}
	return h[0].due, true
}

// seqHeap orders messages by their place in the queue.
type seqHeap []*message

func (h seqHeap) Len() int { return len(h) }

func (h seqHeap) Less(i, j int) bool { return h[i].seq < h[j].seq }

func (h seqHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push is for package heap.
func (h *seqHeap) Push(x any) { *h = append(*h, x.(*message)) }

// Pop is for package heap.
func (h *seqHeap) Pop() any { return popLast((*[]*message)(h)) }

func popLast(h *[]*message) *message {
	last := len(*h) - 1
	m := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return m
}
