package dramatiq_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/memory"
)

func TestOption_String(t *testing.T) {
	t.Parallel()
	actor := dramatiq.Declare[int]("target")
	when := time.Date(2026, 5, 1, 12, 0, 0, 500_000_000, time.UTC)
	key := dramatiq.NewOptionKey[[]int]("x-key", nil)
	for want, opt := range map[string]fmt.Stringer{
		`Queue("mail")`:                   dramatiq.Queue("mail"),
		"Priority(-3)":                    dramatiq.Priority(-3),
		"Positional()":                    dramatiq.Positional(),
		"Delay(1m30s)":                    dramatiq.Delay(90 * time.Second),
		"ETA(2026-05-01T12:00:00.5Z)":     dramatiq.ETA(when),
		"BrokerPriority(9)":               dramatiq.BrokerPriority(9),
		"MaxRetries(3)":                   dramatiq.MaxRetries(3),
		"MaxRetries(NoLimit)":             dramatiq.MaxRetries(dramatiq.NoLimit),
		"MinBackoff(1s)":                  dramatiq.MinBackoff(time.Second),
		"MaxBackoff(1h0m0s)":              dramatiq.MaxBackoff(time.Hour),
		"RetryWhen(…)":                    dramatiq.RetryWhen(func(int, error) bool { return true }),
		"Throws(time limit exceeded, no)": dramatiq.Throws(dramatiq.ErrTimeLimitExceeded, errors.New("no")),
		"TimeLimit(1m0s)":                 dramatiq.TimeLimit(time.Minute),
		"TimeLimit(NoLimit)":              dramatiq.TimeLimit(dramatiq.NoLimit),
		"MaxAge(1h0m0s)":                  dramatiq.MaxAge(time.Hour),
		"NotifyShutdown(true)":            dramatiq.NotifyShutdown(true),
		"OnSuccess(target)":               dramatiq.OnSuccess(actor),
		"OnFailure(target)":               dramatiq.OnFailure(actor),
		"OnRetryExhausted(target)":        dramatiq.OnRetryExhausted(actor),
		"OnSuccess(nil)":                  dramatiq.OnSuccess(nil),
		"PipeIgnore()":                    dramatiq.PipeIgnore(),
		"x-key([1 2])":                    key.Of([]int{1, 2}),
	} {
		if got := opt.String(); got != want {
			t.Errorf("it prints as %s, want %s", got, want)
		}
	}
}

func TestOption_OnTheWire(t *testing.T) {
	t.Parallel()
	a := dramatiq.Declare[int]("a")
	key := dramatiq.NewOptionKey[map[string]int]("x-key", nil)
	for _, test := range []struct {
		opt  dramatiq.SendOption
		want string
	}{
		{dramatiq.MaxRetries(3), "max_retries 3"},
		{dramatiq.MaxRetries(dramatiq.NoLimit), "max_retries null"},
		{dramatiq.MinBackoff(1500 * time.Millisecond), "min_backoff 1500"},
		{dramatiq.MaxBackoff(time.Hour), "max_backoff 3600000"},
		{dramatiq.TimeLimit(time.Minute), "time_limit 60000"},
		{dramatiq.TimeLimit(dramatiq.NoLimit), "time_limit Infinity"},
		{dramatiq.MaxAge(time.Hour), "max_age 3600000"},
		{dramatiq.NotifyShutdown(false), "notify_shutdown false"},
		{dramatiq.OnSuccess(a), `on_success "a"`},
		{dramatiq.OnFailure(a), `on_failure "a"`},
		{dramatiq.OnRetryExhausted(a), `on_retry_exhausted "a"`},
		{dramatiq.PipeIgnore(), "pipe_ignore true"},
		{dramatiq.BrokerPriority(9), "broker_priority 9"},
		{key.Of(map[string]int{"n": 1}), `x-key {"n":1}`},
		{dramatiq.Delay(time.Hour), ""},
		{dramatiq.ETA(time.Now().Add(time.Hour)), ""},
		{dramatiq.Positional(), ""},
	} {
		var got []string
		m := a.Message(1, test.opt)
		for name, value := range m.Envelope().Options.All() {
			got = append(got, fmt.Sprintf("%s %s", name, value))
		}
		if m.Err() != nil || strings.Join(got, ", ") != test.want {
			t.Errorf("%v is sent as %s (%v), want %s", test.opt, got, m.Err(), test.want)
		}
	}
}

