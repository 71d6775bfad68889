package dramatiq_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/memory"
)

type (
	inMail struct {
		To   string `json:"to"`
		Copy bool   `json:"copy,omitempty"`
		Body *string
		note string
		Skip string `json:"-"`
	}
	inBase struct {
		ID   int    `json:"id"`
		Kind string `json:"kind"`
	}
	inEmbedded struct {
		inBase
		Name string `json:"name"`
	}
	// InBase is exported because encoding/json cannot make embedded pointers to what is not.
	InBase struct {
		ID int `json:"id"`
	}
	inEmbeddedPointer struct {
		*InBase
		F float64 `json:"f"`
	}
	inTree struct {
		Value    float64  `json:"value"`
		Children []inTree `json:"children"`
	}
	inObjectFirst struct {
		Meta map[string]any `json:"meta"`
		N    int            `json:"n"`
	}
	inPages struct {
		First json.RawMessage `json:"first"`
		Any   any             `json:"any"`
	}
	inColour uint8 // encodes itself as text
)

func (c inColour) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "colour-%d", c), nil }

func (c *inColour) UnmarshalText(text []byte) error {
	_, err := fmt.Sscanf(string(text), "colour-%d", (*uint8)(c))
	return err
}

func pointer[T any](v T) *T { return &v }

