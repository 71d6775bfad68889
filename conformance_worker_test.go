package dramatiq_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/wire"
)

var styles = []string{"rabbit", "redis"}

// perStyle runs a test with the golden files of each broker.
func perStyle(t *testing.T, test func(s *stage, style string)) {
	t.Helper()
	for _, style := range styles {
		t.Run(style, func(t *testing.T) {
			onStage(t, func(s *stage) { test(s, style) })
		})
	}
}

// callbackActors are only declared, as actors are whose handlers are in Python.
func callbackActors() (success, failure, exhausted *dramatiq.Actor[dramatiq.RawArgs]) {
	declare := func(name string) *dramatiq.Actor[dramatiq.RawArgs] {
		return dramatiq.Declare[dramatiq.RawArgs](name, dramatiq.Queue("cb"))
	}
	return declare("cb_s"), declare("cb_f"), declare("cb_x")
}

// about returns the envelope that a callback is about, and what comes with it.
func about(t *testing.T, callback object) (env object, payload any) {
	t.Helper()
	args, _ := callback["args"].([]any)
	if len(args) != 2 {
		t.Fatalf("a callback has %d arguments", len(args))
	}
	env, ok := args[0].(object)
	if !ok || len(env) != 7 {
		t.Fatalf("the callback is about %s", write(args[0]))
	}
	return env, args[1]
}

// body writes an envelope in the form in which it is stored.
func body(env object) []byte { return write(env) }

func TestConformance_Case069_UnknownActor(t *testing.T) {
	hooks := &trace{}
	onStage(t, func(s *stage) {
		t := s.t
		_, failure, exhausted := callbackActors()
		known := dramatiq.NewActor("known", func(context.Context, dramatiq.RawArgs) error { return nil }, dramatiq.Queue("w"))
		in := golden(t, "dead-unknown-redis")
		s.put("w", in)
		s.run(time.Minute, known, failure, exhausted)
		s.wantDead("w", dramatiq.ReasonUnknownActor, in)
		s.wantEmpty("w", "cb")
		hooks.want(t, "before nack", "after nack")

		// Nor is there a callback where one is asked for.
		env := envelope(t, in)
		env.options()["on_failure"], env.options()["on_retry_exhausted"] = "cb_f", "cb_x"
		s.put("w", body(env))
		s.run(time.Minute, known, failure, exhausted)
		s.wantDead("w", dramatiq.ReasonUnknownActor, in, body(env))
		s.wantEmpty("w", "cb")
	}, hooks)
}

func TestConformance_Case070_MaxAge(t *testing.T) {
	hooks := &trace{}
	onStage(t, func(s *stage) {
		t := s.t
		var runs seen
		_, failure, exhausted := callbackActors()
		ok := runs.actor("ok", succeed, dramatiq.OnFailure(failure), dramatiq.OnRetryExhausted(exhausted))
		in := golden(t, "dead-age-redis")
		time.Sleep(99 * time.Millisecond)
		s.put("w", in)
		s.run(0, ok)
		runs.all(t, 1)
		hooks.want(t, "before process", "after process", "before ack", "after ack")
		hooks.events = nil

		time.Sleep(time.Millisecond)
		s.put("w", in)
		s.run(time.Minute, ok)
		runs.all(t, 1)
		s.wantDead("w", dramatiq.ReasonAgeLimit, in)
		s.wantEmpty("w", "cb")
		hooks.want(t, "after skip", "before nack", "after nack")

		// What Results would store.
		result := parse(t, golden(t, "results/age-limit")).(object)["exn"]
		err := hooks.errs[len(hooks.errs)-1]
		wantSame(t, "the error", object{"type": dramatiq.ErrorType(err), "msg": fmt.Sprint(err)}, result)
	}, hooks)
}

