package dramatiq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/internal/coalesce"
	"github.com/dramatiq-go/dramatiq/wire"
)

// DefaultMaxMessageBytes is the largest message that is sent or run unless BrokerConfig says otherwise: 16 MiB.
const DefaultMaxMessageBytes = 16 << 20

// maxKnownActors is how many declarations a broker remembers to have checked.
const maxKnownActors = 10_000

// BrokerConfig configures a Broker. The zero value is what most programs want.
type BrokerConfig struct {
	// Middleware replaces DefaultMiddleware; append to that to add to it.
	Middleware []Middleware
	// Encoder writes and reads envelopes; the default is wire.JSON, the only one that Python understands without help.
	// Arguments are JSON in any case.
	Encoder wire.Encoder
	// MaxMessageBytes is the size above which a message is refused by Send and dead-lettered by workers. The default is
	// DefaultMaxMessageBytes.
	MaxMessageBytes int
	// Logger receives what happens. The default is slog.Default().
	Logger *slog.Logger
}

// Broker is the handle through which messages are sent and workers are fed: a driver, middleware, an encoder and a logger.
// It is safe for concurrent use, and starts nothing by itself.
type Broker struct {
	driver  driver.Driver
	hooks   *hooks
	encoder wire.Encoder
	max     int
	log     *slog.Logger
	sends   *coalesce.Group[driver.Message]

	mu     sync.RWMutex           // guards below
	actors map[*definition]error  // what was found wrong with each, nil for good ones
	told   map[string]bool        // names of actors that DeclareActor hooks have been told of
	queues map[string]*queueState // declared, or being declared
}

type queueState struct {
	mu       sync.Mutex // held while declaring
	declared bool
}

// NewBroker returns a broker on an open driver. It does not talk to the driver yet.
func NewBroker(d driver.Driver, cfg BrokerConfig) (*Broker, error) {
	if d == nil {
		return nil, errors.New("dramatiq: NewBroker needs a driver; open one, for example with connect.Open")
	}
	if cfg.MaxMessageBytes < 0 {
		return nil, fmt.Errorf("dramatiq: BrokerConfig.MaxMessageBytes is %d; it must be positive, or 0 for the default",
			cfg.MaxMessageBytes)
	}
	middleware := cfg.Middleware
	if middleware == nil {
		middleware = DefaultMiddleware()
	}
	b := &Broker{
		driver:  d,
		encoder: cfg.Encoder,
		max:     cmp.Or(cfg.MaxMessageBytes, DefaultMaxMessageBytes),
		log:     cmp.Or(cfg.Logger, slog.Default()),
		actors:  map[*definition]error{},
		told:    map[string]bool{},
		queues:  map[string]*queueState{},
	}
	if b.encoder == nil {
		b.encoder = wire.JSON{}
	}
	var err error
	if b.hooks, err = newHooks(middleware, b.log); err != nil {
		return nil, err
	}
	b.sends = coalesce.New(coalesce.Config[driver.Message]{
		Do:       d.Enqueue,
		Size:     messageSize,
		MaxItems: 1000,
		MaxBytes: 4 << 20,
		Unknown:  ErrMaybeStored,
	})
	return b, nil
}

func messageSize(m driver.Message) int {
	const envelope = 200 // names, ids, punctuation
	return len(m.Envelope.Args) + len(m.Envelope.Kwargs) + envelope
}

// Close closes the driver. Workers must be stopped before.
func (b *Broker) Close(ctx context.Context) error {
	if err := b.driver.Close(ctx); err != nil {
		return fmt.Errorf("dramatiq: close broker: %w", err)
	}
	return nil
}

// Driver returns the driver, for its optional capabilities.
func (b *Broker) Driver() driver.Driver { return b.driver }

// Send implements Sender. It returns nil only after the broker has accepted all messages. Concurrent calls share round
// trips.
func (b *Broker) Send(ctx context.Context, messages ...AnyMessage) error {
	if b == nil {
		return fmt.Errorf("dramatiq: send: %w", ErrNoBroker)
	}
	return b.send(ctx, messages, b.sends.Do)
}