// receive returns what an actor's handler gets from raw arguments.
func receive[In any](t *testing.T, args, kwargs string) (in In, err error) {
	t.Helper()
	outcome := make(outcomes, 1)
	b, err := dramatiq.NewBroker(memory.New(memory.Config{}), dramatiq.BrokerConfig{
		Middleware: []dramatiq.Middleware{outcome}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	actor := dramatiq.NewActor("receive", func(_ context.Context, got In) error {
		in = got
		return nil
	})
	if err := b.Enqueue(t.Context(), dramatiq.NewOutgoing("default", "receive", []byte(args), []byte(kwargs))); err != nil {
		t.Fatal(err)
	}
	w, err := dramatiq.NewWorker(b, dramatiq.Actors{actor}, dramatiq.WorkerConfig{Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	err = <-outcome
	if err := w.Drain(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	return in, err
}

// outcomes is middleware that passes on the errors of attempts.
type outcomes chan error

func (c outcomes) AfterProcess(_ context.Context, a *dramatiq.Attempt) { c <- a.Err() }

// gets says what a handler gets.
func gets[In any](args, kwargs string, want In) func(*testing.T) {
	return func(t *testing.T) {
		t.Helper()
		t.Parallel()
		got, err := receive[In](t, args, kwargs)
		if err != nil {
			t.Fatalf("args %s, kwargs %s: %v", args, kwargs, err)
		}
		// NaN is not even equal to itself.
		if !reflect.DeepEqual(got, want) && fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", want) {
			t.Errorf("args %s, kwargs %s give %#v, want %#v", args, kwargs, got, want)
		}
	}
}

// refuses says that arguments do not fit, and how that is put.
func refuses[In any](args, kwargs, text string) func(*testing.T) {
	return func(t *testing.T) {
		t.Helper()
		t.Parallel()
		got, err := receive[In](t, args, kwargs)
		if err == nil {
			t.Fatalf("args %s, kwargs %s give %#v, want an error", args, kwargs, got)
		}
		if !errors.Is(err, dramatiq.ErrArguments) || !strings.Contains(err.Error(), text) {
			t.Errorf("args %s, kwargs %s: %v; want ErrArguments with %q", args, kwargs, err, text)
		}
	}
}

func TestArgs_Sent(t *testing.T) {
	t.Parallel()
	when := time.Date(2026, 5, 1, 12, 30, 0, 5_000_000, time.FixedZone("", 7200))
	mail := inMail{To: "ada", note: "unseen", Skip: "unseen"}
	tests := []struct {
		name         string
		message      dramatiq.AnyMessage
		args, kwargs string
	}{
		{"a struct as keyword arguments", dramatiq.Declare[inMail]("a").Message(mail), "", `{"to":"ada","Body":null}`},
		{"a pointer to a struct", dramatiq.Declare[*inMail]("a").Message(&mail), "", `{"to":"ada","Body":null}`},
		{
			"an actor's fields by position, omitted ones too", dramatiq.Declare[inMail]("a", dramatiq.Positional()).Message(mail),
			`["ada",null,null]`, "",
		},
		{
			"a message's fields by position",
			dramatiq.Declare[*inMail]("a").Message(&inMail{To: "ada", Copy: true, Body: pointer("hi")}, dramatiq.Positional()),
			`["ada",true,"hi"]`, "",
		},
		{
			"embedded structs", dramatiq.Declare[inEmbedded]("a").Message(inEmbedded{inBase{1, "k"}, "n"}),
			"", `{"id":1,"kind":"k","name":"n"}`,
		},
		{
			"embedded structs by position",
			dramatiq.Declare[inEmbedded]("a", dramatiq.Positional()).Message(inEmbedded{inBase{1, "k"}, "n"}), `[1,"k","n"]`, "",
		},
		{"an empty struct", dramatiq.Declare[struct{}]("a").Message(struct{}{}), "", `{}`},
		{"a string", dramatiq.Declare[string]("a").Message("ada"), `["ada"]`, ""},
		{"a nil pointer", dramatiq.Declare[*int]("a").Message(nil), `[null]`, ""},
		{"anything", dramatiq.Declare[any]("a").Message([]any{1, "x", nil}), `[[1,"x",null]]`, ""},
		{"nil", dramatiq.Declare[any]("a").Message(nil), `[null]`, ""},
		{"a map", dramatiq.Declare[map[string]int]("a").Message(map[string]int{"b": 2, "a": 1}), `[{"a":1,"b":2}]`, ""},
		{"a time", dramatiq.Declare[time.Time]("a").Message(when), `["2026-05-01T12:30:00.005+02:00"]`, ""},
		{"what encodes itself", dramatiq.Declare[inColour]("a").Message(7), `["colour-7"]`, ""},
		{"a big number", dramatiq.Declare[*big.Int]("a").Message(big.NewInt(7)), `[7]`, ""},
		{"nothing", dramatiq.Declare[dramatiq.None]("a").Message(dramatiq.None{}), "", ""},
		{"no raw arguments", dramatiq.Declare[dramatiq.RawArgs]("a").Message(dramatiq.RawArgs{}), "", ""},
		{
			"raw arguments", dramatiq.Declare[dramatiq.RawArgs]("a").Message(
				dramatiq.RawArgs{Args: json.RawMessage(`[1.50, NaN]`), Kwargs: json.RawMessage(`{"a": -0.0}`)}),
			`[1.50, NaN]`, `{"a": -0.0}`,
		},
		{
			"a struct as one argument",
			dramatiq.Declare[dramatiq.Arg[inBase]]("a").Message(dramatiq.Arg[inBase]{Value: inBase{1, "k"}}),
			`[{"id":1,"kind":"k"}]`, "",
		},
		{"raw JSON as one argument", dramatiq.Declare[json.RawMessage]("a").Message(json.RawMessage(`[NaN,1.50]`)), `[[NaN,1.50]]`, ""},
		{"raw JSON that is nil", dramatiq.Declare[json.RawMessage]("a").Message(nil), `[null]`, ""},
		{"a number with a fraction", dramatiq.Declare[float64]("a").Message(1.5), `[1.5]`, ""},
		{"minus zero", dramatiq.Declare[dramatiq.Float]("a").Message(dramatiq.Float(math.Copysign(0, -1))), `[-0.0]`, ""},
		{"a whole Float", dramatiq.Declare[dramatiq.Float]("a").Message(1), `[1.0]`, ""},
		{"a large Float", dramatiq.Declare[dramatiq.Float]("a").Message(1e30), `[1e+30]`, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if err := test.message.Err(); err != nil {
				t.Fatal(err)
			}
			env := test.message.Envelope()
			if string(env.Args) != test.args || string(env.Kwargs) != test.kwargs {
				t.Errorf("args %s, kwargs %s; want args %s, kwargs %s", env.Args, env.Kwargs, test.args, test.kwargs)
			}
		})
	}
}

func TestArgs_CannotBeSent(t *testing.T) {
	t.Parallel()
	raw := dramatiq.Declare[dramatiq.RawArgs]("a")
	tests := map[string]dramatiq.AnyMessage{
		"NaN":                       dramatiq.Declare[float64]("a").Message(math.NaN()),
		"NaN as Float":              dramatiq.Declare[dramatiq.Float]("a").Message(dramatiq.Float(math.NaN())),
		"an infinity in a struct":   dramatiq.Declare[inTree]("a").Message(inTree{Value: math.Inf(-1)}),
		"a channel behind any":      dramatiq.Declare[any]("a").Message(make(chan int)),
		"a nil struct":              dramatiq.Declare[*inMail]("a").Message(nil),
		"a nil struct, by position": dramatiq.Declare[*inMail]("a").Message(nil, dramatiq.Positional()),
		"a channel in an Arg":       dramatiq.Declare[dramatiq.Arg[any]]("a").Message(dramatiq.Arg[any]{Value: make(chan int)}),
		"raw args, no array":        raw.Message(dramatiq.RawArgs{Args: json.RawMessage(`{}`)}),
		"raw kwargs, no object":     raw.Message(dramatiq.RawArgs{Kwargs: json.RawMessage(`[]`)}),
		"raw args, cut short":       raw.Message(dramatiq.RawArgs{Args: json.RawMessage(`[1`)}),
		"raw JSON, two values":      dramatiq.Declare[json.RawMessage]("a").Message(json.RawMessage(`1,2`)),
	}
	for name, m := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, store := newTestBroker(t)
			if err := m.Err(); !errors.Is(err, dramatiq.ErrEncode) {
				t.Errorf("the message's error is %v, want ErrEncode", err)
			}
			if err := b.Send(t.Context(), m); !errors.Is(err, dramatiq.ErrEncode) {
				t.Errorf("the error of Send is %v, want ErrEncode", err)
			}
			wantStats(t, store, "default", [4]int{})
		})
	}
}

