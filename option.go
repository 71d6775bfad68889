package dramatiq

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/dramatiq-go/dramatiq/wire"
)

// NoLimit switches a limit off where an option says that it may: MaxRetries, TimeLimit, WorkerConfig.CrashLimit.
const NoLimit = -1

// ActorOption is given when an actor is declared. Options print themselves.
type ActorOption interface {
	fmt.Stringer
	applyActor(d *definition) error
}

// SendOption is given when a message is built. Options print themselves.
type SendOption interface {
	fmt.Stringer
	applySend(m *message) error
}

// Option can be given to an actor, for all of its messages, and to a message, which then wins.
type Option interface {
	ActorOption
	SendOption
}

// OptionKey is the name and type of an option of one's own, for middleware. Values travel in the message as JSON, so
// that workers in other processes, Python's too, see them.
//
//	var Tenant = dramatiq.NewOptionKey("x-tenant", func(t string) error { … })
//
//	SendEmail.Send(ctx, broker, email, Tenant.Of("acme"))
//	tenant, ok := Tenant.From(attempt)
//
// The middleware that uses the key names it in its Options method; on an actor, a key that no middleware names is an error.
type OptionKey[T any] struct {
	name  string
	check func(T) error
}

// NewOptionKey returns a key. check, which may be nil, refuses values.
func NewOptionKey[T any](name string, check func(T) error) *OptionKey[T] {
	return &OptionKey[T]{name: name, check: check}
}

// Name returns the option's name in the message.
func (k *OptionKey[T]) Name() string { return k.name }

// Of returns the option with a value.
func (k *OptionKey[T]) Of(value T) Option {
	o := option{name: k.name, shown: fmt.Sprintf("%s(%v)", k.name, value), value: value}
	switch {
	case k.name == "" || reserved(k.name):
		o.err = fmt.Errorf("the name %q is empty or reserved; choose another, such as one with a prefix of your own", k.name)
	case k.check != nil:
		o.err = k.check(value)
	}
	if o.err == nil {
		o.raw, o.err = json.Marshal(value)
	}
	return o
}

// From returns the option's value for an attempt: the message's, else the actor's. ok is false when neither has one, or
// when the message's value is not of the key's type.
func (k *OptionKey[T]) From(a *Attempt) (value T, ok bool) {
	if raw, present := a.Message().Options.Get(k.name); present {
		err := json.Unmarshal(raw, &value)
		return value, err == nil
	}
	value, ok = a.def.options[k.name].(T)
	return value, ok
}

var errNilOption = fmt.Errorf("%w: it is nil", ErrInvalidOption)

// reserved reports whether a name belongs to Dramatiq itself (protocol 1.7).
func reserved(name string) bool {
	switch name {
	case optionETA, optionBrokerPriority, optionDelay, optionRetries, optionTraceback, optionRequeueTimestamp,
		optionMaxRetries, optionMinBackoff, optionMaxBackoff, optionRetryWhen, optionThrows, optionRetryExhausted,
		optionMaxAge, optionTimeLimit, optionNotifyShutdown, optionOnSuccess, optionOnFailure, optionPipeTarget,
		optionPipeIgnore, "redis_message_id", "group_completion_uuid", "group_completion_callbacks", "store_results",
		"result_ttl":
		return true
	default:
		return false
	}
}

// option is the ordinary kind of option: a name, a value in Go for the actor, and one on the wire for the message.
type option struct {
	name  string
	shown string
	value any
	raw   json.RawMessage // nil where the option cannot travel in a message
	err   error
}

func (o option) String() string { return o.shown }

func (o option) applyActor(d *definition) error {
	if o.err != nil {
		return fmt.Errorf("%w %s: %w", ErrInvalidOption, o.shown, o.err)
	}
	if _, twice := d.options[o.name]; twice {
		return fmt.Errorf("%w %s: %s was already given", ErrInvalidOption, o.shown, o.name)
	}
	if d.options == nil {
		d.options = map[string]any{}
	}
	d.options[o.name] = o.value
	return nil
}

func (o option) applySend(m *message) error {
	if o.err != nil {
		return fmt.Errorf("%w %s: %w", ErrInvalidOption, o.shown, o.err)
	}
	m.env.Options.Set(o.name, o.raw)
	return nil
}