// Enqueue sends messages to actors that may be known by name only, as NewOutgoing makes them. It is what Send does below
// its types: hooks run, and the errors are the same.
func (b *Broker) Enqueue(ctx context.Context, messages ...Outgoing) error {
	if b == nil {
		return fmt.Errorf("dramatiq: send: %w", ErrNoBroker)
	}
	errs := make([]error, len(messages))
	for i, out := range messages {
		if out.Message == nil {
			errs[i] = errors.New("dramatiq: send: message is nil")
		} else if err := out.Message.Check(); err != nil {
			errs[i] = fmt.Errorf("dramatiq: send to actor %q: %w: %w", out.Message.Actor, ErrEncode, err)
		}
	}
	return sendResult(b.enqueue(ctx, messages, errs, b.sends.Do))
}

// Using returns a sender that stores messages through e, such as a driver's transaction, instead of directly. Hooks run
// as usual; AfterEnqueue hooks run when e has taken a message, which may be before it is committed.
func (b *Broker) Using(e driver.Enqueuer) Sender { return &boundSender{b, e} }

type boundSender struct {
	broker   *Broker
	enqueuer driver.Enqueuer
}

func (s *boundSender) Send(ctx context.Context, messages ...AnyMessage) error {
	if s.broker == nil {
		return fmt.Errorf("dramatiq: send: %w", ErrNoBroker)
	}
	return s.broker.send(ctx, messages, s.enqueuer.Enqueue)
}

type storeFunc func(ctx context.Context, messages []driver.Message) []error

func (b *Broker) send(ctx context.Context, messages []AnyMessage, store storeFunc) error {
	outs := make([]Outgoing, len(messages))
	errs := make([]error, len(messages))
	for i, m := range messages {
		outs[i], errs[i] = b.prepare(ctx, m)
	}
	return sendResult(b.enqueue(ctx, outs, errs, store))
}

// prepare returns a message as it is sent now, unless something is wrong with it or its actor.
func (b *Broker) prepare(ctx context.Context, m AnyMessage) (Outgoing, error) {
	if m == nil || m.message() == nil {
		return Outgoing{}, errors.New("dramatiq: send: message is nil")
	}
	msg := m.message()
	if msg.err != nil {
		return Outgoing{}, msg.err
	}
	if err := b.knowActor(ctx, msg.def); err != nil {
		return Outgoing{}, err
	}
	return msg.outgoing(), nil
}

// knowActor checks an actor when it is met for the first time.
func (b *Broker) knowActor(ctx context.Context, d *definition) error {
	b.mu.RLock()
	err, known := b.actors[d]
	b.mu.RUnlock()
	if known {
		return err
	}
	err = b.hooks.check(d)
	b.mu.Lock()
	if _, known = b.actors[d]; !known {
		if len(b.actors) >= maxKnownActors { // a program that declares an actor for each message must not fill the memory
			clear(b.actors)
			clear(b.told)
		}
		b.actors[d] = err
	}
	tell := err == nil && !b.told[d.name] // a contract and its bound forms are one actor
	if tell {
		b.told[d.name] = true
	}
	b.mu.Unlock()
	if tell {
		emit(ctx, b.log, b.hooks.declareActor, AnyActor(d), ActorDeclarer.DeclareActor)
	}
	return err
}

// enqueue stores messages that have no error yet, and adds the errors of those that were not accepted.
func (b *Broker) enqueue(ctx context.Context, outs []Outgoing, errs []error, store storeFunc) []error {
	ready := make([]driver.Message, 0, len(outs))
	places := make([]int, 0, len(outs))
	declared := map[string]error{} // each queue is tried once
	for i := range outs {
		if errs[i] != nil {
			continue
		}
		queue := outs[i].Message.Queue
		err, known := declared[queue]
		if !known {
			err = b.declareQueue(ctx, queue)
			declared[queue] = err
		}
		var m driver.Message
		if err == nil {
			m, err = b.admit(ctx, &outs[i])
		}
		if err != nil {
			errs[i] = sendError(&outs[i], err)
			continue
		}
		ready, places = append(ready, m), append(places, i)
	}
	if len(ready) == 0 {
		return errs
	}
	stored := store(ctx, ready)
	for j, i := range places {
		if stored != nil && stored[j] != nil {
			errs[i] = sendError(&outs[i], stored[j])
			continue
		}
		emit(ctx, b.log, b.hooks.afterEnqueue, &outs[i], AfterEnqueuer.AfterEnqueue)
	}
	return errs
}

