package dramatiq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/dramatiq-go/dramatiq/wire"
)

// DefaultQueue is the queue of actors that name none.
const DefaultQueue = "default"

// Actor is a function that runs in workers and gives nothing back: a name, a queue, options, the type of its arguments
// and, unless it was only declared, its handler. It is a value without ties to any broker and safe for concurrent use.
//
// In decides how arguments travel:
//   - a struct is sent as keyword arguments by its JSON names (or as positional ones, see Positional); it is received
//     from keyword arguments, positional ones in the order of its fields, or a mixture;
//   - None sends nothing;
//   - RawArgs is both lists as raw JSON;
//   - Arg[T] is one positional argument, also where T is a struct;
//   - any other type is one positional argument.
type Actor[In any] struct {
	def *definition
}

// Func is an actor with a result.
type Func[In, Out any] struct {
	def *definition
}

// AnyActor is an Actor or a Func of any type.
type AnyActor interface {
	// Name returns the actor's name, by which messages find it.
	Name() string
	// Queue returns the queue its messages are sent to.
	Queue() string

	definition() *definition
}

// Actors is a list of actors, as a worker takes it. One that was only declared is known to the worker, as the target of
// callbacks for instance, but its queue is not consumed on its account.
type Actors []AnyActor

// definition is what actors of all types have in common.
type definition struct {
	name       string
	queue      string
	priority   int
	positional bool
	hasResult  bool
	options    map[string]any
	callbacks  []*definition // actors that options name
	plan       *argsPlan
	invoke     func(ctx context.Context, env *wire.Envelope) (json.RawMessage, error) // nil when only declared
	err        error
}

// Name implements AnyActor.
func (d *definition) Name() string { return d.name }

// Queue implements AnyActor.
func (d *definition) Queue() string { return d.queue }

func (d *definition) definition() *definition { return d }

// nilDefinition stands for an actor that is a nil pointer.
func nilDefinition() *definition {
	return &definition{err: fmt.Errorf("dramatiq: %w: it is nil", ErrInvalidActor)}
}

// NewActor declares an actor and its handler in one.
func NewActor[In any](name string, handler func(ctx context.Context, in In) error, opts ...ActorOption) *Actor[In] {
	return Declare[In](name, opts...).Handle(handler)
}

// NewFunc declares an actor with a result, and its handler.
func NewFunc[In, Out any](
	name string, handler func(ctx context.Context, in In) (Out, error), opts ...ActorOption,
) *Func[In, Out] {
	return DeclareFunc[In, Out](name, opts...).Handle(handler)
}

// Declare declares an actor whose handler is elsewhere: bound later with Handle, in another binary, or in Python. It can
// be sent to and used as a callback. An actor whose handler sends to itself is written like this, too, as Go refuses
// package variables that refer to each other in a circle.
func Declare[In any](name string, opts ...ActorOption) *Actor[In] {
	return &Actor[In]{newDefinition[In](name, false, opts)}
}

// DeclareFunc is Declare for an actor with a result.
func DeclareFunc[In, Out any](name string, opts ...ActorOption) *Func[In, Out] {
	return &Func[In, Out]{newDefinition[In](name, true, opts)}
}

func newDefinition[In any](name string, hasResult bool, opts []ActorOption) *definition {
	d := &definition{name: name, queue: DefaultQueue, hasResult: hasResult}
	var errs []error
	if name == "" {
		errs = append(errs, errors.New("name is empty"))
	}
	for _, opt := range opts {
		if opt == nil {
			errs = append(errs, errNilOption)
		} else if err := opt.applyActor(d); err != nil {
			errs = append(errs, err)
		}
	}
	plan, err := newArgsPlan[In]()
	if err != nil {
		errs = append(errs, err)
	}
	d.plan = plan
	if err := errors.Join(errs...); err != nil {
		d.err = fmt.Errorf("dramatiq: %w %q: %w", ErrInvalidActor, name, err)
	}
	return d
}

// Handle returns the actor with a handler, for the list that a worker takes. The receiver is unchanged.
func (a *Actor[In]) Handle(handler func(ctx context.Context, in In) error) *Actor[In] {
	d := *a.def
	if handler == nil {
		d.err = errors.Join(d.err, fmt.Errorf("dramatiq: %w %q: handler is nil", ErrInvalidActor, d.name))
		return &Actor[In]{&d}
	}
	d.invoke = func(ctx context.Context, env *wire.Envelope) (json.RawMessage, error) {
		in, err := bindArgs[In](d.plan, env)
		if err != nil {
			return nil, err
		}
		return nil, handler(ctx, in)
	}
	return &Actor[In]{&d}
}

