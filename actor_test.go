package dramatiq_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq"
)

func doNothing[In any](context.Context, In) error { return nil }

// badActors are declarations that are wrong, and what is said about them.
func badActors() map[string]struct {
	message dramatiq.AnyMessage
	actor   dramatiq.AnyActor
	says    string
} {
	type bad = struct {
		message dramatiq.AnyMessage
		actor   dramatiq.AnyActor
		says    string
	}
	type sameByTag struct {
		X int
		B int `json:"X"`
	}
	type withChannel struct {
		Fine  string
		Inner struct{ Done chan bool }
	}
	failed := dramatiq.Declare[int]("")
	nilHandler := dramatiq.NewActor[int]("a", nil)
	nilFunc := dramatiq.NewFunc[int, int]("a", nil)
	unknown := dramatiq.NewOptionKey[int]("x-unknown", nil)
	positive := dramatiq.NewOptionKey("x-positive", func(n int) error {
		if n < 1 {
			return errors.New("must be positive")
		}
		return nil
	})
	of := func(says string, opts ...dramatiq.ActorOption) bad {
		a := dramatiq.NewActor("a", doNothing[int], opts...)
		return bad{a.Message(1), a, says}
	}
	channel := dramatiq.NewActor("a", doNothing[chan int])
	function := dramatiq.NewActor("a", doNothing[func()])
	inner := dramatiq.NewActor("a", doNothing[withChannel])
	list := dramatiq.NewActor("a", doNothing[[]map[string]*complex128])
	keys := dramatiq.NewActor("a", doNothing[map[float64]string])
	wrapped := dramatiq.NewActor("a", doNothing[dramatiq.Arg[chan int]])
	twice := dramatiq.NewActor("a", doNothing[sameByTag])
	twiceByTag := dramatiq.NewActor("a", doNothing[*sameByTag])
	return map[string]bad{
		"no name":                 {failed.Message(1), failed.Handle(doNothing[int]), `invalid actor "": name is empty`},
		"nil handler":             {nilHandler.Message(1), nilHandler, "handler is nil"},
		"nil handler of a Func":   {nilFunc.Message(1), nilFunc, "handler is nil"},
		"no queue":                of("queue name is empty", dramatiq.Queue("")),
		"queue with a space":      of(`queue name "my mail" must start with a letter`, dramatiq.Queue("my mail")),
		"queue like a delay one":  of(`must not end in ".DQ"`, dramatiq.Queue("mail.DQ")),
		"queue like a dead one":   of(`must not end in ".XQ"`, dramatiq.Queue("mail.XQ")),
		"queue like a key":        of(`must not end in ".msgs"`, dramatiq.Queue("mail.msgs")),
		"reserved queue":          of("reserved", dramatiq.Queue("__mail")),
		"max retries":             of("invalid option MaxRetries(-3): must not be negative", dramatiq.MaxRetries(-3)),
		"min backoff":             of("invalid option MinBackoff(-1s): must be at least 0s", dramatiq.MinBackoff(-time.Second)),
		"max backoff":             of("invalid option MaxBackoff(-1s)", dramatiq.MaxBackoff(-time.Second)),
		"time limit":              of("invalid option TimeLimit(0s): must be at least 1ms", dramatiq.TimeLimit(0)),
		"max age":                 of("invalid option MaxAge(1µs): must be at least 1ms", dramatiq.MaxAge(time.Microsecond)),
		"retry when":              of("invalid option RetryWhen(…): function is nil", dramatiq.RetryWhen(nil)),
		"callback":                of("invalid option OnSuccess(nil): actor is nil", dramatiq.OnSuccess(nil)),
		"callback that is wrong":  of(`invalid option OnFailure(): dramatiq: invalid actor ""`, dramatiq.OnFailure(failed)),
		"option given twice":      of("max_retries was already given", dramatiq.MaxRetries(1), dramatiq.MaxRetries(1)),
		"option nobody knows":     of("no middleware of the broker knows it", unknown.Of(1)),
		"value a key refuses":     of("invalid option x-positive(0): must be positive", positive.Of(0)),
		"two errors, the first":   of("MaxRetries(-3)", dramatiq.MaxRetries(-3), dramatiq.Queue("")),
		"two errors, the second":  of("queue name is empty", dramatiq.MaxRetries(-3), dramatiq.Queue("")),
		"channel":                 {channel.Message(nil), channel, "argument type chan int cannot be encoded as JSON"},
		"function":                {function.Message(nil), function, "argument type func() cannot be encoded as JSON"},
		"channel inside":          {inner.Message(withChannel{}), inner, "field Inner: field Done: argument type chan bool"},
		"complex number":          {list.Message(nil), list, "argument type complex128"},
		"map with impossible key": {keys.Message(nil), keys, "keys must be strings or integers"},
		"channel in an Arg":       {wrapped.Message(dramatiq.Arg[chan int]{}), wrapped, "argument type chan int"},
		"two fields, one name":    {twice.Message(sameByTag{}), twice, `two fields with the JSON name "X"`},
		"behind a pointer":        {twiceByTag.Message(nil), twiceByTag, `two fields with the JSON name "X"`},
	}
}