func TestConformance_Case071_TimeLimit(t *testing.T) {
	for _, limit := range []string{"500", "500.0", "5e2"} {
		t.Run(limit, func(t *testing.T) {
			onStage(t, func(s *stage) {
				t := s.t
				_, failure, _ := callbackActors()
				var took time.Duration
				var cause error
				slow := dramatiq.NewActor("ok", func(ctx context.Context, _ int) error {
					start := time.Now()
					<-ctx.Done()
					took, cause = time.Since(start), context.Cause(ctx)
					return ctx.Err()
				}, dramatiq.Queue("w"))
				env := envelope(t, golden(t, "accept/timestamp-float"))
				env["options"] = object{"time_limit": number(limit), "on_failure": "cb_f", "min_backoff": number("100000")}
				s.put("w", body(env))
				s.run(time.Second, slow, failure)
				if took != 500*time.Millisecond || !errors.Is(cause, dramatiq.ErrTimeLimitExceeded) {
					t.Errorf("its context ended after %v with the cause %v", took, cause)
				}
				_, payload := about(t, envelope(t, s.takeOne("cb").body))
				if name := payload.(object)["type"]; name != "TimeLimitExceeded" {
					t.Errorf("the callback has the type %v", name)
				}
				options := envelope(t, s.takeOne("w").body).options()
				if text, _ := options["traceback"].(string); options["retries"] != number("1") || !strings.HasPrefix(text, "TimeLimitExceeded: ") {
					t.Errorf("the retry has the options %s", write(options))
				}
				s.wantDead("w", "")
			})
		})
	}
}

// notForEver ends the retries of option-variants, which has no limit and no backoff, in case something goes wrong.
var notForEver = dramatiq.RetryWhen(func(retries int, _ error) bool { return retries < 3 })

func TestConformance_Case072_TimeLimitInfinity(t *testing.T) {
	onStage(t, func(s *stage) {
		t := s.t
		var took time.Duration
		add := dramatiq.NewActor("add", func(ctx context.Context, _ addArgs) error {
			start := time.Now()
			if at, limited := ctx.Deadline(); limited {
				t.Errorf("there is a deadline: %v", at)
			}
			select {
			case <-ctx.Done():
			case <-time.After(240 * time.Hour):
			}
			took = time.Since(start)
			return dramatiq.Permanent(context.Cause(ctx))
		}, dramatiq.Queue("w"), dramatiq.TimeLimit(time.Second), notForEver)
		s.put("w", golden(t, "option-variants"))
		s.run(300*time.Hour, add)
		if took != 240*time.Hour {
			t.Errorf("it ran for %v", took)
		}
		s.wantEmpty("w")
		s.wantDead("w", "")
	})
}

func TestConformance_Case073_NotifyShutdown(t *testing.T) {
	for _, test := range []struct {
		name     string
		fails    bool // with the error of its context
		option   any
		notified bool
	}{
		{"fails", true, true, true},
		{"succeeds all the same", false, true, true},
		{"false", false, false, false},
		{"absent", false, nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			onStage(t, func(s *stage) {
				t := s.t
				var cause error
				add := dramatiq.NewActor("add", func(ctx context.Context, _ addArgs) error {
					select {
					case <-ctx.Done():
						cause = context.Cause(ctx)
					case <-time.After(time.Minute):
					}
					if test.fails {
						return ctx.Err()
					}
					return nil
				}, dramatiq.Queue("w"), notForEver)
				env := envelope(t, golden(t, "option-variants")) // where it is true
				switch test.option {
				case nil:
					env.without("notify_shutdown")
				case false:
					env.options()["notify_shutdown"] = number("false")
				}
				s.put("w", body(env))
				start := time.Now()
				s.run(0, add) // and drains at once
				if took := time.Since(start); errors.Is(cause, dramatiq.ErrShutdown) != test.notified || took != 0 && test.notified {
					t.Errorf("after %v the context ended with the cause %v", took, cause)
				}
				s.wantDead("w", "")
				if !test.fails {
					s.wantEmpty("w")
					return
				}
				m := s.takeOne("w")
				got := envelope(t, m.body)
				text, _ := got.options()["traceback"].(string)
				if m.wait != 0 || got.options()["retries"] != number("1") || !strings.HasPrefix(text, "Shutdown: ") {
					t.Errorf("after %v came %s", m.wait, m.body)
				}
				wantSame(t, "the rest", got.without("retries", "traceback", "requeue_timestamp"), env)
			})
		})
	}
}

