package rabbitmq

import (
	"container/heap"
	"context"
	"errors"
	"log/slog"
	"math"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/wire"
)

const (
	// promotionBatch is how many due messages are moved at once.
	promotionBatch = 256
	// promotionPause is the pause before a message that could not be moved is tried again.
	promotionPause = time.Second
)

// delayedMessage waits in a consumer until it is due, unacknowledged, so that the server keeps it.
type delayedMessage struct {
	due         time.Time
	tag         uint64
	publication *publication // what goes to the queue then
}

// dueHeap has the message that is due first on top.
type dueHeap []delayedMessage

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(delayedMessage)) }

func (h *dueHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = delayedMessage{}
	*h = old[:len(old)-1]
	return last
}

// promoter moves the messages of one delay queue to their queue when they are due, as Python's workers do: it publishes
// a copy, has that confirmed, and then removes the original.
type promoter struct {
	source  *source
	link    *link
	waiting dueHeap
}

// hold receives delayed messages until no more come or stop ends, and moves those that are due. A move that has begun is
// finished as long as the link lasts: stopping in its middle would leave both the copy and the original.
func (p *promoter) hold(stop, linked context.Context, deliveries <-chan amqp.Delivery) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case d, ok := <-deliveries:
			if !ok {
				return
			}
			p.accept(&d)
			if !p.acceptMore(deliveries) {
				return
			}
		case <-timer.C:
		case <-stop.Done():
			return
		}
		p.promote(linked)
		if len(p.waiting) > 0 {
			timer.Reset(time.Until(p.waiting[0].due))
		}
	}
}

// acceptMore receives what is there already. It returns false if no more will come.
func (p *promoter) acceptMore(deliveries <-chan amqp.Delivery) bool {
	for range promotionBatch {
		select {
		case d, ok := <-deliveries:
			if !ok {
				return false
			}
			p.accept(&d)
		default:
			return true
		}
	}
	return true
}

// accept keeps a message until it is due. One that cannot be read or written is handed out as it is, to be rejected.
func (p *promoter) accept(d *amqp.Delivery) {
	s := p.source
	envelope, err := s.consumer.cfg.Encoder.Decode(d.Body)
	if err == nil {
		due := dueTime(&envelope.Options)
		envelope.Queue = s.queue
		envelope.Options.Delete(optionETA)
		message := driver.Message{Envelope: envelope, Priority: d.Priority, Encoder: s.consumer.cfg.Encoder}
		var copied *publication
		if copied, err = newPublication(&message, time.Time{}); err == nil {
			heap.Push(&p.waiting, delayedMessage{due: due, tag: d.DeliveryTag, publication: copied})
			return
		}
	}
	s.consumer.inbox.put(p.link, s.lane, s.delivery(p.link, d))
}

// dueTime returns when a message is due; at once if its eta is no number.
func dueTime(options *wire.Options) time.Time {
	raw, _ := options.Get(optionETA)
	eta, ok := wire.ParseNumber(raw)
	switch {
	case !ok || math.IsNaN(eta) || eta < 0:
		return time.Time{}
	case eta >= 1<<53: // in the year 287396; further away, arithmetic with time would overflow
		return time.UnixMilli(1 << 53)
	default:
		return time.UnixMilli(int64(math.Ceil(eta)))
	}
}

// promote moves what is due. What fails stays and is due again after a pause.
func (p *promoter) promote(ctx context.Context) {
	now := time.Now()
	var due []delayedMessage
	for len(p.waiting) > 0 && !p.waiting[0].due.After(now) {
		due = append(due, heap.Pop(&p.waiting).(delayedMessage))
	}
	for len(due) > 0 && p.link.held() {
		batch := due[:min(len(due), promotionBatch)]
		due = due[len(batch):]
		publications := make([]*publication, len(batch))
		for i := range batch {
			publications[i] = batch[i].publication
		}
		var moved []uint64
		var failures error
		for i, err := range p.source.consumer.driver.publish(ctx, publications) {
			if err == nil {
				moved = append(moved, batch[i].tag)
				continue
			}
			failures = errors.Join(failures, err)
			again := batch[i].publication.again()
			heap.Push(&p.waiting, delayedMessage{due: now.Add(promotionPause), tag: batch[i].tag, publication: again})
		}
		if failures != nil {
			p.source.consumer.cfg.Logger.WarnContext(ctx, "delayed messages stay, moving them failed",
				slog.String("queue", p.source.queue), slog.Any("error", failures))
		}
		if err := p.link.settle(moved, nil, nil); err != nil {
			return // the server hands them out again, on another link
		}
	}
}
