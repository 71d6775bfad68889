package memory

import (
	"fmt"
	"sync"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

// message is one stored message. All but the links change hands under the store's lock. A message object is claimed at
// most once: when its claim is taken away, a successor takes its place in the queue, so that the pointer in a delivery
// tells for ever whether that claim is held.
type message struct {
	queue    *queue
	body     []byte
	due      time.Time
	priority uint8
	seq      uint64 // place in the queue, given when due

	redelivered bool
	suspect     bool
	crashes     int

	holder  *consumer // not nil while claimed
	begun   bool
	started bool // the start was recorded, as the message was a suspect

	prev, next *message // in a level's or a consumer's list
}

// successor returns what takes m's place when m's claim ends without settling it.
func (m *message) successor() *message {
	return &message{
		queue: m.queue, body: m.body, due: m.due, priority: m.priority, seq: m.seq,
		redelivered: true, suspect: m.suspect, crashes: m.crashes,
	}
}

// list is a doubly linked list of messages.
type list struct{ first, last *message }

func (l *list) push(m *message) {
	m.prev, m.next = l.last, nil
	if l.last == nil {
		l.first = m
	} else {
		l.last.next = m
	}
	l.last = m
}

func (l *list) remove(m *message) {
	if m.prev == nil {
		l.first = m.next
	} else {
		m.prev.next = m.next
	}
	if m.next == nil {
		l.last = m.prev
	} else {
		m.next.prev = m.prev
	}
	m.prev, m.next = nil, nil
}

// encoded is a message on its way into the store.
type encoded struct {
	queue   string
	message *message
}

// scratch holds encoding buffers, so that a body is allocated once and at its size.
var scratch = sync.Pool{New: func() any { return new([]byte) }} //nolint:gochecknoglobals // a cache without meaning

// maxScratch is the size beyond which a buffer is not kept.
const maxScratch = 1 << 20

// encode encodes messages outside of any lock. The result leaves out those that failed; errs is nil if none did.
func encode(messages []driver.Message) (result []encoded, errs []error) {
	buf := scratch.Get().(*[]byte)
	result = make([]encoded, 0, len(messages))
	for i := range messages {
		m := &messages[i]
		body, err := m.Append((*buf)[:0])
		if err != nil {
			if errs == nil {
				errs = make([]error, len(messages))
			}
			errs[i] = fmt.Errorf("memory: enqueue: %w", err)
			continue
		}
		stored := &message{body: append(make([]byte, 0, len(body)), body...), due: m.Due, priority: m.Priority}
		result = append(result, encoded{m.Envelope.Queue, stored})
		*buf = body
	}
	if cap(*buf) <= maxScratch {
		scratch.Put(buf)
	}
	return result, errs
}
