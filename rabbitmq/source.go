package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/dramatiq-go/dramatiq/driver"
)

// consumerTag names a channel's one consumer.
const consumerTag = "dramatiq-go"

var errCancelled = errors.New("the server has stopped the consumer; the queue may have been deleted")

// source brings the messages of one queue, over channels of its own: what goes wrong with one queue leaves the others
// alone.
type source struct {
	consumer *consumer
	conn     *amqp.Connection
	topology *topology
	queue    string // canonical name
	name     string // the queue that is consumed: queue or its delay queue
	lane     int
	prefetch int
	delayed  bool
}

// run consumes until the connection or ctx ends.
func (s *source) run(ctx context.Context) {
	var pauses backoff
	for {
		started := time.Now()
		err := s.serve(ctx)
		if ctx.Err() != nil || s.conn.IsClosed() {
			return // the consumer knows
		}
		s.report(err)
		s.consumer.cfg.Logger.WarnContext(ctx, "queue is not consumed", slog.String("queue", s.name), slog.Any("error", err))
		s.topology.forget(s.queue)
		if time.Since(started) > settledAfter {
			pauses.reset()
		}
		pauses.wait(ctx, time.Since(started))
	}
}

func (s *source) report(err error) {
	place := sourceReady
	if s.delayed {
		place = sourceDelayed
	}
	s.consumer.inbox.report(s.lane, place, err)
}

// serve consumes over one channel until that ends.
func (s *source) serve(ctx context.Context) error {
	if err := s.declare(ctx); err != nil {
		return err
	}
	ch, err := s.conn.Channel()
	if err != nil {
		return err
	}
	// What has begun with a delivery may go on while ctx ends, but not once the channel has.
	linked, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	reason := make(chan error, 1)
	go func() {
		err := errEnded
		if e, ok := <-closed; ok {
			err = e
		}
		reason <- err
		cancel()
	}()
	l := newLink(s.consumer, ch)
	receive := func(deliveries <-chan amqp.Delivery) { s.hand(l, deliveries) }
	if s.delayed {
		p := &promoter{source: s, link: l}
		receive = func(deliveries <-chan amqp.Delivery) { p.hold(ctx, linked, deliveries) }
	}
	err = s.consume(ctx, ch, receive)
	l.end()
	s.consumer.inbox.drop(l, s.lane)
	if why := <-reason; err == nil {
		err = why
	}
	return err
}

func (s *source) declare(ctx context.Context) error {
	failed, err := s.topology.ensure(ctx, []string{s.queue})
	if err != nil {
		return err
	}
	return failed[s.queue]
}

// consume starts the channel's consumer, and again when the server has cancelled it because the queue was deleted: what
// was delivered before stays with this channel.
func (s *source) consume(ctx context.Context, ch *amqp.Channel, receive func(<-chan amqp.Delivery)) error {
	if err := ch.Qos(s.prefetch, 0, false); err != nil {
		return err
	}
	var pauses backoff
	for {
		started := time.Now()
		deliveries, err := ch.Consume(s.name, consumerTag, false, false, false, false, nil)
		if err != nil {
			return fmt.Errorf("consume queue %q: %w", s.name, err)
		}
		s.report(nil)
		receive(deliveries)
		if ch.IsClosed() || ctx.Err() != nil {
			return nil //nolint:nilerr // neither is a failure of this call; the channel's end has a reason of its own
		}
		s.consumer.cfg.Logger.WarnContext(ctx, "queue is not consumed", slog.String("queue", s.name), slog.Any("error", errCancelled))
		if time.Since(started) < settledAfter {
			pauses.wait(ctx, time.Since(started))
		}
		s.topology.forget(s.queue)
		if err := s.declare(ctx); err != nil {
			return err
		}
	}
}

// hand puts deliveries into the inbox until no more come.
func (s *source) hand(l *link, deliveries <-chan amqp.Delivery) {
	for d := range deliveries {
		s.consumer.inbox.put(l, s.lane, s.delivery(l, &d))
	}
}

func (s *source) delivery(l *link, d *amqp.Delivery) driver.Delivery {
	return driver.Delivery{
		Queue: s.queue, Body: d.Body, Redelivered: d.Redelivered, Claim: &claim{link: l, tag: d.DeliveryTag},
	}
}