// sameCallback compares a callback with a golden one. Its id is its own, and Redis adds one more.
func sameCallback(t *testing.T, what string, got, want object, at time.Time) {
	t.Helper()
	fresh(t, got, want, at)
	wantSame(t, what, got, want.without("redis_message_id"))
}

func TestConformance_Case074_OnSuccess(t *testing.T) {
	perStyle(t, func(s *stage, style string) {
		t := s.t
		var runs seen
		success, failure, _ := callbackActors()
		for _, name := range []string{"on-success-", "on-success-null-"} {
			want := envelope(t, golden(t, name+style))
			env, _ := about(t, want)
			s.put("w", body(env))
			s.run(0, runs.addActor(), runs.actor("null", succeed), success, failure)
			s.wantEmpty("w")
			sameCallback(t, name+style, envelope(t, s.takeOne("cb").body), want, goldenTime)
		}

		// An actor's own callback, of a worker that has its target in no list; and the result null of a typed nothing.
		want := envelope(t, golden(t, "on-success-null-"+style))
		env, _ := about(t, want)
		env.without("on_success")
		s.put("w", body(env))
		s.run(0, dramatiq.NewFunc("null", func(context.Context, dramatiq.None) (*int, error) { return nil, nil },
			dramatiq.Queue("w"), dramatiq.OnSuccess(success)))
		sameCallback(t, "an actor's own callback", envelope(t, s.takeOne("cb").body), want, goldenTime)
		s.wantDead("w", "")
	})
}

func TestConformance_Case074_OnSuccessAfterARetry(t *testing.T) {
	onStage(t, func(s *stage) {
		t := s.t
		success, failure, _ := callbackActors()
		var runs seen
		want := envelope(t, golden(t, "on-success-null-rabbit"))
		env, _ := about(t, want)
		failures := 1
		s.put("w", body(env))
		s.run(time.Hour, success, failure, runs.actor("null", func() error {
			failures--
			return map[bool]error{true: kaboom()}[failures >= 0]
		}))
		at := runs.all(t, 2)[1].at
		got := envelope(t, s.takeOne("cb").body)
		inner, _ := about(t, got)
		if inner.options()["retries"] != number("1") {
			t.Errorf("the callback is about %s", write(inner))
		}
		inner.without("retries", "traceback", "requeue_timestamp")
		sameCallback(t, "the callback", got, want, at)
	})
}

func TestConformance_Case075_OnSuccessReceived(t *testing.T) {
	perStyle(t, func(s *stage, style string) {
		t := s.t
		success, failure, _ := callbackActors()
		want := envelope(t, golden(t, "on-success-"+style))
		env, _ := about(t, want)

		// Go asks for the callback.
		add := dramatiq.DeclareFunc[addArgs, int]("add", dramatiq.Queue("w"), dramatiq.Positional())
		_, err := add.Send(t.Context(), s.broker, addArgs{5, 6}, dramatiq.OnSuccess(success), dramatiq.OnFailure(failure))
		if err != nil {
			t.Fatal(err)
		}
		sent := envelope(t, s.takeOne("w").body)
		fresh(t, sent, env, goldenTime)
		id := env.options()["redis_message_id"]
		wantSame(t, "the message", sent, env.without("redis_message_id"))
		if id != nil {
			env.options()["redis_message_id"] = id
		}

		// Python sends it.
		type callback struct {
			Message json.RawMessage `json:"message"`
			Result  *int            `json:"result"`
		}
		var got []callback
		handle := dramatiq.NewActor("cb_s", func(_ context.Context, in callback) error {
			got = append(got, in)
			return nil
		}, dramatiq.Queue("cb"))
		s.put("cb", golden(t, "on-success-"+style))
		s.put("cb", golden(t, "on-success-null-"+style))
		s.run(0, handle)
		s.wantEmpty("cb")
		s.wantDead("cb", "")
		if len(got) != 2 || got[0].Result == nil || *got[0].Result != 11 || got[1].Result != nil {
			t.Fatalf("it got %v", got)
		}
		wantSame(t, "the envelope", parse(t, got[0].Message), env)
		if inner, err := (wire.JSON{}).Decode(got[0].Message); err != nil || inner.ID != env["message_id"] {
			t.Errorf("the envelope reads as %+v, %v", inner, err)
		}
	})
}

