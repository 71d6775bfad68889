package dramatiq_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/wire"
)

func TestConformance_Case001_SendsWhatPythonSends(t *testing.T) {
	onStage(t, func(s *stage) {
		t := s.t
		add := dramatiq.DeclareFunc[addArgs, int]("add", dramatiq.Queue("w"), dramatiq.Positional())
		job, err := add.Send(t.Context(), s.broker, addArgs{1, 2})
		if err != nil {
			t.Fatal(err)
		}
		m := s.takeOne("w")
		if m.wait != 0 {
			t.Errorf("it was delayed by %v", m.wait)
		}
		for _, name := range []string{"plain-args", "plain-redis"} {
			got, want := envelope(t, m.body), envelope(t, golden(t, name)).without("redis_message_id")
			if got["message_id"] != job.ID() {
				t.Errorf("the message id is %v, and the job's %s", got["message_id"], job.ID())
			}
			fresh(t, got, want, goldenTime)
			wantSame(t, "the message", got, want)
		}
	})
}

func TestConformance_Case002_RunsWhatPythonSends(t *testing.T) {
	onStage(t, func(s *stage) {
		t := s.t
		var got []addArgs
		add := dramatiq.NewFunc("add", func(_ context.Context, in addArgs) (int, error) {
			got = append(got, in)
			return in.X + in.Y, nil
		}, dramatiq.Queue("w"))
		for _, name := range []string{"plain-args", "plain-redis"} {
			s.put("w", golden(t, name))
			s.run(0, add)
		}
		if want := []addArgs{{1, 2}, {1, 2}}; !reflect.DeepEqual(got, want) {
			t.Errorf("the actor got %v, want %v", got, want)
		}
		s.wantEmpty("w")
		s.wantDead("w", "")
	})
}

// vector is the string of the torture vector (protocol 1.8).
const vector = "é \u2028 😀 \x7f </script> & \" \\ / \b\f\n\r\t\x00"

func TestConformance_Case003_AwkwardStrings(t *testing.T) {
	onStage(t, func(s *stage) {
		t := s.t
		// Sent by Go, escaped and raw.
		raw, err := json.Marshal([]string{vector})
		if err != nil || !strings.Contains(string(raw), "é") {
			t.Fatalf("%s, %v", raw, err)
		}
		escaped := append(wire.AppendString([]byte{'['}, vector), ']')
		echo := dramatiq.Declare[dramatiq.RawArgs]("echo", dramatiq.Queue("w"))
		for _, args := range []json.RawMessage{raw, escaped} {
			in := dramatiq.RawArgs{Args: args, Kwargs: json.RawMessage(`{"kw":"v"}`)}
			if _, err := echo.Send(t.Context(), s.broker, in); err != nil {
				t.Fatal(err)
			}
			got, want := envelope(t, s.takeOne("w").body), envelope(t, golden(t, "strings"))
			fresh(t, got, want, goldenTime)
			wantSame(t, "the message", got, want)
		}
		if _, err := dramatiq.Declare[string]("echo", dramatiq.Queue("w")).Send(t.Context(), s.broker, vector); err != nil {
			t.Fatal(err)
		}
		wantSame(t, "the typed argument", envelope(t, s.takeOne("w").body)["args"], envelope(t, golden(t, "strings"))["args"])

		// Received from Python, escaped and raw.
		var got []string
		ok := dramatiq.NewActor("ok", func(_ context.Context, text string) error {
			got = append(got, text)
			return nil
		}, dramatiq.Queue("w"))
		type withKeyword struct {
			Text string `json:"text"`
			Kw   string `json:"kw"`
		}
		both := dramatiq.NewActor("echo", func(_ context.Context, in withKeyword) error {
			got = append(got, in.Text, in.Kw)
			return nil
		}, dramatiq.Queue("w"))
		for _, name := range []string{"accept/raw-utf8", "accept/escapes", "strings"} {
			s.put("w", golden(t, name))
			s.run(0, ok, both)
		}
		want := []string{"é \u2028 😀 \x7f </script> & \" \\ /", "é \u2028 😀 \x7f / \b\f\n\r\t\x00 A", vector, "v"}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("the actors got %q, want %q", got, want)
		}
	})
}

