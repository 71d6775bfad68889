package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/wire"
)

// optionETA is when a message in a delay queue is due, in milliseconds since the Unix epoch.
const optionETA = "eta"

// opening is one attempt to connect, which all callers that need it share.
type opening struct {
	done      chan struct{} // closed when the other fields are set
	publisher *publisher
	err       error
}

// Enqueue publishes all messages, then waits for all confirmations. Queues that do not exist are declared.
func (d *Driver) Enqueue(ctx context.Context, messages []driver.Message) []error {
	errs := d.enqueue(ctx, messages)
	if !slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return nil
	}
	for i, err := range errs {
		if err != nil {
			errs[i] = fmt.Errorf("rabbitmq: enqueue to %q: %w", messages[i].Envelope.Queue, err)
		}
	}
	return errs
}

func (d *Driver) enqueue(ctx context.Context, messages []driver.Message) []error {
	errs := make([]error, len(messages))
	publications := make([]*publication, 0, len(messages))
	indices := make([]int, 0, len(messages)) // of the publications' messages
	now := time.Now()
	for i := range messages {
		p, err := newPublication(&messages[i], now)
		if err != nil {
			errs[i] = err
			continue
		}
		publications = append(publications, p)
		indices = append(indices, i)
	}
	for i, err := range d.publish(ctx, publications) {
		errs[indices[i]] = err
	}
	return errs
}

// newPublication writes a message as it is or, if it is not due yet, as it waits in the delay queue.
func newPublication(m *driver.Message, now time.Time) (*publication, error) {
	p := &publication{queue: m.Envelope.Queue, key: m.Envelope.Queue, priority: m.Priority}
	stored := *m
	if m.Due.After(now) {
		p.key = wire.DelayQueue(p.queue)
		stored.Envelope = m.Envelope.Clone()
		stored.Envelope.Queue = p.key
		stored.Envelope.Options.SetInt(optionETA, m.Due.Add(time.Millisecond-time.Nanosecond).UnixMilli())
	}
	var err error
	p.body, err = stored.Append(nil)
	return p, err
}

// publish stores the publications and returns one error for each, nil for those that are stored. What the server could
// not route, or what a connection that had ended unnoticed did not take, is sent once more.
func (d *Driver) publish(ctx context.Context, publications []*publication) []error {
	errs := make([]error, len(publications))
	todo := make([]int, len(publications)) // indices of those to be sent
	for i := range todo {
		todo[i] = i
	}
	for range 2 {
		if len(todo) == 0 {
			break
		}
		p, err := d.connected(ctx)
		if err == nil {
			todo, err = p.declared(ctx, publications, todo, errs)
		}
		if err != nil {
			for _, i := range todo {
				errs[i] = err
			}
			break
		}
		batch := make([]*publication, len(todo))
		for n, i := range todo {
			batch[n] = publications[i]
		}
		var again []int
		for n, o := range p.publish(ctx, batch) {
			i := todo[n]
			errs[i] = o.err
			if o.again {
				again = append(again, i)
				publications[i] = publications[i].again()
				p.topology.forget(publications[i].queue)
			}
		}
		todo = again
	}
	return errs
}

// declared makes sure that the queues of the publications in todo exist. It returns those whose queues do, and sets the
// errors of the others.
func (p *publisher) declared(ctx context.Context, publications []*publication, todo []int, errs []error) ([]int, error) {
	queues := make([]string, len(todo))
	for n, i := range todo {
		queues[n] = publications[i].queue
	}
	failed, err := p.topology.ensure(ctx, queues)
	if err != nil || len(failed) == 0 {
		return todo, err
	}
	var good []int
	for _, i := range todo {
		if errs[i] = failed[publications[i].queue]; errs[i] == nil {
			good = append(good, i)
		}
	}
	return good, nil
}

// connected returns the publisher, after connecting if need be. Callers share the attempt, which does not end with the
// context of one of them.
func (d *Driver) connected(ctx context.Context) (*publisher, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, driver.ErrClosed
	}
	if d.publisher != nil && d.publisher.alive() {
		defer d.mu.Unlock()
		return d.publisher, nil
	}
	o := d.opening
	if o == nil {
		o = &opening{done: make(chan struct{})}
		d.opening = o
		background, stop := context.WithCancel(context.WithoutCancel(ctx))
		d.stop = stop
		d.running.Go(func() {
			defer stop()
			d.open(background, o)
		})
	}
	d.mu.Unlock()
	select {
	case <-o.done:
		return o.publisher, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (d *Driver) open(ctx context.Context, o *opening) {
	o.publisher, o.err = openPublisher(ctx, &d.cfg)
	d.mu.Lock()
	defer d.mu.Unlock()
	defer close(o.done)
	d.opening = nil
	switch {
	case o.err != nil:
		if d.closed {
			o.err = errors.Join(driver.ErrClosed, o.err)
		}
	case d.closed:
		defer o.publisher.close()
		o.publisher, o.err = nil, driver.ErrClosed
	default:
		d.publisher = o.publisher
	}
}