func TestOption_ImpossibleOnMessages(t *testing.T) {
	t.Parallel()
	b, _ := newTestBroker(t)
	key := dramatiq.NewOptionKey[any]("x-key", nil)
	for says, opt := range map[string]dramatiq.SendOption{
		"Delay(-1s): must not be negative":                 dramatiq.Delay(-time.Second),
		"BrokerPriority(-1): must be from 0 to 255":        dramatiq.BrokerPriority(-1),
		"BrokerPriority(256): must be from 0 to 255":       dramatiq.BrokerPriority(256),
		"MaxRetries(-2): must not be negative":             dramatiq.MaxRetries(-2),
		"TimeLimit(-1s): must be at least 1ms":             dramatiq.TimeLimit(-time.Second),
		"MaxAge(0s): must be at least 1ms":                 dramatiq.MaxAge(0),
		"OnFailure(nil): actor is nil":                     dramatiq.OnFailure(nil),
		"unsupported type: chan int":                       key.Of(make(chan int)),
		`OnSuccess(): dramatiq: invalid actor "": name is`: dramatiq.OnSuccess(dramatiq.Declare[int]("")),
	} {
		_, err := dramatiq.Declare[int]("a").Send(t.Context(), b, 1, opt)
		if !errors.Is(err, dramatiq.ErrInvalidOption) || !strings.Contains(err.Error(), says) {
			t.Errorf("the error is %v, want ErrInvalidOption with %q", err, says)
		}
	}
}

// The last option of a kind counts.
func TestOption_RepeatedOnMessages(t *testing.T) {
	t.Parallel()
	recorded := &recordingDriver{Driver: memory.New(memory.Config{})}
	b, err := dramatiq.NewBroker(recorded, dramatiq.BrokerConfig{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	a := dramatiq.Declare[int]("a")
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	mustSend(t, b, a, 1, dramatiq.MaxRetries(1), dramatiq.MaxRetries(2), dramatiq.ETA(past), dramatiq.Delay(time.Hour))
	mustSend(t, b, a, 1, dramatiq.Delay(time.Minute), dramatiq.ETA(future), dramatiq.BrokerPriority(200))
	mustSend(t, b, a, 1, dramatiq.Delay(time.Minute), dramatiq.Delay(0))
	if n, _ := recorded.messages[0].Envelope.Options.Int("max_retries"); n != 2 {
		t.Errorf("max_retries is %d, want 2", n)
	}
	if due := recorded.messages[0].Due; due.Before(future) {
		t.Errorf("it is due at %v, want in an hour", due)
	}
	if m := recorded.messages[1]; !m.Due.Equal(future) || m.Priority != 200 {
		t.Errorf("it is due at %v with priority %d, want at %v with 200", m.Due, m.Priority, future)
	}
	if m := recorded.messages[2]; !m.Due.IsZero() || m.Priority != 0 {
		t.Errorf("it is due at %v with priority %d, want at once", m.Due, m.Priority)
	}
}

// recordingDriver keeps what is enqueued.
type recordingDriver struct {
	*memory.Driver
	messages []driver.Message
}

func (d *recordingDriver) Enqueue(ctx context.Context, messages []driver.Message) []error {
	d.messages = append(d.messages, messages...)
	return d.Driver.Enqueue(ctx, messages)
}

// precedence is one case of protocol 1.7: what the middleware, the actor and the message say. raw is the message's option
// on the wire; "" leaves it out.
type precedence struct {
	name       string
	middleware dramatiq.Middleware
	actor      dramatiq.ActorOption
	raw        string
	want       string
}

// runPrecedence runs each case in a bubble of its own: a message to an actor with a handler, with an option.
func runPrecedence(t *testing.T, option string, base func() []dramatiq.Middleware, tests []precedence,
	run func(t *testing.T, b *dramatiq.Broker, send func(*dramatiq.Actor[int]), opts []dramatiq.ActorOption) string,
) {
	t.Helper()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				middleware := base()
				if test.middleware != nil {
					middleware = []dramatiq.Middleware{test.middleware}
				}
				b, err := dramatiq.NewBroker(memory.New(memory.Config{}), dramatiq.BrokerConfig{
					Middleware: middleware, Logger: slog.New(slog.DiscardHandler),
				})
				if err != nil {
					t.Fatal(err)
				}
				var opts []dramatiq.ActorOption
				if test.actor != nil {
					opts = append(opts, test.actor)
				}
				send := func(a *dramatiq.Actor[int]) {
					out := dramatiq.NewOutgoing(a.Queue(), a.Name(), []byte(`[1]`), nil)
					if test.raw != "" {
						out.Message.Options.Set(option, json.RawMessage(test.raw))
					}
					if err := b.Enqueue(t.Context(), out); err != nil {
						t.Fatal(err)
					}
				}
				if got := run(t, b, send, opts); got != test.want {
					t.Errorf("%s, want %s", got, test.want)
				}
			})
		})
	}
}