// exhaust runs the message of the golden failure callbacks until it is given up, and returns what it has led to.
func exhaust(s *stage, style string) (callbacks []object, failures []run) {
	t := s.t
	t.Helper()
	var runs seen
	_, failure, exhausted := callbackActors()
	env, _ := about(t, envelope(t, golden(t, "on-failure-1-"+style)))
	s.put("w", body(env.without("retries", "traceback", "requeue_timestamp")))
	s.run(time.Hour, runs.actor("boom", kaboom), failure, exhausted)
	s.wantEmpty("w")
	for _, m := range s.take("cb") {
		callbacks = append(callbacks, envelope(t, m.body))
	}
	return callbacks, runs.all(t, 3)
}

// sameFailure compares a callback about a failure with a golden one.
func sameFailure(t *testing.T, name string, got object, style string, at time.Time) {
	t.Helper()
	want := envelope(t, golden(t, name+"-"+style))
	inner, _ := about(t, got)
	wantInner, _ := about(t, want)
	failedAt(t, inner, wantInner, at)
	if id, present := wantInner.options()["redis_message_id"]; present { // which Redis renews with each retry
		if text, _ := inner.options()["redis_message_id"].(string); !uuid4.MatchString(text) {
			t.Errorf("%s: redis_message_id is lost", name)
		}
		inner.options()["redis_message_id"] = id
	}
	sameCallback(t, name, got, want, at)
}

func TestConformance_Case076_OnFailure(t *testing.T) {
	perStyle(t, func(s *stage, style string) {
		t := s.t
		all, failures := exhaust(s, style)
		all = slices.DeleteFunc(all, func(o object) bool { return o["actor_name"] != "cb_f" })
		if len(all) != 3 {
			t.Fatalf("%d callbacks", len(all))
		}
		for i, got := range all {
			inner, _ := about(t, got)
			if n := inner.options()["retries"]; n != number(fmt.Sprint(i+1)) {
				t.Errorf("callback %d says %v retries", i+1, n)
			}
			sameFailure(t, fmt.Sprintf("on-failure-%d", i+1), got, style, failures[i].at)
		}
	})
}

// Also for an error that is not retried, with the counters as they were.
func TestConformance_Case076_OnFailurePermanent(t *testing.T) {
	onStage(t, func(s *stage) {
		t := s.t
		var runs seen
		_, failure, exhausted := callbackActors()
		want := envelope(t, golden(t, "on-failure-1-rabbit"))
		env, _ := about(t, want)
		env.without("retries", "traceback", "requeue_timestamp")
		s.put("w", body(env))
		s.run(time.Hour, failure, exhausted, runs.actor("boom", func() error { return dramatiq.Permanent(kaboom()) }))
		runs.all(t, 1)
		s.wantDead("w", dramatiq.ReasonPermanent, body(env))
		sameCallback(t, "the callback", envelope(t, s.takeOne("cb").body), want, goldenTime)
	})
}

func TestConformance_Case077_OnRetryExhausted(t *testing.T) {
	perStyle(t, func(s *stage, style string) {
		t := s.t
		all, failures := exhaust(s, style)
		var order []string
		for _, o := range all {
			order = append(order, o["actor_name"].(string))
		}
		if want := []string{"cb_f", "cb_f", "cb_x", "cb_f"}; !slices.Equal(order, want) {
			t.Fatalf("callbacks came as %q, want %q", order, want)
		}
		_, payload := about(t, all[2])
		wantSame(t, "the payload", payload, object{"retries": number("2"), "max_retries": number("2")})
		sameFailure(t, "on-retry-exhausted", all[2], style, failures[2].at)
		s.wantDead("w", dramatiq.ReasonRetries, nil)
	})
}