// torture has a field for each argument of the torture vector.
type torture struct {
	Text   string         `json:"text"`
	One    float64        `json:"one"`
	E20    float64        `json:"e20"`
	E16    float64        `json:"e16"`
	Tiny   float64        `json:"tiny"`
	Big    *big.Int       `json:"big"`
	Zero   float64        `json:"zero"`
	Tenth  float64        `json:"tenth"`
	NaN    float64        `json:"nan"`
	Inf    *float64       `json:"inf"`
	NegInf any            `json:"neg_inf"`
	Null   *int           `json:"null"`
	True   bool           `json:"true"`
	Nested []any          `json:"nested"`
	Object map[string]any `json:"object"`
	Keys   map[string]int `json:"keys"`
	Kw     string         `json:"kw"`
}

func TestConformance_Case004_EncodingTorture(t *testing.T) {
	onStage(t, func(s *stage) {
		t := s.t
		var got []torture
		echo := dramatiq.NewActor("echo", func(_ context.Context, in torture) error {
			got = append(got, in)
			return nil
		})
		s.put("default", golden(t, "torture"))
		s.run(0, echo)
		s.wantDead("default", "")
		s.wantEmpty("default")
		if len(got) != 1 {
			t.Fatalf("it ran %d times", len(got))
		}
		in := got[0]
		if in.Text != vector || in.One != 1 || in.E20 != 1e20 || in.E16 != 1e16 || in.Tiny != 1e-7 || in.Tenth != 0.1 {
			t.Errorf("%+v", in)
		}
		if in.Big.String() != "123456789012345678901234567890" {
			t.Errorf("the integer is %v", in.Big)
		}
		if math.Float64bits(in.Zero) != 1<<63 || !math.IsNaN(in.NaN) || !math.IsInf(*in.Inf, 1) || !math.IsInf(in.NegInf.(float64), -1) {
			t.Errorf("-0.0 is %v, NaN is %v, Infinity is %v, -Infinity is %v", in.Zero, in.NaN, *in.Inf, in.NegInf)
		}
		if in.Null != nil || !in.True || !reflect.DeepEqual(in.Nested, []any{1.0, []any{2.0}}) || in.Kw != "v" ||
			!reflect.DeepEqual(in.Object, map[string]any{"b": 1.0, "a": map[string]any{"2": nil}}) ||
			!reflect.DeepEqual(in.Keys, map[string]int{"1": 4, "null": 3, "1.5": 6}) {
			t.Errorf("%+v", in)
		}
	})
}

// The same for all that is hard to hold: the bytes reach the actor and, if it fails, the retry.
func TestConformance_Case004_NothingIsLost(t *testing.T) {
	for _, name := range []string{"torture", "numbers", "lone-surrogates", "nested-200", "nested-900", "accept/numbers"} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			onStage(t, func(s *stage) {
				t := s.t
				var got seen
				body := golden(t, name)
				env, err := wire.JSON{}.Decode(body)
				if err != nil {
					t.Fatal(err)
				}
				s.put("w", body)
				s.run(0, got.actor(env.Actor, kaboom))
				args := got.all(t, 1)[0].args
				if string(args.Args) != string(env.Args) || string(args.Kwargs) != string(env.Kwargs) {
					t.Errorf("the actor got %s %s", args.Args, args.Kwargs)
				}
				again, err := wire.JSON{}.Decode(s.takeOne("w").body)
				if err != nil {
					t.Fatal(err)
				}
				if n, _ := again.Options.Int("retries"); n != 1 {
					t.Errorf("retries is %d", n)
				}
				if string(again.Args) != string(env.Args) || string(again.Kwargs) != string(env.Kwargs) {
					t.Errorf("the retry has %s %s", again.Args, again.Kwargs)
				}
			})
		})
	}
}