// countRuns lets a message fail for a hundred days and says how often it ran.
func countRuns(t *testing.T, b *dramatiq.Broker, send func(*dramatiq.Actor[int]), opts []dramatiq.ActorOption) string {
	t.Helper()
	runs := 0
	a := dramatiq.NewActor("a", func(context.Context, int) error {
		runs++
		return typedError{"ValueError"}
	}, opts...)
	startWorker(t, b, dramatiq.WorkerConfig{}, a)
	send(a)
	time.Sleep(100 * 24 * time.Hour)
	synctest.Wait()
	if runs > 22 {
		return "no end"
	}
	return fmt.Sprintf("%d runs", runs)
}

func justRetries() []dramatiq.Middleware { return []dramatiq.Middleware{&dramatiq.Retries{}} }

func TestOption_PrecedenceOfMaxRetries(t *testing.T) {
	t.Parallel()
	two := &dramatiq.Retries{MaxRetries: 2}
	runPrecedence(t, "max_retries", justRetries, []precedence{
		{"default", nil, nil, "", "21 runs"},
		{"middleware", two, nil, "", "3 runs"},
		{"middleware without a limit", &dramatiq.Retries{MaxRetries: dramatiq.NoLimit, MaxBackoff: time.Hour}, nil, "", "no end"},
		{"actor", two, dramatiq.MaxRetries(1), "", "2 runs"},
		{"actor's zero", two, dramatiq.MaxRetries(0), "", "1 runs"},
		{"actor without a limit", &dramatiq.Retries{MaxRetries: 2, MaxBackoff: time.Hour}, dramatiq.MaxRetries(dramatiq.NoLimit), "", "no end"},
		{"message", two, dramatiq.MaxRetries(1), "3", "4 runs"},
		{"message's zero", two, dramatiq.MaxRetries(1), "0", "1 runs"},
		{"message's float", two, dramatiq.MaxRetries(1), "3.0", "4 runs"},
		{"message below zero", two, dramatiq.MaxRetries(1), "-5", "1 runs"},
		{"message's null is no limit", &dramatiq.Retries{MaxRetries: 2, MaxBackoff: time.Hour}, dramatiq.MaxRetries(1), "null", "no end"},
		{"message's nonsense is ignored", two, dramatiq.MaxRetries(1), `"x"`, "2 runs"},
	}, countRuns)
}

func TestOption_PrecedenceOfRetryWhen(t *testing.T) {
	t.Parallel()
	below := func(n int) func(int, error) bool { return func(retries int, _ error) bool { return retries < n } }
	runPrecedence(t, "max_retries", justRetries, []precedence{
		{"middleware", &dramatiq.Retries{MaxRetries: 1, RetryWhen: below(4)}, nil, "", "5 runs"},
		{"middleware and a limit of the message", &dramatiq.Retries{RetryWhen: below(4)}, nil, "0", "5 runs"},
		{"actor", &dramatiq.Retries{RetryWhen: below(4)}, dramatiq.RetryWhen(below(2)), "", "3 runs"},
		{"actor and a limit of the message", nil, dramatiq.RetryWhen(below(2)), "9", "3 runs"},
		{"actor that throws", nil, dramatiq.Throws(errors.New("no"), typedError{"ValueError"}), "", "1 runs"},
		{"actor that throws others", nil, dramatiq.Throws(errors.New("no")), "2", "3 runs"},
	}, countRuns)
}

