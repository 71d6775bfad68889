package dramatiq

import (
	"context"
	"fmt"
	"time"

	"github.com/dramatiq-go/dramatiq/wire"
)

// Envelope is the form in which a message travels; see package wire.
type Envelope = wire.Envelope

// Message is a message to an actor, built and not necessarily sent. Out is the type of its result, None if it has none.
// It is a value that can be copied, and sent more than once: each time the same job.
type Message[Out any] struct {
	m *message
}

// Job is a message that was sent to an actor with a result.
type Job[Out any] struct {
	Message[Out]
}

// AnyMessage is a Message or a Job of any type.
type AnyMessage interface {
	// ID returns the identity of the job.
	ID() string
	// Envelope returns a copy of what travels.
	Envelope() *Envelope
	// Err returns what is wrong with the message, nil if nothing is.
	Err() error

	message() *message
}

// message is what messages of all types have in common. It is not changed once it was built.
type message struct {
	def        *definition
	env        *wire.Envelope
	delay      time.Duration
	eta        time.Time
	positional bool
	err        error
}

// ID returns the identity of the job, a UUID that it keeps for life.
func (m Message[Out]) ID() string { return m.m.env.ID }

// Envelope returns a copy of what travels: queue, actor, arguments, options.
func (m Message[Out]) Envelope() *Envelope { return m.m.env.Clone() }

// Err returns what is wrong with the message: an invalid actor or option, or arguments that cannot be encoded.
func (m Message[Out]) Err() error { return m.m.err }

// String names the actor and the message.
func (m Message[Out]) String() string { return m.m.env.Actor + " " + m.m.env.ID }

func (m Message[Out]) message() *message { return m.m }

func newMessage[In any](d *definition, in In, opts []SendOption) *message {
	m := &message{def: d, positional: d.positional, env: &wire.Envelope{
		Queue:     d.queue,
		Actor:     d.name,
		ID:        wire.NewID(),
		Timestamp: time.Now().UnixMilli(),
	}}
	if d.err != nil {
		m.err = d.err
		return m
	}
	for _, opt := range opts {
		err := errNilOption
		if opt != nil {
			err = opt.applySend(m)
		}
		if err != nil {
			m.err = fmt.Errorf("dramatiq: message to actor %q: %w", d.name, err)
			return m
		}
	}
	if err := encodeArgs(m.env, d.plan, in, m.positional); err != nil {
		m.err = fmt.Errorf("dramatiq: arguments of a message to actor %q: %w", d.name, err)
	}
	return m
}

// Outgoing is a message on its way to the broker, as enqueue hooks see it.
type Outgoing struct {
	// Message is what travels; its queue is the canonical one and it carries no eta. Hooks may change its options.
	Message *Envelope
	// Due is when it may run; zero means at once.
	Due time.Time
}

// NewOutgoing returns a message to an actor that is known by name only, with arguments as raw JSON; empty ones mean none.
func NewOutgoing(queue, actor string, args, kwargs []byte) Outgoing {
	return Outgoing{Message: &wire.Envelope{
		Queue:     queue,
		Actor:     actor,
		Args:      args,
		Kwargs:    kwargs,
		ID:        wire.NewID(),
		Timestamp: time.Now().UnixMilli(),
	}}
}

// outgoing returns the message as it is sent now. Each sending has options of its own, as hooks may change them.
func (m *message) outgoing() Outgoing {
	out := Outgoing{Message: m.env.Clone(), Due: m.eta}
	if m.delay > 0 {
		out.Due = time.Now().Add(m.delay)
	}
	return out
}

// Sender sends messages: a Broker at once, FollowUps with the settlement of the message that is running, a broker's Using
// in a transaction.
type Sender interface {
	// Send sends messages, in as few round trips as possible. It returns nil when all were accepted; otherwise, if there
	// was more than one, the error is a *SendError.
	Send(ctx context.Context, messages ...AnyMessage) error
}

func sendOne(ctx context.Context, s Sender, m AnyMessage) error {
	if s == nil {
		return fmt.Errorf("dramatiq: send to actor %q: %w", m.message().env.Actor, ErrNoBroker)
	}
	return s.Send(ctx, m)
}

func sendMany[M AnyMessage](ctx context.Context, s Sender, messages []M) error {
	if s == nil {
		return fmt.Errorf("dramatiq: send messages: %w", ErrNoBroker)
	}
	all := make([]AnyMessage, len(messages))
	for i, m := range messages {
		all[i] = m
	}
	err := s.Send(ctx, all...)
	if err != nil && len(all) == 1 {
		err = &SendError{Errs: []error{err}} // the same form for any number
	}
	return err
}