// A bad declaration is an error of whatever uses it first, and nothing has happened by then.
func TestActor_BadDeclarations(t *testing.T) {
	t.Parallel()
	for name, test := range badActors() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check := func(who string, err error) {
				t.Helper()
				if !errors.Is(err, dramatiq.ErrInvalidActor) || !strings.Contains(err.Error(), test.says) {
					t.Errorf("the error of %s is %v; want ErrInvalidActor with %q", who, err, test.says)
				}
			}
			b, store := newTestBroker(t)
			good := dramatiq.NewActor("good", doNothing[int])
			check("Send", b.Send(t.Context(), test.message))
			var some *dramatiq.SendError
			if err := b.Send(t.Context(), good.Message(1), test.message); errors.As(err, &some) {
				check("Send beside a good one", some.Errs[1])
			} else {
				t.Errorf("the error of Send beside a good one is %v, want a *SendError", err)
			}
			_, err := dramatiq.NewWorker(b, dramatiq.Actors{good, test.actor}, dramatiq.WorkerConfig{})
			check("NewWorker", err)
			wantStats(t, store, "default", [4]int{1, 0, 0, 0})
		})
	}
}

func TestNewWorker_BadLists(t *testing.T) {
	t.Parallel()
	a := dramatiq.NewActor("a", doNothing[int])
	tests := map[string]struct {
		actors dramatiq.Actors
		cfg    dramatiq.WorkerConfig
		is     error
		says   string
	}{
		"two actors of one name": {
			dramatiq.Actors{a, dramatiq.NewActor("a", doNothing[int], dramatiq.Queue("b"))},
			dramatiq.WorkerConfig{},
			dramatiq.ErrInvalidActor, `invalid actor "a": another actor of this worker has the same name`,
		},
		"an actor and its contract": {
			dramatiq.Actors{dramatiq.Declare[int]("a"), a},
			dramatiq.WorkerConfig{},
			dramatiq.ErrInvalidActor, "another actor of this worker has the same name",
		},
		"nil":            {dramatiq.Actors{a, nil}, dramatiq.WorkerConfig{}, dramatiq.ErrInvalidActor, "nil"},
		"no actors":      {nil, dramatiq.WorkerConfig{}, nil, "a worker needs an actor with a handler, or a queue to consume"},
		"contracts only": {dramatiq.Actors{dramatiq.Declare[int]("a")}, dramatiq.WorkerConfig{}, nil, "a worker needs an actor with a handler"},
		"bad queue": {
			dramatiq.Actors{a}, dramatiq.WorkerConfig{Queues: []string{"fine", "not fine"}}, nil, `WorkerConfig.Queues: queue name "not fine"`,
		},
		"concurrency":      {dramatiq.Actors{a}, dramatiq.WorkerConfig{Concurrency: -1}, nil, "WorkerConfig.Concurrency is -1"},
		"shutdown timeout": {dramatiq.Actors{a}, dramatiq.WorkerConfig{ShutdownTimeout: -1}, nil, "WorkerConfig.ShutdownTimeout is -1ns"},
		"crash limit":      {dramatiq.Actors{a}, dramatiq.WorkerConfig{CrashLimit: -2}, nil, "WorkerConfig.CrashLimit is -2"},
		"max stuck":        {dramatiq.Actors{a}, dramatiq.WorkerConfig{MaxStuck: -2}, nil, "WorkerConfig.MaxStuck is -2"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := newTestBroker(t)
			_, err := dramatiq.NewWorker(b, test.actors, test.cfg)
			if err == nil || !strings.Contains(err.Error(), test.says) || test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("the error is %v; want %v with %q", err, test.is, test.says)
			}
		})
	}
	if _, err := dramatiq.NewWorker(nil, dramatiq.Actors{a}, dramatiq.WorkerConfig{}); !errors.Is(err, dramatiq.ErrNoBroker) {
		t.Errorf("the error without a broker is %v, want ErrNoBroker", err)
	}
}