// firstGap says after which delay a failing message ran again, as a range of which backoff is random.
func firstGap(t *testing.T, b *dramatiq.Broker, send func(*dramatiq.Actor[int]), opts []dramatiq.ActorOption) string {
	t.Helper()
	var ran []time.Time
	a := dramatiq.NewActor("a", func(context.Context, int) error {
		ran = append(ran, time.Now())
		if len(ran) == 2 {
			return nil
		}
		return errors.New("no luck")
	}, opts...)
	startWorker(t, b, dramatiq.WorkerConfig{}, a)
	send(a)
	time.Sleep(100 * 24 * time.Hour)
	synctest.Wait()
	gap := ran[1].Sub(ran[0])
	for _, unit := range []time.Duration{dramatiq.DefaultMaxBackoff, time.Hour, time.Minute, 15 * time.Second, time.Second} {
		if unit <= gap && gap <= 2*unit {
			return fmt.Sprintf("from %v", unit)
		}
		if unit/2 <= gap && gap <= unit {
			return fmt.Sprintf("up to %v", unit)
		}
	}
	return gap.String()
}

func TestOption_PrecedenceOfBackoff(t *testing.T) {
	t.Parallel()
	hours := &dramatiq.Retries{MinBackoff: time.Hour}
	runPrecedence(t, "min_backoff", justRetries, []precedence{
		{"default", nil, nil, "", "from 15s"},
		{"middleware", hours, nil, "", "from 1h0m0s"},
		{"actor", hours, dramatiq.MinBackoff(time.Minute), "", "from 1m0s"},
		{"actor's zero", hours, dramatiq.MinBackoff(0), "", "0s"},
		{"message", hours, dramatiq.MinBackoff(time.Minute), "1000", "from 1s"},
		{"message's zero", hours, dramatiq.MinBackoff(time.Minute), "0", "0s"},
		{"message's nonsense is ignored", hours, dramatiq.MinBackoff(time.Minute), "[]", "from 1m0s"},
		{"message beyond the maximum", nil, nil, "99999999999", "up to 168h0m0s"},
	}, firstGap)
	runPrecedence(t, "max_backoff", func() []dramatiq.Middleware {
		return []dramatiq.Middleware{&dramatiq.Retries{MinBackoff: 30 * 24 * time.Hour}}
	}, []precedence{
		{"default maximum", nil, nil, "", "up to 168h0m0s"},
		{"middleware's maximum", &dramatiq.Retries{MinBackoff: 48 * time.Hour, MaxBackoff: time.Hour}, nil, "", "up to 1h0m0s"},
		{"actor's maximum", nil, dramatiq.MaxBackoff(time.Minute), "", "up to 1m0s"},
		{"message's maximum", nil, dramatiq.MaxBackoff(time.Minute), "1000", "up to 1s"},
		{"message's maximum of zero", nil, dramatiq.MaxBackoff(time.Minute), "0", "0s"},
		{"message's maximum beyond the most", nil, nil, "9999999999999", "up to 168h0m0s"},
	}, firstGap)
}

func TestOption_PrecedenceOfTimeLimit(t *testing.T) {
	t.Parallel()
	hour := &dramatiq.TimeLimits{Default: time.Hour}
	runPrecedence(t, "time_limit", func() []dramatiq.Middleware { return []dramatiq.Middleware{&dramatiq.TimeLimits{}} }, []precedence{
		{"default", nil, nil, "", "10m0s"},
		{"middleware", hour, nil, "", "1h0m0s"},
		{"middleware without a limit", &dramatiq.TimeLimits{Default: dramatiq.NoLimit}, nil, "", "none"},
		{"actor", hour, dramatiq.TimeLimit(time.Minute), "", "1m0s"},
		{"actor without a limit", hour, dramatiq.TimeLimit(dramatiq.NoLimit), "", "none"},
		{"message", hour, dramatiq.TimeLimit(time.Minute), "2000", "2s"},
		{"message's float", hour, dramatiq.TimeLimit(time.Minute), "2500.5", "2.5005s"},
		{"message's infinity", hour, dramatiq.TimeLimit(time.Minute), "Infinity", "none"},
		{"message's zero is ignored", hour, dramatiq.TimeLimit(time.Minute), "0", "1m0s"},
		{"message's null is ignored", hour, dramatiq.TimeLimit(time.Minute), "null", "1m0s"},
		{"message's nonsense is ignored", hour, dramatiq.TimeLimit(time.Minute), `"2000"`, "1m0s"},
	}, func(t *testing.T, b *dramatiq.Broker, send func(*dramatiq.Actor[int]), opts []dramatiq.ActorOption) string {
		t.Helper()
		limit := "none"
		a := dramatiq.NewActor("a", func(ctx context.Context, _ int) error {
			start := time.Now()
			select {
			case <-ctx.Done():
				limit = time.Since(start).String()
				if !errors.Is(context.Cause(ctx), dramatiq.ErrTimeLimitExceeded) {
					t.Errorf("the cause is %v", context.Cause(ctx))
				}
			case <-time.After(48 * time.Hour):
			}
			return nil
		}, opts...)
		startWorker(t, b, dramatiq.WorkerConfig{}, a)
		send(a)
		time.Sleep(72 * time.Hour)
		synctest.Wait()
		return limit
	})
}

