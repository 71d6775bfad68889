package rabbitmq

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/dramatiq-go/dramatiq/driver"
)

var (
	errRefused    = errors.New("the server refused the message")
	errUnroutable = errors.New("the queue does not exist, though it has just been declared")
	errEnded      = errors.New("the connection has ended")
)

// publication is one message on its way to the server.
type publication struct {
	key      string // the queue it goes to
	queue    string // that queue's canonical name
	body     []byte
	priority uint8

	// The goroutine that writes sets these.
	confirm  *amqp.DeferredConfirmation // nil if it was not written
	writeErr error

	// publisher.mu guards these.
	element  *list.Element // its place among the unconfirmed
	returned bool          // the server found no queue for it
}

// again returns the same message, ready for another attempt.
func (m *publication) again() *publication {
	return &publication{key: m.key, queue: m.queue, body: m.body, priority: m.priority}
}

// outcome is what became of a publication.
type outcome struct {
	err error
	// again is true when the message is certainly not stored and another attempt may help.
	again bool
}

// publisher is a connection with one channel in confirm mode. It ends when either ends and is then replaced as a whole.
type publisher struct {
	conn     *amqp.Connection
	ch       *amqp.Channel
	topology *topology
	batches  chan *batch
	returns  chan amqp.Return
	synced   chan chan struct{}
	ended    chan struct{} // closed when the channel has ended
	running  sync.WaitGroup

	mu          sync.Mutex // guards below
	unconfirmed list.List  // of *publication, in the order in which they were written
}

// batch is what one call publishes. Only the writing goroutine touches its publications until written is closed.
type batch struct {
	ctx          context.Context // of the call; the goroutine that writes obeys it, too
	publications []*publication
	written      chan struct{}
}

func openPublisher(ctx context.Context, cfg *Config) (*publisher, error) {
	conn, err := cfg.dial(ctx, "publisher")
	if err != nil {
		return nil, err
	}
	ch, err := await(ctx, conn.Channel)
	if err == nil {
		_, err = await(ctx, func() (struct{}, error) { return struct{}{}, ch.Confirm(false) })
	}
	if err != nil {
		closeConnection(conn)
		return nil, fmt.Errorf("connect to %v: %w", cfg, err)
	}
	p := &publisher{
		conn: conn, ch: ch, topology: newTopology(conn, cfg.MaxPriority),
		batches: make(chan *batch), synced: make(chan chan struct{}), ended: make(chan struct{}),
		returns: ch.NotifyReturn(make(chan amqp.Return, 64)),
	}
	p.running.Go(p.write)
	p.running.Go(p.listen)
	return p, nil
}

func (p *publisher) close() {
	closeConnection(p.conn)
	p.running.Wait()
}

// alive reports whether publishing makes sense.
func (p *publisher) alive() bool { return !p.conn.IsClosed() && !p.ch.IsClosed() }

// write is the only goroutine that publishes, so that callers can leave while the socket is full.
func (p *publisher) write() {
	for {
		select {
		case b := <-p.batches:
			p.writeBatch(b)
			close(b.written)
		case <-p.ended:
			return
		}
	}
}

func (p *publisher) writeBatch(b *batch) {
	var unsent error
	for _, m := range b.publications {
		if unsent == nil {
			unsent = b.ctx.Err()
		}
		if unsent != nil {
			m.writeErr = unsent
			continue
		}
		m.writeErr = p.writeOne(m)
		if m.writeErr != nil {
			unsent = errEnded
		}
	}
}

func (p *publisher) writeOne(m *publication) error {
	p.mu.Lock()
	m.element = p.unconfirmed.PushBack(m) // before it is written: it may be returned at once
	p.mu.Unlock()
	confirm, err := p.ch.PublishWithDeferredConfirm("", m.key, true, false, amqp.Publishing{
		DeliveryMode: amqp.Persistent, Priority: m.priority, Body: m.body,
	})
	m.confirm = confirm
	switch {
	case err == nil:
		return nil
	case errors.Is(err, amqp.ErrClosed): // noticed before the whole message was written
		return errEnded
	default:
		return fmt.Errorf("%w: %w", driver.ErrMaybeStored, err)
	}
}

// listen notes which messages were returned, and the end of the channel. A message's return comes before its
// confirmation; sync lets a caller who has the confirmation wait until the return has been noted.
func (p *publisher) listen() {
	for {
		select {
		case r, ok := <-p.returns:
			if !ok {
				p.end()
				return
			}
			p.markReturned(&r)
		case done := <-p.synced:
			for n := len(p.returns); n > 0; n-- {
				if r, ok := <-p.returns; ok {
					p.markReturned(&r)
				}
			}
			close(done)
		}
	}
}

func (p *publisher) end() {
	close(p.ended)
	closeConnection(p.conn) // if only the channel has ended
}

// sync waits until all returns that have arrived are noted.
func (p *publisher) sync() {
	done := make(chan struct{})
	select {
	case p.synced <- done:
		<-done
	case <-p.ended:
	}
}

// markReturned finds the message by its contents. Of several that are alike it does not matter which one it was.
func (p *publisher) markReturned(r *amqp.Return) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := p.unconfirmed.Front(); e != nil; e = e.Next() {
		m := e.Value.(*publication)
		if m.key == r.RoutingKey && bytes.Equal(m.body, r.Body) {
			m.returned = true
			m.element = nil
			p.unconfirmed.Remove(e)
			return
		}
	}
}

// publish writes the messages and waits for their confirmations.
func (p *publisher) publish(ctx context.Context, publications []*publication) []outcome {
	b := &batch{ctx: ctx, publications: publications, written: make(chan struct{})}
	select {
	case p.batches <- b:
	case <-ctx.Done():
		return slices.Repeat([]outcome{{err: ctx.Err()}}, len(publications))
	case <-p.ended:
		return slices.Repeat([]outcome{{err: errEnded, again: true}}, len(publications))
	}
	select {
	case <-b.written:
	case <-ctx.Done(): // the socket is full
		go func() {
			<-b.written // at the latest when the connection ends
			p.done(publications)
		}()
		err := fmt.Errorf("%w: %w", driver.ErrMaybeStored, ctx.Err())
		return slices.Repeat([]outcome{{err: err}}, len(publications))
	}
	outcomes := make([]outcome, len(publications))
	for i, m := range publications {
		outcomes[i] = p.confirmed(ctx, m)
	}
	p.sync()
	p.done(publications)
	for i, m := range publications {
		if m.returned {
			outcomes[i] = outcome{err: errUnroutable, again: true}
		}
	}
	return outcomes
}

// done forgets publications of which nothing more is expected; their returned is final.
func (p *publisher) done(publications []*publication) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range publications {
		if m.element != nil {
			p.unconfirmed.Remove(m.element)
			m.element = nil
		}
	}
}

// confirmed waits for the server's word on a message.
func (p *publisher) confirmed(ctx context.Context, m *publication) outcome {
	if m.writeErr != nil {
		return outcome{err: m.writeErr, again: errors.Is(m.writeErr, errEnded)}
	}
	stored, err := m.confirm.WaitContext(ctx)
	switch {
	case err != nil:
		return outcome{err: fmt.Errorf("%w: %w", driver.ErrMaybeStored, err)}
	case stored:
		return outcome{}
	case p.alive(): // the library confirms negatively what is open when a channel ends
		return outcome{err: errRefused}
	default:
		return outcome{err: fmt.Errorf("%w: %w", driver.ErrMaybeStored, errEnded)}
	}
}
