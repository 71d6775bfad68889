// Package driver is the contract between the engine and a message transport. The packages memory, sqlite, rabbitmq and
// redis implement it; package drivertest proves an implementation, a third party's too. Users of the dramatiq package
// open a driver and hand it to NewBroker; only authors of drivers read further.
//
// # The contract
//
// A message is stored by Enqueue, handed to one consumer by Fetch once it is due, and leaves the store by Settle. Between
// Fetch and Settle it is claimed: it belongs to that consumer until the consumer settles it, closes, or is taken for dead
// because its lease ran out. Settling a claim that is no longer held changes nothing and reports ErrNotHeld.
//
// Settling carries what follows from it: the retry, the next step of a pipeline, callbacks. A transport with transactions
// stores the follow-ups and removes the message in one atomic step. One without them stores the follow-ups, has that
// confirmed, and only then removes the message; a crash in between repeats the message but loses nothing. There, ErrNotHeld
// means that the message comes again and its follow-ups may exist; and a nil error says that the removal was sent.
//
// All methods are safe for concurrent use, obey their context, and return errors that wrap their cause. Nothing here
// retries a write whose outcome is unknown: an error that wraps ErrMaybeStored leaves the choice to the caller.
package driver

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/dramatiq-go/dramatiq/wire"
)

var (
	// ErrMaybeStored is wrapped when a message was handed to the broker and its answer is missing.
	ErrMaybeStored = errors.New("the message may or may not have been stored")
	// ErrNotHeld is wrapped when a claim has been taken over by another consumer or ended with its session.
	ErrNotHeld = errors.New("the claim on the message is no longer held")
	// ErrMisconfigured is wrapped by errors that no waiting cures, such as a queue declared with other arguments; a worker
	// stops with it instead of trying for ever.
	ErrMisconfigured = errors.New("the broker refuses this configuration")
	// ErrClosed is wrapped by every call on a closed driver or consumer, except Close, which may be called twice.
	ErrClosed = errors.New("closed")
)

// Driver stores messages and hands them out. Opening one needs no working connection: calls fail while the broker cannot
// be reached, and succeed again by themselves when it can.
type Driver interface {
	Enqueuer

	// Declare makes queues and what belongs to them known to the broker, where it needs that. It is idempotent. Messages
	// are sent to declared queues only; a queue that vanishes later is declared again by the driver.
	Declare(ctx context.Context, queues []string) error

	// Consume registers a consumer. The broker need not be reachable.
	Consume(ctx context.Context, cfg ConsumerConfig) (Consumer, error)

	// Close releases connections. Consumers must be closed before.
	Close(ctx context.Context) error
}

// Enqueuer stores messages.
type Enqueuer interface {
	// Enqueue stores the messages, as many as it can in one round trip. It returns nil when the broker has accepted all of
	// them, and otherwise one error a message, nil for those that were accepted.
	Enqueue(ctx context.Context, messages []Message) []error
}

// Message is a message to be stored.
type Message struct {
	// Envelope names the canonical queue and carries no eta. The driver writes it in the form that its transport needs,
	// with Append, and must not change it.
	Envelope *wire.Envelope
	// Due is the earliest time at which the message may be fetched; zero means at once.
	Due time.Time
	// Priority overtakes what waits in the queue, higher numbers first; it is 0 to 255.
	Priority uint8
	// Encoder writes the envelope.
	Encoder wire.Encoder
}

// ConsumerConfig says what a consumer is for.
type ConsumerConfig struct {
	// Queues are the canonical names of the queues to consume. What waits in one must not keep back another.
	Queues []string
	// Concurrency is how many messages run at once; a transport that pushes derives its prefetch from it.
	Concurrency int
	// Encoder reads the envelopes of messages that a driver has to look into.
	Encoder wire.Encoder
	// Logger receives what the consumer does on its own: connecting, recovering, expiring. It is never nil.
	Logger *slog.Logger
}

// Consumer claims and settles messages. It keeps its claims alive by itself, whether or not it is called.
type Consumer interface {
	// Fetch waits until at least one message is due and claims up to limit of them, fairly over the queues, in the order
	// of each queue. It returns early with ctx's error; messages claimed by then are returned together with a nil error or
	// stay unclaimed. An error says that the broker cannot be reached now; the next call tries again. One that wraps
	// ErrMisconfigured may concern one queue only, and ends the consumption of all.
	//
	// A transport that pushes has messages on their way before Fetch asks for them; it keeps to twice the concurrency.
	Fetch(ctx context.Context, limit int) ([]Delivery, error)

	// Begin is called right before a message starts to run. It returns ErrNotHeld when the claim is known to be lost, and
	// for a suspect it durably records the start first. It does no I/O for other messages unless the lease is in doubt.
	Begin(ctx context.Context, d *Delivery) error

	// Settle ends claims. It returns nil when all were settled, and otherwise one error a settlement: ErrNotHeld, or an
	// error after which the very same settlement, with the same follow-ups in the same order, may be tried again.
	Settle(ctx context.Context, settlements []Settlement) []error

	// Close hands back the claims whose messages never began, and releases the consumer. Claims of messages that began
	// and are not settled are left to expire where there are leases; elsewhere they are redelivered at once.
	Close(ctx context.Context) error
}

// Delivery is one claimed message.
type Delivery struct {
	// Queue is the canonical name of the queue it was fetched from.
	Queue string
	// Body is the stored envelope, as it is; nobody has looked into it. The receiver may keep it and must not change it.
	Body []byte
	// Redelivered is true when the message had been claimed before, also if it was handed back.
	Redelivered bool
	// Suspect is true when the message was claimed by a worker that died, so that it may be what killed it. Its start is
	// recorded by Begin.
	Suspect bool
	// Crashes counts workers that died after the recorded start of this message and before its end.
	Crashes int
	// Claim is the driver's own.
	Claim any
}

// Outcome is what becomes of a claimed message.
type Outcome uint8

// The outcomes.
const (
	// Ack removes the message: it is done, or its follow-ups replace it.
	Ack Outcome = iota
	// Reject moves the message to its dead-letter queue.
	Reject
	// Requeue puts the message back, where it was if the transport can, with its counters and no recorded start. It may be
	// fetched again at once.
	Requeue
)

// String returns the outcome's name.
func (o Outcome) String() string {
	switch o {
	case Ack:
		return "ack"
	case Reject:
		return "reject"
	case Requeue:
		return "requeue"
	default:
		return "unknown"
	}
}

// Settlement ends one claim.
type Settlement struct {
	Delivery *Delivery
	Outcome  Outcome
	// FollowUps are stored in the same step; they stay unstored when the claim is no longer held.
	FollowUps []Message
	// Death says why a rejected message is dead.
	Death Death
}

// Death is the reason for a dead letter.
type Death struct {
	// Reason is one stable word or a few, such as "retries exhausted".
	Reason string
	// Detail is free text for people, such as the last error.
	Detail string
	// Body, if not nil, is stored instead of the delivery's body: the envelope with the counters of its last attempt.
	//
	// Transports that dead-letter on their own can keep none of this.
	Body []byte
}

// Append encodes the message's envelope as it is.
func (m *Message) Append(dst []byte) ([]byte, error) {
	return m.Encoder.Append(dst, m.Envelope)
}

// Misconfigured returns err, text unchanged, as an error that wraps ErrMisconfigured.
func Misconfigured(err error) error { return misconfigured{err} }

type misconfigured struct{ error }

func (e misconfigured) Unwrap() []error { return []error{ErrMisconfigured, e.error} }

// Failed returns one copy of err for each of n messages or settlements.
func Failed(err error, n int) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}