func TestOption_PrecedenceOfMaxAge(t *testing.T) {
	t.Parallel()
	long, short := &dramatiq.AgeLimits{Default: 3 * time.Hour}, &dramatiq.AgeLimits{Default: time.Hour}
	runPrecedence(t, "max_age", func() []dramatiq.Middleware { return []dramatiq.Middleware{&dramatiq.AgeLimits{}} }, []precedence{
		{"default", nil, nil, "", "ran"},
		{"middleware, too old", short, nil, "", "dead"},
		{"middleware, young enough", long, nil, "", "ran"},
		{"exactly as old", nil, dramatiq.MaxAge(2 * time.Hour), "", "dead"},
		{"actor, too old", long, dramatiq.MaxAge(time.Hour), "", "dead"},
		{"actor, young enough", short, dramatiq.MaxAge(3 * time.Hour), "", "ran"},
		{"message, too old", long, dramatiq.MaxAge(3 * time.Hour), "1000", "dead"},
		{"message, young enough", short, dramatiq.MaxAge(time.Hour), "7200001", "ran"},
		{"message's zero is ignored", long, dramatiq.MaxAge(time.Hour), "0", "dead"},
		{"message's null is ignored", long, dramatiq.MaxAge(time.Hour), "null", "dead"},
	}, func(t *testing.T, b *dramatiq.Broker, send func(*dramatiq.Actor[int]), opts []dramatiq.ActorOption) string {
		t.Helper()
		outcome := "dead"
		a := dramatiq.NewActor("a", func(context.Context, int) error {
			outcome = "ran"
			return nil
		}, opts...)
		send(a)
		time.Sleep(2 * time.Hour)
		startWorker(t, b, dramatiq.WorkerConfig{}, a)
		synctest.Wait()
		letters, err := b.Driver().(driver.Inspector).DeadLetters(t.Context(), "default", "", 10)
		if err != nil || (len(letters) == 1) != (outcome == "dead") || outcome == "dead" && letters[0].Death.Reason != dramatiq.ReasonAgeLimit {
			t.Errorf("the dead letters are %v, %v", letters, err)
		}
		return outcome
	})
}