func sendError(out *Outgoing, err error) error {
	return fmt.Errorf("dramatiq: send to actor %q on queue %q: %w", out.Message.Actor, out.Message.Queue, err)
}

// admit calls the hooks that come before a message is stored, and checks what is to be stored.
func (b *Broker) admit(ctx context.Context, out *Outgoing) (driver.Message, error) {
	env := out.Message
	if env.Actor == "" || env.ID == "" {
		return driver.Message{}, errors.New("the message needs an actor and an id")
	}
	if err := b.hooks.enqueue(ctx, out); err != nil {
		return driver.Message{}, err
	}
	if size := envelopeSize(env); size > b.max {
		return driver.Message{}, fmt.Errorf("%w: about %d bytes; BrokerConfig.MaxMessageBytes is %d", ErrTooLarge, size, b.max)
	}
	priority, _ := env.Options.Int(optionBrokerPriority)
	return driver.Message{
		Envelope: env,
		Due:      out.Due,
		Priority: uint8(min(max(priority, 0), 255)), //nolint:gosec // bounded
		Encoder:  b.encoder,
	}, nil
}

// admitFollowUp is admit for what a settlement will store, where nobody could be told of an error any more.
func (b *Broker) admitFollowUp(ctx context.Context, out *Outgoing) (driver.Message, error) {
	if err := b.declareQueue(ctx, out.Message.Queue); err != nil {
		return driver.Message{}, err
	}
	m, err := b.admit(ctx, out)
	if _, isJSON := b.encoder.(wire.JSON); err == nil && !isJSON {
		_, err = m.Append(nil)
	}
	return m, err
}

func envelopeSize(env *wire.Envelope) int {
	size := len(env.Args) + len(env.Kwargs) + len(env.Actor) + len(env.Queue) + len(env.ID) + 120
	for name, value := range env.Options.All() {
		size += len(name) + len(value) + 4
	}
	return size
}

// declareQueue makes a queue known to the broker when it is met for the first time.
func (b *Broker) declareQueue(ctx context.Context, queue string) error {
	if err := wire.CheckQueueName(queue); err != nil {
		return err
	}
	b.mu.RLock()
	state := b.queues[queue]
	b.mu.RUnlock()
	if state == nil {
		b.mu.Lock()
		if state = b.queues[queue]; state == nil {
			state = &queueState{}
			b.queues[queue] = state
		}
		b.mu.Unlock()
	}
	state.mu.Lock()
	defer state.mu.Unlock()
	if state.declared {
		return nil
	}
	if err := b.driver.Declare(ctx, []string{queue}); err != nil {
		return fmt.Errorf("declare queue: %w", err)
	}
	state.declared = true
	emit(ctx, b.log, b.hooks.declareQueue, queue, QueueDeclarer.DeclareQueue)
	return nil
}

// sendResult turns one error a message into one error.
func sendResult(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	for _, err := range errs {
		if err != nil {
			return &SendError{Errs: errs}
		}
	}
	return nil
}

// decode reads stored bytes, within the broker's limits.
func (b *Broker) decode(body []byte) (*wire.Envelope, error) {
	if len(body) > b.max {
		return nil, fmt.Errorf("%w: %d bytes; the limit is %d", ErrTooLarge, len(body), b.max)
	}
	return b.encoder.Decode(body)
}

// delayed returns when a message that waits for delay from now is due.
func delayed(delay time.Duration) time.Time {
	if delay <= 0 {
		return time.Time{}
	}
	return time.Now().Add(delay)
}
