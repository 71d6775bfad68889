package rabbitmq

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/dramatiq-go/dramatiq/driver"
)

// link is one channel that brings the messages of one queue. Its deliveries can be settled on it and nowhere else.
type link struct {
	consumer *consumer
	ch       *amqp.Channel
	ended    atomic.Bool

	// mu guards below and keeps in order what is written about deliveries.
	mu sync.Mutex
	// base and beyond tell which deliveries are settled: those with tags up to base, and those in beyond. The server
	// numbers the deliveries of a channel 1, 2, 3….
	base   uint64
	beyond map[uint64]bool
}

func newLink(c *consumer, ch *amqp.Channel) *link {
	return &link{consumer: c, ch: ch, beyond: make(map[uint64]bool)}
}

// held reports whether the link's deliveries still belong to this consumer, as far as is known here.
func (l *link) held() bool { return !l.ended.Load() && !l.ch.IsClosed() }

// end gives up the link's deliveries. No settlement is written once it has returned.
func (l *link) end() {
	l.ended.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.ch.Close() // the server takes back what is not settled
}

// settle writes what becomes of deliveries that are not settled yet.
func (l *link) settle(acks, rejects, requeues []uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.held() {
		return driver.ErrNotHeld
	}
	for _, tag := range rejects {
		if err := l.write(tag, l.ch.Nack(tag, false, false)); err != nil {
			return err
		}
	}
	for _, tag := range requeues {
		if err := l.write(tag, l.ch.Nack(tag, false, true)); err != nil {
			return err
		}
	}
	return l.ack(acks)
}

// ack acknowledges deliveries. Those before which nothing is open are acknowledged together.
func (l *link) ack(tags []uint64) error {
	slices.Sort(tags)
	prefix := 0 // how many of the tags follow the base, with nothing open in between
	for next := l.base + 1; ; next++ {
		if prefix < len(tags) && tags[prefix] == next {
			prefix++
		} else if !l.beyond[next] {
			break
		}
	}
	if prefix > 1 {
		if err := l.ch.Ack(tags[prefix-1], true); err != nil {
			return l.lost(err)
		}
		for _, tag := range tags[:prefix] {
			l.mark(tag)
		}
		tags = tags[prefix:]
	}
	for _, tag := range tags {
		if err := l.write(tag, l.ch.Ack(tag, false)); err != nil {
			return err
		}
	}
	return nil
}

// lost gives up a link on which nothing can be written.
func (l *link) lost(err error) error {
	l.ended.Store(true)
	return fmt.Errorf("%w: %w", driver.ErrNotHeld, err)
}

func (l *link) write(tag uint64, err error) error {
	if err != nil {
		return l.lost(err)
	}
	l.mark(tag)
	return nil
}

func (l *link) mark(tag uint64) {
	l.beyond[tag] = true
	for l.beyond[l.base+1] {
		l.base++
		delete(l.beyond, l.base)
	}
}