func TestOption_PrecedenceOfNotifyShutdown(t *testing.T) {
	t.Parallel()
	on := func() *dramatiq.ShutdownNotifications { return &dramatiq.ShutdownNotifications{Default: true} }
	runPrecedence(t, "notify_shutdown", func() []dramatiq.Middleware {
		return []dramatiq.Middleware{&dramatiq.ShutdownNotifications{}}
	}, []precedence{
		{"default", nil, nil, "", "not told"},
		{"middleware", on(), nil, "", "told"},
		{"actor", nil, dramatiq.NotifyShutdown(true), "", "told"},
		{"actor's no", on(), dramatiq.NotifyShutdown(false), "", "not told"},
		{"message", on(), dramatiq.NotifyShutdown(false), "true", "told"},
		{"message's no", on(), dramatiq.NotifyShutdown(true), "false", "not told"},
		{"message's zero is a no", on(), dramatiq.NotifyShutdown(true), "0", "not told"},
		{"message's null is ignored", nil, dramatiq.NotifyShutdown(true), "null", "told"},
	}, func(t *testing.T, b *dramatiq.Broker, send func(*dramatiq.Actor[int]), opts []dramatiq.ActorOption) string {
		t.Helper()
		outcome := "not told"
		a := dramatiq.NewActor("a", func(ctx context.Context, _ int) error {
			select {
			case <-ctx.Done():
				outcome = "told"
				if !errors.Is(context.Cause(ctx), dramatiq.ErrShutdown) {
					t.Errorf("the cause is %v", context.Cause(ctx))
				}
			case <-time.After(time.Hour):
			}
			return nil
		}, opts...)
		w := startWorker(t, b, dramatiq.WorkerConfig{}, a)
		send(a)
		synctest.Wait()
		if err := w.Drain(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		return outcome
	})
}

func TestOption_PrecedenceOfCallbacks(t *testing.T) {
	t.Parallel()
	called := ""
	callback := func(name string) *dramatiq.Actor[dramatiq.RawArgs] {
		return dramatiq.NewActor(name, func(context.Context, dramatiq.RawArgs) error {
			called += name
			return nil
		})
	}
	one, two := callback("one"), callback("two")
	runPrecedence(t, "on_success", func() []dramatiq.Middleware { return []dramatiq.Middleware{&dramatiq.Callbacks{}} }, []precedence{
		{"nobody", nil, nil, "", ""},
		{"actor", nil, dramatiq.OnSuccess(one), "", "one"},
		{"message", nil, dramatiq.OnSuccess(one), `"two"`, "two"},
		{"message's empty text is ignored", nil, dramatiq.OnSuccess(one), `""`, "one"},
		{"message's null is ignored", nil, dramatiq.OnSuccess(one), "null", "one"},
		{"message's nonsense is ignored", nil, dramatiq.OnSuccess(one), "7", "one"},
		{"nobody knows it", nil, dramatiq.OnSuccess(one), `"three"`, ""},
	}, func(t *testing.T, b *dramatiq.Broker, send func(*dramatiq.Actor[int]), opts []dramatiq.ActorOption) string {
		t.Helper()
		called = ""
		a := dramatiq.NewActor("a", doNothing[int], opts...)
		startWorker(t, b, dramatiq.WorkerConfig{}, a, one, two)
		send(a)
		synctest.Wait()
		return called
	})
}

// knows is middleware that knows an option and keeps what From says of it.
type knows struct {
	key *dramatiq.OptionKey[int]
	got chan string
}

func (m knows) Options() []string { return []string{m.key.Name()} }

func (m knows) BeforeProcess(_ context.Context, a *dramatiq.Attempt) error {
	n, ok := m.key.From(a)
	m.got <- fmt.Sprintf("%d %t", n, ok)
	return nil
}

func TestOptionKey(t *testing.T) {
	t.Parallel()
	key := dramatiq.NewOptionKey("x-weight", func(n int) error {
		if n > 100 {
			return errors.New("too heavy")
		}
		return nil
	})
	m := knows{key, make(chan string, 1)}
	b, _ := newTestBroker(t, m)
	plain := dramatiq.NewActor("plain", doNothing[int])
	heavy := dramatiq.NewActor("heavy", doNothing[int], key.Of(7))
	startWorker(t, b, dramatiq.WorkerConfig{}, plain, heavy)
	for _, test := range []struct {
		actor *dramatiq.Actor[int]
		raw   string
		want  string
	}{
		{plain, "", "0 false"},
		{plain, "3", "3 true"},
		{heavy, "", "7 true"},
		{heavy, "3", "3 true"},
		{heavy, "0", "0 true"},
		{heavy, `"x"`, "0 false"},
	} {
		out := dramatiq.NewOutgoing("default", test.actor.Name(), []byte(`[1]`), nil)
		if test.raw != "" {
			out.Message.Options.Set(key.Name(), json.RawMessage(test.raw))
		}
		if err := b.Enqueue(t.Context(), out); err != nil {
			t.Fatal(err)
		}
		if got := <-m.got; got != test.want {
			t.Errorf("%s with %q has %s, want %s", test.actor.Name(), test.raw, got, test.want)
		}
	}
	mustSend(t, b, heavy, 1, key.Of(9))
	if got := <-m.got; got != "9 true" {
		t.Errorf("the message's value is %s, want 9", got)
	}
	if _, err := plain.Send(t.Context(), b, 1, key.Of(101)); !errors.Is(err, dramatiq.ErrInvalidOption) {
		t.Errorf("the error is %v, want ErrInvalidOption", err)
	}
}