func TestArgs_ReceivedByAStruct(t *testing.T) {
	t.Parallel()
	full := inMail{To: "ada", Copy: true, Body: pointer("hi")}
	t.Run("keywords", gets(`[]`, `{"Body":"hi","to":"ada","copy":true}`, full))
	t.Run("positions", gets(`["ada",true,"hi"]`, `{}`, full))
	t.Run("mixed", gets(`["ada"]`, `{"Body":"hi","copy":true}`, full))
	t.Run("pointer", gets(`["ada"]`, `{"Body":"hi","copy":true}`, &full))
	t.Run("fewer than there are fields", gets(`["ada"]`, ``, inMail{To: "ada"}))
	t.Run("nulls", gets(`[null,null,null]`, ``, inMail{}))
	t.Run("nothing", gets(``, ``, inMail{}))
	t.Run("nothing by pointer", gets(``, ``, &inMail{}))
	t.Run("whole object", gets(`[{"to":"ada","copy":true,"Body":"hi"}]`, ``, full))
	t.Run("embedded by keyword", gets(``, `{"name":"n","id":1,"kind":"k"}`, inEmbedded{inBase{1, "k"}, "n"}))
	t.Run("embedded by position", gets(`[1,"k","n"]`, ``, inEmbedded{inBase{1, "k"}, "n"}))
	t.Run("embedded pointer", gets(`[1]`, `{"f":2}`, inEmbeddedPointer{&InBase{1}, 2}))
	t.Run("object for a first field that holds one", gets(`[{"n":1}]`, ``, inObjectFirst{Meta: map[string]any{"n": 1.0}}))
	t.Run("whole object as a keyword argument's", gets(`[{"n":1}]`, `{"n":2}`, inObjectFirst{map[string]any{"n": 1.0}, 2}))
	t.Run("object for raw JSON", gets(`[{"any":1}]`, ``, inPages{First: json.RawMessage(`{"any":1}`)}))
	t.Run("empty struct", gets(``, ``, struct{}{}))

	t.Run("unknown keyword", refuses[inMail](``, `{"to":"ada","cc":"eve"}`, `"cc"`))
	t.Run("unknown keyword beside a position", refuses[inMail](`["ada"]`, `{"cc":"eve"}`, `"cc"`))
	t.Run("field without a JSON name", refuses[inMail](``, `{"Skip":"x"}`, `"Skip"`))
	t.Run("too many positions", refuses[inMail](`["ada",true,"hi",1]`, ``, "takes 3 positional arguments, but 4 were given"))
	t.Run("twice", refuses[inMail](`["ada"]`, `{"to":"eve"}`, `argument "to" was given by position and by name`))
	t.Run("wrong type", refuses[inMail](``, `{"to":1}`, "number"))
	t.Run("object beside a keyword", refuses[inMail](`[{"to":"ada"}]`, `{"copy":true}`, "object"))
	t.Run("two objects", refuses[inMail](`[{"to":"ada"},{}]`, ``, "object"))
	t.Run("whole object with an unknown name", refuses[inMail](`[{"cc":"eve"}]`, ``, `"cc"`))
}