func TestConformance_Case005_ExactNumbers(t *testing.T) {
	onStage(t, func(s *stage) {
		t := s.t
		type numbers struct {
			Big   int64
			Float float64
		}
		echo := dramatiq.Declare[numbers]("echo", dramatiq.Queue("w"), dramatiq.Positional())
		if _, err := echo.Send(t.Context(), s.broker, numbers{9007199254740993, 1.5}); err != nil {
			t.Fatal(err)
		}
		body := s.takeOne("w").body
		got, want := envelope(t, body), envelope(t, golden(t, "big-int-and-float"))
		fresh(t, got, want, goldenTime)
		wantSame(t, "the message", got, want)

		var back numbers
		s.put("w", golden(t, "big-int-and-float"))
		s.put("w", body)
		runs := 0
		s.run(0, dramatiq.NewActor("echo", func(_ context.Context, in numbers) error {
			runs++
			back.Big += in.Big // that no number comes twice is seen in the sum
			back.Float += in.Float
			return nil
		}, dramatiq.Queue("w")))
		if want := (numbers{2 * 9007199254740993, 3}); back != want || runs != 2 {
			t.Errorf("the sum of %d runs is %v, want %v", runs, back, want)
		}

		// A whole number stays a float if that is wanted.
		if _, err := dramatiq.Declare[dramatiq.Float]("echo", dramatiq.Queue("w")).Send(t.Context(), s.broker, 1); err != nil {
			t.Fatal(err)
		}
		wantSame(t, "Float(1)", envelope(t, s.takeOne("w").body)["args"], []any{number("1.0")})
	})
}

// Go's retries of a message are Python's retries of it, two failures long: the counter, the time, the place.
func TestConformance_Case006_RetryKeepsTheMessage(t *testing.T) {
	for _, style := range []string{"rabbit", "redis"} {
		for n, step := range []struct{ in, out string }{{"0", "1"}, {"1-promoted", "2"}} {
			t.Run(style+"-"+step.out, func(t *testing.T) {
				onStage(t, func(s *stage) {
					t := s.t
					retriesLikePython(s, golden(t, "retry-"+style+"-"+step.in), golden(t, "retry-"+style+"-"+step.out),
						3*time.Second<<n)
				})
			})
		}
	}
}