// actorOnly hides an option's use on messages.
type actorOnly struct{ option option }

func (o actorOnly) String() string                 { return o.option.shown }
func (o actorOnly) applyActor(d *definition) error { return o.option.applyActor(d) }

// actorFunc and sendFunc are options that are no entries of the options object.
type actorFunc struct {
	shown string
	apply func(d *definition) error
}

func (o actorFunc) String() string                 { return o.shown }
func (o actorFunc) applyActor(d *definition) error { return o.apply(d) }

type sendFunc struct {
	shown string
	apply func(m *message) error
}

func (o sendFunc) String() string             { return o.shown }
func (o sendFunc) applySend(m *message) error { return o.apply(m) }

type positionalOption struct{}

func (positionalOption) String() string { return "Positional()" }

func (positionalOption) applyActor(d *definition) error {
	d.positional = true
	return nil
}

func (positionalOption) applySend(m *message) error {
	m.positional = true
	return nil
}

// Queue names the queue of an actor's messages; the default is "default".
func Queue(name string) ActorOption {
	return actorFunc{fmt.Sprintf("Queue(%q)", name), func(d *definition) error {
		d.queue = name
		return wire.CheckQueueName(name)
	}}
}

// Priority orders an actor's messages among those that a worker has already fetched: lower numbers run first, the default
// is 0. It does not travel and changes nothing in the broker; see BrokerPriority for that.
func Priority(n int) ActorOption {
	return actorFunc{fmt.Sprintf("Priority(%d)", n), func(d *definition) error {
		d.priority = n
		return nil
	}}
}

// Positional sends the fields of a struct as positional arguments, in their order, instead of keyword arguments.
func Positional() Option { return positionalOption{} }

// Delay keeps a message back for at least d.
func Delay(d time.Duration) SendOption {
	return sendFunc{fmt.Sprintf("Delay(%v)", d), func(m *message) error {
		if d < 0 {
			return fmt.Errorf("%w Delay(%v): must not be negative", ErrInvalidOption, d)
		}
		m.delay, m.eta = d, time.Time{}
		return nil
	}}
}

// ETA keeps a message back until t. A time in the past means at once.
func ETA(t time.Time) SendOption {
	return sendFunc{fmt.Sprintf("ETA(%s)", t.Format(time.RFC3339Nano)), func(m *message) error {
		m.delay, m.eta = 0, t
		return nil
	}}
}

// BrokerPriority lets a message overtake what waits in its queue: higher numbers, up to 255, come first. What it means
// exactly is up to the broker (protocol 1.7).
func BrokerPriority(n int) SendOption {
	return sendFunc{fmt.Sprintf("BrokerPriority(%d)", n), func(m *message) error {
		if n < 0 || n > 255 {
			return fmt.Errorf("%w BrokerPriority(%d): must be from 0 to 255", ErrInvalidOption, n)
		}
		m.env.Options.SetInt(optionBrokerPriority, int64(n))
		return nil
	}}
}

// durationOption is an option in whole milliseconds on the wire.
func durationOption(shown, name string, d, lowest time.Duration) Option {
	o := option{name: name, shown: fmt.Sprintf("%s(%v)", shown, d), value: d}
	if d < lowest {
		o.err = fmt.Errorf("must be at least %v", lowest)
	}
	o.raw, _ = json.Marshal(d.Milliseconds())
	return o
}

// Names of reserved options (protocol 1.7).
const (
	optionETA              = "eta"
	optionBrokerPriority   = "broker_priority"
	optionDelay            = "delay"
	optionRetries          = "retries"
	optionTraceback        = "traceback"
	optionRequeueTimestamp = "requeue_timestamp"
	optionMaxRetries       = "max_retries"
	optionMinBackoff       = "min_backoff"
	optionMaxBackoff       = "max_backoff"
	optionRetryWhen        = "retry_when"
	optionThrows           = "throws"
	optionRetryExhausted   = "on_retry_exhausted"
	optionMaxAge           = "max_age"
	optionTimeLimit        = "time_limit"
	optionNotifyShutdown   = "notify_shutdown"
	optionOnSuccess        = "on_success"
	optionOnFailure        = "on_failure"
	optionPipeTarget       = "pipe_target"
	optionPipeIgnore       = "pipe_ignore"
)