func TestArgs_ReceivedByOthers(t *testing.T) {
	t.Parallel()
	when := time.Date(2026, 5, 1, 10, 30, 0, 0, time.UTC)
	t.Run("string", gets(`["ada"]`, `{}`, "ada"))
	t.Run("null", gets(`[null]`, ``, 0))
	t.Run("time", gets(`["2026-05-01T10:30:00Z"]`, ``, when))
	t.Run("decodes itself", gets(`["colour-7"]`, ``, inColour(7)))
	t.Run("map", gets(`[{"a":1}]`, ``, map[string]int{"a": 1}))
	t.Run("pointer", gets(`[7]`, ``, pointer(7)))
	t.Run("any", gets(`[[1,"x",null]]`, ``, any([]any{1.0, "x", nil})))
	t.Run("none", gets(``, ``, dramatiq.None{}))
	t.Run("struct as one argument", gets(`[{"id":1,"kind":"k"}]`, ``, dramatiq.Arg[inBase]{Value: inBase{1, "k"}}))
	t.Run("raw", gets(`[1.50,NaN]`, `{"b":1,"a":-0.0}`,
		dramatiq.RawArgs{Args: json.RawMessage(`[1.50,NaN]`), Kwargs: json.RawMessage(`{"b":1,"a":-0.0}`)}))
	t.Run("raw nothing", gets(``, ``, dramatiq.RawArgs{Args: json.RawMessage(`[]`), Kwargs: json.RawMessage(`{}`)}))

	t.Run("too few", refuses[string](``, ``, "takes 1 positional arguments, but 0 were given"))
	t.Run("too many", refuses[string](`["a","b"]`, ``, "takes 1 positional arguments, but 2 were given"))
	t.Run("keyword", refuses[string](`["a"]`, `{"b":1}`, `takes no keyword arguments, but "b" was given`))
	t.Run("none but one", refuses[dramatiq.None](`[1]`, ``, "takes 0 positional arguments, but 1 were given"))
	t.Run("none but a keyword", refuses[dramatiq.None](``, `{"b":1}`, `"b"`))
	t.Run("Arg by keywords", refuses[dramatiq.Arg[inBase]](``, `{"id":1}`, "takes 1 positional arguments, but 0 were given"))
	t.Run("wrong type", refuses[int](`["a"]`, ``, "string"))
	t.Run("fraction", refuses[int](`[1.5]`, ``, "1.5"))
}

func TestArgs_AwkwardNumbers(t *testing.T) {
	t.Parallel()
	const long = "123456789012345678901234567890"
	nan, inf := math.NaN(), math.Inf(1)
	t.Run("NaN", gets(`[NaN]`, ``, nan))
	t.Run("infinity", gets(`[Infinity]`, ``, inf))
	t.Run("minus infinity", gets(`[-Infinity]`, ``, -inf))
	t.Run("float32", gets(`[-Infinity]`, ``, float32(math.Inf(-1))))
	t.Run("Float", gets(`[NaN]`, ``, dramatiq.Float(nan)))
	t.Run("minus zero", func(t *testing.T) {
		t.Parallel()
		if got, err := receive[float64](t, `[-0.0]`, ``); err != nil || !math.Signbit(got) {
			t.Errorf("-0.0 gives %v, %v", got, err)
		}
	})
	t.Run("long integer", gets(`[`+long+`]`, ``, 1.2345678901234568e29))
	t.Run("any", gets(`[[NaN,{"a":[-Infinity]},`+long+`,"NaN"]]`, ``,
		any([]any{nan, map[string]any{"a": []any{-inf}}, 1.2345678901234568e29, "NaN"})))
	t.Run("any alone", gets(`[NaN]`, ``, any(nan)))
	t.Run("raw JSON", gets(`[[NaN,`+long+`]]`, ``, json.RawMessage(`[NaN,`+long+`]`)))
	t.Run("number", gets(`[`+long+`]`, ``, json.Number(long)))
	t.Run("pointer", gets(`[Infinity]`, ``, &inf))
	t.Run("slices", gets(`[[[1,NaN],[],null]]`, ``, [][]float64{{1, nan}, {}, nil}))
	t.Run("array", gets(`[[NaN,2]]`, ``, [3]float64{nan, 2, 0}))
	t.Run("map", gets(`[{"a":NaN,"b":1}]`, ``, map[string]float64{"a": nan, "b": 1}))
	t.Run("struct", gets(`[NaN]`, `{"children":[{"value":Infinity,"children":null}]}`,
		inTree{nan, []inTree{{inf, nil}}}))
	t.Run("embedded pointer", func(t *testing.T) {
		t.Parallel()
		if got, err := receive[inEmbeddedPointer](t, ``, `{"id":1,"f":NaN}`); err != nil || got.ID != 1 || !math.IsNaN(got.F) {
			t.Errorf("it gives %+v, %v", got, err)
		}
	})
	t.Run("raw JSON in a struct", gets(``, `{"first":[NaN],"any":`+long+`}`,
		inPages{json.RawMessage(`[NaN]`), 1.2345678901234568e29}))
	t.Run("whole object", gets(`[{"value":NaN}]`, ``, inTree{Value: nan}))
	t.Run("Arg", gets(`[{"value":NaN}]`, ``, dramatiq.Arg[inTree]{Value: inTree{Value: nan}}))
	t.Run("words in texts", gets(`["NaN \"Infinity"]`, ``, `NaN "Infinity`))

	t.Run("NaN as int", refuses[int](`[NaN]`, ``, "NaN"))
	t.Run("NaN as text", refuses[string](`[NaN]`, ``, "NaN"))
	t.Run("NaN under an unknown name", refuses[inTree](``, `{"val":NaN}`, `"val"`))
	t.Run("NaN deep inside", refuses[inTree](``, `{"children":[{"value":NaN,"children":[{"value":"x"}]}]}`, `"children"`))
	t.Run("object as float", refuses[[]float64](`[[{"a":NaN}]]`, ``, "cannot decode"))
	t.Run("NaN as an interface", refuses[fmt.Stringer](`[NaN]`, ``, "Stringer"))
	t.Run("long integer as int", refuses[int](`[`+long+`]`, ``, long))
}