// retriesLikePython has a message fail and holds the retry against Python's, whose backoff had the random factor 1.5.
func retriesLikePython(s *stage, in, out []byte, backoff time.Duration) {
	t := s.t
	t.Helper()
	want := envelope(t, out)
	instant := func(option string) time.Time {
		ms, err := strconv.ParseInt(string(want.options()[option].(number)), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return time.UnixMilli(ms)
	}
	failure := instant("requeue_timestamp")
	time.Sleep(time.Until(failure))
	var runs seen
	s.put("w", in)
	s.run(0, runs.actor("boom", kaboom))
	args := runs.all(t, 1)[0].args
	if string(args.Args) != "[123456789012345678901234567890,NaN]" || string(args.Kwargs) != `{"name":"v"}` {
		t.Errorf("the actor got %s %s", args.Args, args.Kwargs)
	}
	m := s.takeOne("w")
	got := envelope(t, m.body)

	// In a memory, a delay is not part of the message; Python keeps it there.
	if m.wait < backoff || m.wait >= 2*backoff || m.wait%time.Millisecond != 0 {
		t.Errorf("it is delayed by %v, want %v to %v", m.wait, backoff, 2*backoff)
	}
	if python := instant("eta").Sub(failure); python != backoff*3/2 {
		t.Errorf("Python delays by %v, and we by %v and more", python, backoff)
	}
	if want["queue_name"] != "w.DQ" {
		t.Errorf("Python's queue is %v", want["queue_name"])
	}
	want["queue_name"] = "w"
	want.without("eta")
	failedAt(t, got, want, failure)
	if id, ok := want.options()["redis_message_id"]; ok { // Python's driver gives each copy a new one
		wantSame(t, "redis_message_id", got.options()["redis_message_id"], envelope(t, in).options()["redis_message_id"])
		got.options()["redis_message_id"] = id
	}
	wantSame(t, "the retry", got, want)
	for _, value := range []string{"123456789012345678901234567890,NaN]", `"x-big":123456789012345678901234567890`, `"x-trace":"abc"`} {
		if !strings.Contains(string(m.body), value) {
			t.Errorf("%s is missing in %s", value, m.body)
		}
	}
}

func TestConformance_Case007_NoArguments(t *testing.T) {
	onStage(t, func(s *stage) {
		t := s.t
		sent := dramatiq.Declare[dramatiq.None]("echo", dramatiq.Queue("w"))
		raw := dramatiq.Declare[dramatiq.RawArgs]("echo", dramatiq.Queue("w"))
		if _, err := sent.Send(t.Context(), s.broker, dramatiq.None{}); err != nil {
			t.Fatal(err)
		}
		if _, err := raw.Send(t.Context(), s.broker, dramatiq.RawArgs{}); err != nil {
			t.Fatal(err)
		}
		if err := s.broker.Enqueue(t.Context(), dramatiq.NewOutgoing("w", "echo", nil, nil)); err != nil {
			t.Fatal(err)
		}
		all := s.take("w")
		if len(all) != 3 {
			t.Fatalf("%d messages", len(all))
		}
		for _, m := range all {
			if !strings.Contains(string(m.body), `"args":[],"kwargs":{},`) {
				t.Errorf("it is %s", m.body)
			}
			got, want := envelope(t, m.body), envelope(t, golden(t, "no-args"))
			fresh(t, got, want, goldenTime)
			wantSame(t, "the message", got, want)
			s.put("w", m.body)
		}

		runs := 0
		s.put("w", golden(t, "no-args"))
		s.run(0, dramatiq.NewActor("echo", func(context.Context, dramatiq.None) error {
			runs++
			return nil
		}, dramatiq.Queue("w")))
		if runs != 4 {
			t.Errorf("it ran %d times, want 4", runs)
		}
	})
}

func TestConformance_Case008_SendsKeywordArguments(t *testing.T) {
	onStage(t, func(s *stage) {
		t := s.t
		add := dramatiq.DeclareFunc[addArgs, int]("add", dramatiq.Queue("w"))
		if _, err := add.Send(t.Context(), s.broker, addArgs{1, 2}); err != nil {
			t.Fatal(err)
		}
		got, want := envelope(t, s.takeOne("w").body), envelope(t, golden(t, "kwargs-only"))
		fresh(t, got, want, goldenTime)
		wantSame(t, "the message", got, want)
	})
}

func TestConformance_Case009_ReceivesKeywordArguments(t *testing.T) {
	onStage(t, func(s *stage) {
		t := s.t
		var typed addArgs
		var raw seen
		s.put("w", golden(t, "kwargs-only"))
		s.run(0, dramatiq.NewActor("add", func(_ context.Context, in addArgs) error {
			typed = in
			return nil
		}, dramatiq.Queue("w")))
		s.put("w", golden(t, "kwargs-only"))
		s.run(0, raw.actor("add", succeed))
		if want := (addArgs{1, 2}); typed != want {
			t.Errorf("the actor got %v, want %v", typed, want)
		}
		if got := raw.all(t, 1)[0].args; string(got.Args) != "[]" || string(got.Kwargs) != `{"x":1,"y":2}` {
			t.Errorf("the raw arguments are %s %s", got.Args, got.Kwargs)
		}
		s.wantEmpty("w")
	})
}

// traceOption is a free option, and middleware that reads it.
type traceOption struct{ got []string }

var xTrace = dramatiq.NewOptionKey[string]("x-trace", nil)

func (m *traceOption) BeforeProcess(_ context.Context, a *dramatiq.Attempt) error {
	value, ok := xTrace.From(a)
	m.got = append(m.got, fmt.Sprint(value, ok))
	return nil
}

func TestConformance_Case010_FreeOptions(t *testing.T) {
	middleware := &traceOption{}
	onStage(t, func(s *stage) {
		t := s.t
		raw := func(name, value string) dramatiq.SendOption {
			return dramatiq.NewOptionKey[json.RawMessage](name, nil).Of(json.RawMessage(value))
		}
		const id = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		add := dramatiq.DeclareFunc[addArgs, int]("add", dramatiq.Queue("w"), dramatiq.Positional())
		_, err := add.Send(t.Context(), s.broker, addArgs{1, 2}, xTrace.Of(id), raw("x-nested", `{"a":[1,2.0,null],"b":{}}`),
			raw("x-big", "123456789012345678901234567890"), raw("x-rate", "1.0"), raw("x-null", "null"), dramatiq.MaxRetries(3))
		if err != nil {
			t.Fatal(err)
		}
		ours := s.takeOne("w").body
		got, want := envelope(t, ours), envelope(t, golden(t, "free-options"))
		fresh(t, got, want, goldenTime)
		wantSame(t, "the message", got, want)

		// They survive a retry, whoever sent them, and middleware sees them at every attempt.
		var runs seen
		for _, body := range [][]byte{ours, golden(t, "free-options")} {
			before, err := wire.JSON{}.Decode(body)
			if err != nil {
				t.Fatal(err)
			}
			s.put("w", body)
			s.run(0, runs.actor("add", kaboom))
			m := s.takeOne("w")
			after, err := wire.JSON{}.Decode(m.body)
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range before.Options.All() {
				if kept, _ := after.Options.Get(name); string(kept) != string(value) {
					t.Errorf("option %s is %s after a retry, and was %s", name, kept, value)
				}
			}
			if added := after.Options.Len() - before.Options.Len(); added != 3 {
				t.Errorf("%d options were added, want 3: %s", added, m.body)
			}
			s.put("w", m.body)
			s.run(0, runs.actor("add", succeed))
		}
		runs.all(t, 4)
		for _, got := range middleware.got {
			if got != id+"true" && got != fmt.Sprint(id, true) {
				t.Errorf("middleware saw %s", got)
			}
		}
		if len(middleware.got) != 4 {
			t.Errorf("middleware saw %d attempts", len(middleware.got))
		}
	}, middleware)
}

func TestConformance_Case011_NoIDNoTimestamp(t *testing.T) {
	for _, test := range []struct {
		name             string
		noID, noTimetamp bool
	}{
		{"accept/missing-both", true, true},
		{"accept/missing-message-id", true, false},
		{"accept/missing-message-timestamp", false, true},
	} {
		t.Run(filepath.Base(test.name), func(t *testing.T) {
			onStage(t, func(s *stage) {
				t := s.t
				var runs seen
				time.Sleep(1500 * time.Millisecond) // so that a made up timestamp differs from the golden one
				received := time.Now()
				s.put("w", golden(t, test.name))
				s.run(0, runs.actor("ok", kaboom))
				got := envelope(t, runs.all(t, 1)[0].body)
				if id := got["message_id"].(string); test.noID != uuid4.MatchString(id) || !test.noID && id != "m1" {
					t.Errorf("the id is %s", id)
				}
				want := goldenTime
				if test.noTimetamp {
					want = received
				}
				if got["message_timestamp"] != millis(want) {
					t.Errorf("the timestamp is %v, want %v", got["message_timestamp"], millis(want))
				}
				wantSame(t, "args", got["args"], []any{number("1")})

				again := envelope(t, s.takeOne("w").body)
				wantSame(t, "the retry's id", again["message_id"], got["message_id"])
				wantSame(t, "the retry's timestamp", again["message_timestamp"], got["message_timestamp"])
			})
		})
	}
}

// rejected puts golden files that are no messages between good ones, and expects them in the dead-letter queue as they
// were, and the good ones to run.
func rejected(s *stage, names ...string) {
	t := s.t
	t.Helper()
	var runs seen
	good := golden(t, "accept/whitespace")
	bodies := make([][]byte, len(names))
	s.put("w", good)
	for i, name := range names {
		bodies[i] = golden(t, "reject/"+name)
		s.put("w", bodies[i])
		s.put("w", good)
	}
	s.run(0, runs.actor("ok", succeed))
	runs.all(t, len(names)+1)
	s.wantDead("w", dramatiq.ReasonUndecodable, bodies...)
	s.wantEmpty("w")

	s.put("w", good) // and it goes on
	s.run(0, runs.actor("ok", succeed))
	runs.all(t, len(names)+2)
}

func TestConformance_Case012_BadBodyIsDeadLetteredUnchanged(t *testing.T) {
	onStage(t, func(s *stage) {
		t := s.t
		rejected(s, "bad-brace")
		letters, err := s.store.DeadLetters(t.Context(), "w", "", 1)
		if err != nil || len(letters) != 1 || string(letters[0].Body) != "{bad" || letters[0].Death.Detail == "" {
			t.Errorf("%+v, %v", letters, err)
		}
	})
}

func TestConformance_Case013_BadBetweenGood(t *testing.T) {
	onStage(t, func(s *stage) { rejected(s, "bad-brace", "bad-brace") })
}

func TestConformance_Case014_WrongMembers(t *testing.T) {
	onStage(t, func(s *stage) { rejected(s, "extra-member", "args-null", "options-null") })
}

func TestConformance_Case014_EveryRejectedFile(t *testing.T) {
	onStage(t, func(s *stage) {
		t := s.t
		paths, err := filepath.Glob("testdata/wire/reject/*.json")
		if err != nil || len(paths) < 60 {
			t.Fatalf("%d files, %v", len(paths), err)
		}
		for i, p := range paths {
			paths[i] = strings.TrimSuffix(filepath.Base(p), ".json")
		}
		rejected(s, paths...)
	})
}

// ranAt has a golden file run, as an actor that fails sees it, and returns when that was.
func ranAt(s *stage, name string) time.Time {
	t := s.t
	t.Helper()
	var runs seen
	s.put("w", golden(t, name))
	s.run(10*time.Second, runs.actor("ok", succeed))
	r := runs.all(t, 1)[0]
	if eta, present := envelope(t, r.body).options()["eta"]; present {
		t.Errorf("eta is still there: %v", eta)
	}
	s.wantEmpty("w")
	s.wantDead("w", "")
	return r.at
}

func TestConformance_Case015_ETASoon(t *testing.T) {
	onStage(t, func(s *stage) {
		t := s.t
		if at := ranAt(s, "accept/eta-soon"); !at.Equal(goldenTime) {
			t.Errorf("it ran after %v", at.Sub(goldenTime))
		}
	})
}

func TestConformance_Case016_ETANull(t *testing.T) {
	onStage(t, func(s *stage) {
		t := s.t
		if at := ranAt(s, "accept/eta-null"); !at.Equal(goldenTime) {
			t.Errorf("it ran after %v", at.Sub(goldenTime))
		}
	})
}

func TestConformance_Case017_ETAFloat(t *testing.T) {
	for name, want := range map[string]time.Duration{
		"eta-float":    time.Second + 750*time.Microsecond,
		"eta-integer":  time.Second,
		"eta-negative": 0,
		"eta-true":     0,
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(s *stage) {
				t := s.t
				late := ranAt(s, "accept/"+name).Sub(goldenTime)
				if late < want || late > want+time.Millisecond {
					t.Errorf("it ran after %v, want %v", late, want)
				}
			})
		})
	}
}