func TestNewWorker_Queues(t *testing.T) {
	t.Parallel()
	b, _ := newTestBroker(t)
	a := dramatiq.NewActor("a", doNothing[int], dramatiq.Queue("one"))
	actors := dramatiq.Actors{
		a, a, dramatiq.NewActor("b", doNothing[int]), dramatiq.NewActor("c", doNothing[int]),
		dramatiq.Declare[int]("d", dramatiq.Queue("elsewhere")),
	}
	w, err := dramatiq.NewWorker(b, actors, dramatiq.WorkerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(w.Queues(), " "); got != "default one" {
		t.Errorf("it consumes %s, want those of actors with handlers", got)
	}
}

// nobodyPanics tells what recover says, so that a panic fails one test and not the whole run.
func nobodyPanics(t *testing.T, what string) {
	t.Helper()
	if value := recover(); value != nil {
		t.Errorf("%s panicked: %v", what, value)
	}
}

func TestActor_TypedNil(t *testing.T) {
	t.Parallel()
	var a *dramatiq.Actor[int]
	var f *dramatiq.Func[int, int]
	b, _ := newTestBroker(t)
	t.Run("NewWorker", func(t *testing.T) {
		defer nobodyPanics(t, "NewWorker")
		if _, err := dramatiq.NewWorker(b, dramatiq.Actors{a, f}, dramatiq.WorkerConfig{}); !errors.Is(err, dramatiq.ErrInvalidActor) {
			t.Errorf("the error is %v, want ErrInvalidActor", err)
		}
	})
	t.Run("a callback", func(t *testing.T) {
		defer nobodyPanics(t, "OnSuccess")
		c := dramatiq.Declare[int]("c", dramatiq.OnSuccess(a))
		if _, err := c.Send(t.Context(), b, 1); !errors.Is(err, dramatiq.ErrInvalidOption) {
			t.Errorf("the error is %v, want ErrInvalidOption", err)
		}
	})
}

func TestActor_NilOption(t *testing.T) {
	t.Parallel()
	b, _ := newTestBroker(t)
	t.Run("of an actor", func(t *testing.T) {
		defer nobodyPanics(t, "Declare")
		if _, err := dramatiq.Declare[int]("a", nil).Send(t.Context(), b, 1); !errors.Is(err, dramatiq.ErrInvalidOption) {
			t.Errorf("the error is %v, want ErrInvalidOption", err)
		}
	})
	t.Run("of a message", func(t *testing.T) {
		defer nobodyPanics(t, "Message")
		if _, err := dramatiq.Declare[int]("a").Send(t.Context(), b, 1, nil); !errors.Is(err, dramatiq.ErrInvalidOption) {
			t.Errorf("the error is %v, want ErrInvalidOption", err)
		}
	})
}

func TestActor_HandleLeavesTheReceiver(t *testing.T) {
	t.Parallel()
	contract := dramatiq.DeclareFunc[int, string]("a", dramatiq.Queue("q"))
	one := contract.Handle(func(context.Context, int) (string, error) { return "one", nil })
	two := contract.Handle(func(context.Context, int) (string, error) { return "two", nil })
	if got, err := one.Call(t.Context(), 1); got != "one" || err != nil {
		t.Errorf("one gives %q, %v", got, err)
	}
	if got, err := two.Call(t.Context(), 1); got != "two" || err != nil {
		t.Errorf("two gives %q, %v", got, err)
	}
	if _, err := contract.Call(t.Context(), 1); !errors.Is(err, dramatiq.ErrNoHandler) {
		t.Errorf("the contract's error is %v, want ErrNoHandler", err)
	}
	if one.Name() != "a" || one.Queue() != "q" {
		t.Errorf("its name is %q and its queue %q", one.Name(), one.Queue())
	}
}

func TestActor_Call(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	fail := dramatiq.NewFunc("fail", func(context.Context, dramatiq.None) (int, error) { return 1, boom })
	if n, err := fail.Call(t.Context(), dramatiq.None{}); n != 0 || !errors.Is(err, boom) {
		t.Errorf("it gives %d, %v; want 0 and the handler's error", n, err)
	}
	var got any
	keep := dramatiq.NewActor("keep", func(_ context.Context, in any) error {
		got = in
		return nil
	})
	if err := keep.Call(t.Context(), 7); err != nil || got != 7.0 {
		t.Errorf("the handler got %#v, %v; want what a worker would have decoded", got, err)
	}
	if err := keep.Call(t.Context(), make(chan int)); !errors.Is(err, dramatiq.ErrEncode) {
		t.Errorf("the error is %v, want ErrEncode", err)
	}
	if err := dramatiq.NewActor("", doNothing[int]).Call(t.Context(), 1); !errors.Is(err, dramatiq.ErrInvalidActor) {
		t.Errorf("the error is %v, want ErrInvalidActor", err)
	}
	channel := dramatiq.NewFunc("channel", func(context.Context, int) (any, error) { return make(chan int), nil })
	if _, err := channel.Call(t.Context(), 1); !errors.Is(err, dramatiq.ErrEncode) {
		t.Errorf("the error is %v, want ErrEncode", err)
	}
	raw := dramatiq.NewFunc("raw", func(_ context.Context, in json.RawMessage) (json.RawMessage, error) { return in, nil })
	if out, err := raw.Call(t.Context(), json.RawMessage(`[NaN]`)); err != nil || string(out) != `[NaN]` {
		t.Errorf("it gives %s, %v", out, err)
	}
	none := dramatiq.NewFunc("none", func(context.Context, int) (dramatiq.None, error) { return dramatiq.None{}, nil })
	if _, err := none.Call(t.Context(), 1); err != nil {
		t.Error(err)
	}
}

func TestActor_SendWithoutABroker(t *testing.T) {
	t.Parallel()
	a := dramatiq.Declare[int]("a")
	f := dramatiq.DeclareFunc[int, int]("f")
	var none *dramatiq.Broker
	ctx := t.Context()
	_, nilSender := a.Send(ctx, nil, 1)
	_, nilBroker := f.Send(ctx, none, 1)
	_, manyNil := a.SendMany(ctx, nil, []int{1})
	_, manyBroker := f.SendMany(ctx, none, []int{1, 2})
	_, followUp := a.Send(ctx, dramatiq.FollowUps(ctx), 1)
	_, outside := f.Send(ctx, dramatiq.BrokerFrom(ctx), 1)
	for i, err := range []error{
		nilSender, nilBroker, manyNil, manyBroker, followUp, outside, none.Enqueue(ctx, dramatiq.NewOutgoing("q", "a", nil, nil)),
	} {
		if !errors.Is(err, dramatiq.ErrNoBroker) {
			t.Errorf("error %d is %v, want ErrNoBroker", i, err)
		}
	}
}

func TestActor_MessagesAreValues(t *testing.T) {
	t.Parallel()
	b, store := newTestBroker(t)
	m := dramatiq.Declare[int]("a", dramatiq.Queue("q")).Message(7)
	same := m
	if m.ID() == "" || same.ID() != m.ID() || m.String() != "a "+m.ID() {
		t.Errorf("the message is %v with id %q, its copy has %q", m, m.ID(), same.ID())
	}
	m.Envelope().Options.SetInt("x", 1)
	if n := m.Envelope().Options.Len(); n != 0 {
		t.Errorf("changing a copy of the envelope has left %d options", n)
	}
	if err := b.Send(t.Context(), m, same, m); err != nil {
		t.Fatal(err)
	}
	wantStats(t, store, "q", [4]int{3, 0, 0, 0})
	if err := b.Send(t.Context(), nil, dramatiq.Message[int]{}); err == nil || !strings.Contains(err.Error(), "message is nil") {
		t.Errorf("the error of no message is %v", err)
	}
}