func TestArgs_EmbeddedUnderAName(t *testing.T) {
	t.Parallel()
	type in struct {
		InBase `json:"base"` // so it is one field, whose members are not promoted
		Name   string        `json:"name"`
	}
	want := in{InBase{1}, "n"}
	t.Run("keywords", gets(``, `{"base":{"id":1},"name":"n"}`, want))
	t.Run("positions", gets(`[{"id":1},"n"]`, ``, want))
	t.Run("sent", func(t *testing.T) {
		t.Parallel()
		m := dramatiq.Declare[in]("a", dramatiq.Positional()).Message(want)
		if got := string(m.Envelope().Args); got != `[{"id":1},"n"]` {
			t.Errorf("args %s", got)
		}
	})
}

func TestArgs_EmbeddedAndLeftOut(t *testing.T) {
	t.Parallel()
	type in struct {
		InBase `json:"-"`
		Name   string `json:"name"`
	}
	t.Run("keywords", gets(``, `{"name":"n"}`, in{Name: "n"}))
	t.Run("positions", gets(`["n"]`, ``, in{Name: "n"}))
	t.Run("not finite", refuses[in](``, `{"name":"n","id":NaN}`, `"id"`))
}

// inExact has a method for decoding itself, which must be asked whatever the value.
type inExact map[string]string

func (e *inExact) UnmarshalJSON(raw []byte) error {
	*e = inExact{"raw": string(raw)}
	return nil
}

func TestArgs_UnmarshalersGetWhatIsNotFinite(t *testing.T) {
	t.Parallel()
	t.Run("finite", gets(`[{"a":1}]`, ``, inExact{"raw": `{"a":1}`}))
	t.Run("not finite", gets(`[{"a":NaN}]`, ``, inExact{"raw": `{"a":NaN}`}))
}

// inCents encodes itself, with a pointer receiver.
type inCents struct{ cents int }

func (c *inCents) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "%d", c.cents), nil }

func (c *inCents) UnmarshalJSON(raw []byte) error { return json.Unmarshal(raw, &c.cents) }

func TestArgs_MarshalersWithPointerReceivers(t *testing.T) {
	t.Parallel()
	if m := dramatiq.Declare[inCents]("a").Message(inCents{995}); m.Err() != nil || string(m.Envelope().Args) != `[995]` {
		t.Errorf("args %s, error %v; want [995]", m.Envelope().Args, m.Err())
	}
}

func TestArgs_PointerToArg(t *testing.T) {
	t.Parallel()
	defer func() {
		if value := recover(); value != nil {
			t.Errorf("building a message panicked: %v", value)
		}
	}()
	m := dramatiq.Declare[*dramatiq.Arg[int]]("a").Message(&dramatiq.Arg[int]{Value: 1})
	if m.Err() == nil && string(m.Envelope().Args) != `[1]` {
		t.Errorf("args %s, want [1] or an error", m.Envelope().Args)
	}
}