func TestConformance_Case018_BadQueueNames(t *testing.T) {
	onStage(t, func(s *stage) {
		t := s.t
		for _, name := range []string{"9a", "a b", "", "a.DQ", "a.XQ", "a.msgs", "__a"} {
			handler := func(context.Context, dramatiq.None) error { return nil }
			a := dramatiq.NewActor("actor", handler, dramatiq.Queue(name))
			if err := a.Message(dramatiq.None{}).Err(); !errors.Is(err, dramatiq.ErrInvalidActor) {
				t.Errorf("%q: a message's error is %v", name, err)
			}
			if _, err := a.Send(t.Context(), s.broker, dramatiq.None{}); !errors.Is(err, dramatiq.ErrInvalidActor) {
				t.Errorf("%q: sending gives %v", name, err)
			}
			if _, err := dramatiq.NewWorker(s.broker, dramatiq.Actors{a}, dramatiq.WorkerConfig{}); !errors.Is(err, dramatiq.ErrInvalidActor) {
				t.Errorf("%q: a worker's error is %v", name, err)
			}
			good := dramatiq.NewActor("good", handler)
			if _, err := dramatiq.NewWorker(s.broker, dramatiq.Actors{good}, dramatiq.WorkerConfig{Queues: []string{name}}); err == nil {
				t.Errorf("%q: a worker would consume it", name)
			}
			if err := s.broker.Enqueue(t.Context(), dramatiq.NewOutgoing(name, "actor", nil, nil)); err == nil {
				t.Errorf("%q: a message was enqueued", name)
			}
			s.wantEmpty(name)
		}
		for _, name := range []string{"a", "_", "a.b-c_9", "Z"} {
			if err := dramatiq.Declare[dramatiq.None]("actor", dramatiq.Queue(name)).Message(dramatiq.None{}).Err(); err != nil {
				t.Errorf("%q: %v", name, err)
			}
		}
	})
}

// The in-memory half of case 42: what Python has delayed, Go runs in the form in which Python promotes it.
func TestConformance_Case042_PromotesLikePython(t *testing.T) {
	for _, style := range []string{"rabbit", "redis"} {
		t.Run(style, func(t *testing.T) {
			onStage(t, func(s *stage) {
				t := s.t
				var runs seen
				s.put("w", golden(t, "delayed-"+style))
				s.run(10*time.Second, runs.actor("add", succeed))
				r := runs.all(t, 1)[0]
				if late := r.at.Sub(goldenTime); late != 5*time.Second {
					t.Errorf("it ran after %v", late)
				}
				got, want := envelope(t, r.body), envelope(t, golden(t, "promoted-"+style))
				wantSame(t, "the message", got.without("redis_message_id"), want.without("redis_message_id"))
				s.wantEmpty("w")
			})
		})
	}
}
