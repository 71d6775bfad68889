package memory

import (
	"container/heap"
	"sync"
	"time"
)

// store is what all drivers on it share. Its lock is held for short computations only, never while anything waits.
type store struct {
	cfg Config

	mu     sync.Mutex // guards below, and all queues, messages and consumers
	queues map[string]*queue
	seq    uint64    // the last place given to a message, or id to a dead letter
	lapses []lapse   // claims to be taken back, soonest first
	sweep  time.Time // when the oldest dead letter expires; zero if there is none
}

// lapse is a consumer whose lease is running out.
type lapse struct {
	at       time.Time
	consumer *consumer
}

func newStore(cfg Config) *store {
	return &store{cfg: cfg, queues: make(map[string]*queue)}
}

// queue returns a queue, which need not have been declared.
func (s *store) queue(name string) *queue {
	q := s.queues[name]
	if q == nil {
		q = &queue{name: name}
		s.queues[name] = q
	}
	return q
}

func (s *store) nextSeq() uint64 {
	s.seq++
	return s.seq
}

// put stores messages and wakes those who wait for them.
func (s *store) put(messages []encoded, now time.Time) {
	s.tick(now)
	var q *queue
	added := 0
	for _, m := range messages {
		if q == nil || q.name != m.queue {
			if q != nil {
				q.wake(added)
			}
			q, added = s.queue(m.queue), 0
			s.promote(q, now)
		}
		added += s.add(q, m.message, now)
	}
	if q != nil {
		q.wake(added)
	}
}

// add stores one message and returns for how many fetches that is news.
func (s *store) add(q *queue, m *message, now time.Time) int {
	m.queue = q
	m.seq = s.nextSeq()
	if !m.due.After(now) {
		q.pushFresh(m)
		return 1
	}
	heap.Push(&q.delayed, m)
	if q.delayed[0] == m { // it is due before the timers of those who wait
		q.wakeAll()
	}
	return 0
}

// promote moves what is due by now from the delayed messages of a queue to the waiting ones.
func (s *store) promote(q *queue, now time.Time) {
	for len(q.delayed) > 0 && !q.delayed[0].due.After(now) {
		m := heap.Pop(&q.delayed).(*message)
		m.seq = s.nextSeq()
		q.pushFresh(m)
	}
}

// restore puts a claimed message back into its queue.
func (s *store) restore(m, successor *message) {
	m.release()
	m.queue.pushReturned(successor)
	m.queue.wake(1)
}

// release ends m's claim.
func (m *message) release() {
	m.holder.claims.remove(m)
	m.holder = nil
	m.queue.claimed--
}

// tick does what has fallen due on its own: taking back claims and dropping old dead letters. It costs nothing when
// nothing has.
func (s *store) tick(now time.Time) {
	for len(s.lapses) > 0 && !s.lapses[0].at.After(now) {
		c := s.lapses[0].consumer
		c.lapsing = false
		s.lapses[0] = lapse{}
		s.lapses = s.lapses[1:]
		for m := c.claims.first; m != nil; m = c.claims.first {
			next := m.successor()
			next.suspect = true
			if m.started {
				next.crashes++
			}
			s.restore(m, next)
		}
	}
	if !s.sweep.IsZero() && !s.sweep.After(now) {
		s.sweepDead(now)
	}
}

// lapse starts the end of a consumer's lease. Who waits for its queues must know the time.
func (s *store) lapse(c *consumer, now time.Time) {
	if c.claims.first == nil || c.lapsing {
		return
	}
	c.lapsing = true
	s.lapses = append(s.lapses, lapse{now.Add(s.cfg.LeaseTimeout), c})
	for _, q := range c.queues {
		q.wakeAll()
	}
}