// wantStep compares what a step's handler has seen with how Python has stored it. Redis renews its id.
func wantStep(t *testing.T, name string, r run, want object) {
	t.Helper()
	wantSame(t, name, envelope(t, r.body).without("redis_message_id"), want.without("redis_message_id"))
}

func TestConformance_Case078_PipelineBuiltInPython(t *testing.T) {
	perStyle(t, func(s *stage, style string) {
		t := s.t
		var runs seen
		var results []int
		add := dramatiq.NewFunc("add", func(ctx context.Context, in addArgs) (int, error) {
			runs.add(ctx, dramatiq.RawArgs{})
			results = append(results, in.X+in.Y)
			return in.X + in.Y, nil
		}, dramatiq.Queue("w"))
		for first := 1; first <= 3; first++ { // a worker may come in at any step
			s.put("w", golden(t, fmt.Sprintf("pipeline-step%d-%s", first, style)))
			s.run(time.Minute, add)
			for i, r := range runs.all(t, 4-first) {
				name := fmt.Sprintf("pipeline-step%d-%s", first+i, style)
				wantStep(t, name, r, envelope(t, golden(t, name)))
			}
			runs.runs = nil
		}
		if want := []int{1, 3, 6, 3, 6, 6}; !slices.Equal(results, want) {
			t.Errorf("the results are %v, want %v", results, want)
		}
		s.wantEmpty("w")
		s.wantDead("w", "")
	})
}

// The next step is stored with the acknowledgement of the one before, and its actor need not be known.
func TestConformance_Case078_NextStepOnAnotherQueue(t *testing.T) {
	onStage(t, func(s *stage) {
		t := s.t
		var runs seen
		env := envelope(t, golden(t, "pipeline-step1-rabbit"))
		target := env.options()["pipe_target"].(object)
		target["queue_name"], target["actor_name"] = "python", "theirs"
		s.put("w", body(env))
		s.run(time.Minute, runs.addActor())
		target["args"] = []any{number("2"), number("1")}
		wantSame(t, "the next step", envelope(t, s.takeOne("python").body), target)
	})
}

func TestConformance_Case080_PipeIgnore(t *testing.T) {
	perStyle(t, func(s *stage, style string) {
		t := s.t
		var runs seen
		s.put("w", golden(t, "pipeline-ignore-step1-"+style))
		s.run(2*time.Minute, runs.addActor())
		all := runs.all(t, 3)
		wantStep(t, "step 2", all[1], envelope(t, golden(t, "pipeline-ignore-step2-"+style)))
		wantStep(t, "step 3", all[2], promoted(t, "pipeline-ignore-step3-"+style, all[2].at))
	})
}

// promoted returns what a delayed golden message becomes when it is due, and checks that it was due at that time.
func promoted(t *testing.T, name string, at time.Time) object {
	t.Helper()
	want := envelope(t, golden(t, name))
	if want.options()["eta"] != millis(at) || want["queue_name"] != "w.DQ" {
		t.Errorf("%s was due at %v on %v, and ran at %v", name, want.options()["eta"], want["queue_name"], millis(at))
	}
	want["queue_name"] = "w"
	return want.without("eta")
}

// leadsTo returns a message to an actor that has another, as it is before anything was appended to it, as its next step.
func leadsTo(t *testing.T, actor string, next object, args ...any) []byte {
	t.Helper()
	env := envelope(t, golden(t, "no-args"))
	env["actor_name"], env["args"] = actor, append([]any{}, args...)
	env["options"] = object{"pipe_target": next}
	return body(env)
}

func TestConformance_Case080_PipeIgnoreOfTheActor(t *testing.T) {
	perStyle(t, func(s *stage, style string) {
		t := s.t
		var runs, next seen
		want := envelope(t, golden(t, "pipeline-actor-ignore-step2-"+style)).without("redis_message_id")
		s.put("w", leadsTo(t, "add", want, number("1")))
		s.run(time.Minute, runs.addActor(dramatiq.PipeIgnore()), next.actor("ok", succeed))
		runs.all(t, 1)
		wantStep(t, "step 2", next.all(t, 1)[0], want)
	})
}