// Handle returns the actor with a handler, for the list that a worker takes. The receiver is unchanged.
func (f *Func[In, Out]) Handle(handler func(ctx context.Context, in In) (Out, error)) *Func[In, Out] {
	d := *f.def
	if handler == nil {
		d.err = errors.Join(d.err, fmt.Errorf("dramatiq: %w %q: handler is nil", ErrInvalidActor, d.name))
		return &Func[In, Out]{&d}
	}
	d.invoke = func(ctx context.Context, env *wire.Envelope) (json.RawMessage, error) {
		in, err := bindArgs[In](d.plan, env)
		if err != nil {
			return nil, err
		}
		out, err := handler(ctx, in)
		if err != nil {
			return nil, err
		}
		raw, err := encodeValue(&out)
		if err != nil {
			return nil, fmt.Errorf("dramatiq: result of actor %q: %w", d.name, err)
		}
		return raw, nil
	}
	return &Func[In, Out]{&d}
}

// Name implements AnyActor.
func (a *Actor[In]) Name() string { return a.definition().name }

// Queue implements AnyActor.
func (a *Actor[In]) Queue() string { return a.definition().queue }

func (a *Actor[In]) definition() *definition {
	if a == nil {
		return nilDefinition()
	}
	return a.def
}

// Name implements AnyActor.
func (f *Func[In, Out]) Name() string { return f.definition().name }

// Queue implements AnyActor.
func (f *Func[In, Out]) Queue() string { return f.definition().queue }

func (f *Func[In, Out]) definition() *definition {
	if f == nil {
		return nilDefinition()
	}
	return f.def
}

// Message builds a message without sending it. What is wrong with it is reported by whatever sends it.
func (a *Actor[In]) Message(in In, opts ...SendOption) Message[None] {
	return Message[None]{newMessage(a.def, in, opts)}
}

// Message builds a message without sending it. What is wrong with it is reported by whatever sends it.
func (f *Func[In, Out]) Message(in In, opts ...SendOption) Message[Out] {
	return Message[Out]{newMessage(f.def, in, opts)}
}

// Send builds a message and sends it. It returns nil only after the broker has accepted the message; an error that wraps
// ErrMaybeStored says that it may have.
func (a *Actor[In]) Send(ctx context.Context, s Sender, in In, opts ...SendOption) (Message[None], error) {
	m := a.Message(in, opts...)
	return m, sendOne(ctx, s, m)
}

// Send builds a message and sends it. It returns nil only after the broker has accepted the message; an error that wraps
// ErrMaybeStored says that it may have.
func (f *Func[In, Out]) Send(ctx context.Context, s Sender, in In, opts ...SendOption) (Job[Out], error) {
	m := f.Message(in, opts...)
	return Job[Out]{m}, sendOne(ctx, s, m)
}

// SendMany sends one message for each element of ins, in as few round trips as possible. If some were not accepted, the
// error is a *SendError that says which.
func (a *Actor[In]) SendMany(ctx context.Context, s Sender, ins []In, opts ...SendOption) ([]Message[None], error) {
	messages := make([]Message[None], len(ins))
	for i, in := range ins {
		messages[i] = a.Message(in, opts...)
	}
	return messages, sendMany(ctx, s, messages)
}

// SendMany sends one message for each element of ins, in as few round trips as possible. If some were not accepted, the
// error is a *SendError that says which.
func (f *Func[In, Out]) SendMany(ctx context.Context, s Sender, ins []In, opts ...SendOption) ([]Job[Out], error) {
	jobs := make([]Job[Out], len(ins))
	for i, in := range ins {
		jobs[i] = Job[Out]{f.Message(in, opts...)}
	}
	return jobs, sendMany(ctx, s, jobs)
}

// Bind returns the arguments of a message as the handler would get them. Its errors wrap ErrArguments.
func (a *Actor[In]) Bind(env *Envelope) (In, error) { return bindArgs[In](a.definition().plan, env) }

// Bind returns the arguments of a message as the handler would get them. Its errors wrap ErrArguments.
func (f *Func[In, Out]) Bind(env *Envelope) (In, error) {
	return bindArgs[In](f.definition().plan, env)
}

// Call runs the handler here and now, without a broker or middleware. Arguments and result are encoded and decoded on the
// way, so that it takes what a worker would take.
func (a *Actor[In]) Call(ctx context.Context, in In) error {
	_, err := call(ctx, a.def, in)
	return err
}

// Call runs the handler here and now, without a broker or middleware. Arguments and result are encoded and decoded on the
// way, so that it takes what a worker would take.
func (f *Func[In, Out]) Call(ctx context.Context, in In) (out Out, err error) {
	raw, err := call(ctx, f.def, in)
	if err != nil {
		return out, err
	}
	return out, decodeValue(raw, &out)
}

func call[In any](ctx context.Context, d *definition, in In) (json.RawMessage, error) {
	m := newMessage(d, in, nil)
	if m.err != nil {
		return nil, m.err
	}
	if d.invoke == nil {
		return nil, fmt.Errorf("dramatiq: call actor %q: %w", d.name, ErrNoHandler)
	}
	return d.invoke(ctx, m.env)
}