func TestConformance_Case081_NullIsAppended(t *testing.T) {
	perStyle(t, func(s *stage, style string) {
		t := s.t
		var first, next seen
		want := envelope(t, golden(t, "pipeline-null-step2-"+style)).without("redis_message_id")
		target := envelope(t, golden(t, "pipeline-null-step2-"+style)).without("redis_message_id")
		target["args"] = []any{number("2")}
		s.put("w", leadsTo(t, "null", target))
		s.run(time.Minute, first.actor("null", succeed), next.actor("ok", succeed))
		wantStep(t, "step 2", next.all(t, 1)[0], want)
		if args := next.all(t, 1)[0].args; string(args.Args) != "[2,null]" {
			t.Errorf("it got %s", args.Args)
		}
	})
}

func TestConformance_Case082_NextStepWithDelay(t *testing.T) {
	perStyle(t, func(s *stage, style string) {
		t := s.t
		var runs seen
		name := "pipeline-delayed-step2-" + style
		target := envelope(t, golden(t, name)).without("eta", "redis_message_id")
		target["queue_name"], target["args"] = "w", []any{number("2")}
		s.put("w", leadsTo(t, "add", target, number("1")))
		s.run(0, runs.addActor())
		runs.all(t, 1)
		if waiting, delayed, _, _ := stats(t, s.store, "w"); waiting != 0 || delayed != 1 {
			t.Errorf("%d waiting, %d delayed", waiting, delayed)
		}
		s.run(time.Minute, runs.addActor())
		all := runs.all(t, 2)
		wantStep(t, "step 2", all[1], promoted(t, name, all[1].at))
		s.wantEmpty("w")
	})
}

// failingStep is the message behind the golden pipeline-retry, as it was before it failed.
func failingStep(t *testing.T, style string) object {
	t.Helper()
	env := envelope(t, golden(t, "pipeline-retry-"+style)).without("retries", "traceback", "requeue_timestamp", "eta")
	env["queue_name"] = "w"
	return env
}

func TestConformance_Case083_FailedStepEndsThePipeline(t *testing.T) {
	for name, test := range map[string]struct {
		err    error
		reason string
		before bool // the message is marked by a hook
	}{
		"retries exhausted": {kaboom(), dramatiq.ReasonRetries, false},
		"permanent":         {dramatiq.Permanent(kaboom()), dramatiq.ReasonPermanent, false},
		"marked, not run":   {nil, "marked", true},
	} {
		t.Run(name, func(t *testing.T) {
			var hooks []dramatiq.Middleware
			if test.before {
				hooks = []dramatiq.Middleware{marker{}}
			}
			onStage(t, func(s *stage) {
				t := s.t
				var failing, next seen
				s.put("w", body(failingStep(t, "rabbit")))
				s.run(time.Hour, failing.actor("boom", func() error { return test.err }, dramatiq.MaxRetries(0)), next.addActor())
				failing.all(t, map[bool]int{true: 0, false: 1}[test.before])
				next.all(t, 0)
				s.wantEmpty("w")
				s.wantDead("w", test.reason, nil)
			}, hooks...)
		})
	}
}

// marker marks messages as failed before they run.
type marker struct{}

func (marker) BeforeProcess(_ context.Context, a *dramatiq.Attempt) error {
	a.Fail("marked", "")
	return nil
}

func TestConformance_Case084_RetriedStepContinuesOnce(t *testing.T) {
	perStyle(t, func(s *stage, style string) {
		t := s.t
		var failing, next seen
		failures := 1
		boom := dramatiq.NewFunc("boom", func(ctx context.Context, in dramatiq.RawArgs) (int, error) {
			failing.add(ctx, in)
			if failures > 0 {
				failures--
				return 0, kaboom()
			}
			return 40, nil
		}, dramatiq.Queue("w"))
		s.put("w", body(failingStep(t, style)))
		s.run(time.Hour, boom, next.addActor())

		all := failing.all(t, 2)
		if delay := all[1].at.Sub(all[0].at); delay < 100*time.Millisecond || delay >= 200*time.Millisecond {
			t.Errorf("the retry came after %v", delay)
		}
		retry, want := envelope(t, all[1].body), envelope(t, golden(t, "pipeline-retry-"+style)).without("eta")
		want["queue_name"] = "w"
		failedAt(t, retry, want, all[0].at)
		wantSame(t, "the retry", retry.without("redis_message_id"), want.without("redis_message_id"))
		step := want.options()["pipe_target"].(object)
		step["args"] = []any{number("2"), number("40")}
		wantStep(t, "the next step", next.all(t, 1)[0], step)

		// And with the first attempt in Python: its retry is still delayed when it gets here.
		start := time.Now()
		s.put("w", retryNow(t, style))
		s.run(time.Hour, boom, next.addActor())
		if delay := failing.all(t, 3)[2].at.Sub(start); delay != 150*time.Millisecond {
			t.Errorf("Python's retry came after %v", delay)
		}
		wantStep(t, "the next step", next.all(t, 2)[1], step)
		s.wantEmpty("w")
		s.wantDead("w", "")
	})
}

// retryNow returns the golden retry with its eta, which has passed, as far ahead of the clock as it was.
func retryNow(t *testing.T, style string) []byte {
	t.Helper()
	env := envelope(t, golden(t, "pipeline-retry-"+style))
	if env.options()["eta"] != millis(goldenTime.Add(150*time.Millisecond)) {
		t.Errorf("the golden eta is %v", env.options()["eta"])
	}
	env.options()["eta"] = millis(time.Now().Add(150 * time.Millisecond))
	return body(env)
}

// skipper is middleware that skips every message.
type skipper struct{}

func (skipper) BeforeProcess(context.Context, *dramatiq.Attempt) error {
	return fmt.Errorf("not today: %w", dramatiq.ErrSkip)
}

func TestConformance_Case089_SkippedByABeforeHook(t *testing.T) {
	first, hooks := &trace{}, &trace{}
	onStage(t, func(s *stage) {
		t := s.t
		var runs seen
		success, failure, exhausted := callbackActors()
		env, _ := about(t, envelope(t, golden(t, "on-success-rabbit")))
		env.options()["pipe_target"] = envelope(t, golden(t, "plain-args"))
		s.put("w", body(env))
		s.run(time.Minute, runs.addActor(), success, failure, exhausted)
		runs.all(t, 0)
		s.wantEmpty("w", "cb")
		s.wantDead("w", "")
		first.want(t, "before process", "after skip", "before ack", "after ack")
		hooks.want(t, "after skip", "before ack", "after ack")
		if want := golden(t, "results/null"); string(hooks.result) != string(want) {
			t.Errorf("the result is %s, want %s", hooks.result, want)
		}
	}, first, skipper{}, hooks)
}

// Every message that Python can send to a worker is one that a Go worker runs, or dead-letters for a reason of its own,
// and none of them upsets it.
func TestConformance_EveryAcceptedFileRuns(t *testing.T) {
	onStage(t, func(s *stage) {
		t := s.t
		paths, err := filepath.Glob("testdata/wire/accept/*.json")
		if err != nil || len(paths) < 30 {
			t.Fatalf("%d files, %v", len(paths), err)
		}
		var runs seen
		for _, p := range paths {
			s.put("w", golden(t, strings.TrimSuffix(strings.TrimPrefix(p, "testdata/wire/"), ".json")))
		}
		w := startWorker(t, s.broker, dramatiq.WorkerConfig{}, runs.actor("ok", succeed))
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := w.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		// All but the successors of pipe-target run: one more for each of its two, and pipe-target-extra-member has none.
		runs.all(t, len(paths)+2)
		s.wantEmpty("w")
		s.wantDead("w", dramatiq.ReasonPipeline, nil)
	})
}
