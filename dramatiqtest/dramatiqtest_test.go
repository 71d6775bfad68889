package dramatiqtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/dramatiqtest"
)

// fakeT is a test that may fail.
type fakeT struct {
	testing.TB
	cleanups []func()

	mu     sync.Mutex // guards below
	failed []string
	log    strings.Builder
}

func (t *fakeT) Helper()          {}
func (t *fakeT) Cleanup(f func()) { t.cleanups = append(t.cleanups, f) }

func (t *fakeT) Errorf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed = append(t.failed, fmt.Sprintf(format, args...))
}

func (t *fakeT) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	runtime.Goexit()
}

func (t *fakeT) Output() io.Writer { return t }

func (t *fakeT) Write(line []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.log.Write(line)
}

// run runs a function as the test, with its cleanup, and returns how it failed.
func (t *fakeT) run(f func()) string {
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() {
			for _, cleanup := range slices.Backward(t.cleanups) {
				cleanup()
			}
		}()
		f()
	})
	wg.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.failed, "\n")
}

func wantFailure(t *testing.T, got string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(got, part) {
			t.Errorf("the failure does not say %q:\n%s", part, got)
		}
	}
}

type email struct {
	To      string    `json:"to"`
	Subject string    `json:"subject,omitempty"`
	At      time.Time `json:"at,omitzero"`
}

func TestBroker_RunUntilIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran []int
		var countdown *dramatiq.Actor[int]
		countdown = dramatiq.Declare[int]("countdown").Handle(func(ctx context.Context, n int) error {
			ran = append(ran, n)
			if n == 0 {
				return nil
			}
			_, err := countdown.Send(ctx, dramatiq.BrokerFrom(ctx), n-1)
			return err
		})
		b := dramatiqtest.New(t, dramatiq.Actors{countdown}, dramatiqtest.FailOnError())
		b.RunUntilIdle(t.Context())
		for _, delay := range []time.Duration{0, time.Hour} {
			if _, err := countdown.Send(t.Context(), b, 3, dramatiq.Delay(delay)); err != nil {
				t.Fatal(err)
			}
		}
		b.RunUntilIdle(t.Context())
		if want := []int{3, 2, 1, 0}; !slices.Equal(ran, want) {
			t.Errorf("ran %v, want %v", ran, want)
		}
		start := time.Now()
		b.RunAll(t.Context())
		if want := []int{3, 2, 1, 0, 3, 2, 1, 0}; !slices.Equal(ran, want) {
			t.Errorf("ran %v, want %v", ran, want)
		}
		if got := time.Since(start); got != time.Hour {
			t.Errorf("the delayed message ran after %v, want 1h", got)
		}
	})
}

// Work that hops between queues, and starts in hooks, is never overlooked.
func TestBroker_RunUntilIdleOverQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran atomic.Int64
		var once sync.Once
		var ping, pong *dramatiq.Actor[int]
		pong = dramatiq.Declare[int]("pong", dramatiq.Queue("a")).Handle(func(ctx context.Context, n int) error {
			ran.Add(1)
			_, err := ping.Send(ctx, dramatiq.FollowUps(ctx), n)
			return err
		})
		ping = dramatiq.Declare[int]("ping", dramatiq.Queue("z")).Handle(func(ctx context.Context, n int) error {
			ran.Add(1)
			if n == 0 {
				return nil
			}
			_, err := pong.Send(ctx, dramatiq.FollowUps(ctx), n-1)
			return err
		})
		again := &afterAck{func(ctx context.Context, b *dramatiq.Broker) {
			if ran.Load() < 101 {
				return
			}
			once.Do(func() {
				if _, err := pong.Send(ctx, b, 0); err != nil {
					t.Error(err)
				}
			})
		}}
		b := dramatiqtest.New(t, dramatiq.Actors{ping, pong}, dramatiqtest.FailOnError(),
			dramatiqtest.BrokerConfig(dramatiq.BrokerConfig{Middleware: append(dramatiq.DefaultMiddleware(), again)}),
			dramatiqtest.WorkerConfig(dramatiq.WorkerConfig{Concurrency: 4}))
		if _, err := ping.Send(t.Context(), b, 50); err != nil {
			t.Fatal(err)
		}
		b.RunUntilIdle(t.Context())
		if ran.Load() != 103 {
			t.Errorf("%d messages ran, want 103", ran.Load())
		}
	})
}

type afterAck struct {
	call func(context.Context, *dramatiq.Broker)
}

func (m *afterAck) AfterAck(ctx context.Context, a *dramatiq.Attempt) {
	m.call(ctx, a.Worker().Broker())
}

func TestBroker_RunAllRetriesForDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boom := errors.New("boom")
		fail := dramatiq.NewActor("fail", func(context.Context, dramatiq.None) error { return boom })
		b := dramatiqtest.New(t, dramatiq.Actors{fail})
		if _, err := fail.Send(t.Context(), b, dramatiq.None{}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		b.RunAll(t.Context())
		if days := time.Since(start).Hours() / 24; days < 10 {
			t.Errorf("20 retries took %.1f days", days)
		}
		letters := b.DeadLetters()
		if len(letters) != 1 {
			t.Fatalf("%d dead letters, want 1", len(letters))
		}
		if got, want := letters[0].String(), "fail(): retries exhausted: boom"; got != want {
			t.Errorf("the dead letter is %q, want %q", got, want)
		}
		if retries, _ := letters[0].Message.Options.Int("retries"); retries != 21 {
			t.Errorf("%d retries were counted, want 21", retries)
		}
		if n := len(b.Messages()); n != 1 {
			t.Errorf("%d messages are listed, want 1: retries are the same message", n)
		}
	})
}

// Outside of a bubble SkipDelays spares the wait; what was asked for is still to be seen.
func TestSkipDelays(t *testing.T) {
	t.Parallel()
	ran := 0
	flaky := dramatiq.NewActor("flaky", func(context.Context, dramatiq.None) error {
		if ran++; ran < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	b := dramatiqtest.New(t, dramatiq.Actors{flaky}, dramatiqtest.SkipDelays())
	if _, err := flaky.Send(t.Context(), b, dramatiq.None{}, dramatiq.Delay(time.Hour)); err != nil {
		t.Fatal(err)
	}
	b.RunUntilIdle(t.Context())
	if ran != 3 {
		t.Errorf("it ran %d times, want 3", ran)
	}
	if due := time.Until(b.Messages()[0].Due); due < 50*time.Minute {
		t.Errorf("the message is listed as due in %v, want in an hour", due)
	}
}

func TestBroker_RunFailsAtTheEndOfItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := dramatiq.NewActor("stuck", func(ctx context.Context, _ dramatiq.None) error {
			<-ctx.Done()
			return ctx.Err()
		}, dramatiq.TimeLimit(dramatiq.NoLimit))
		ft := &fakeT{TB: t}
		failure := ft.run(func() {
			b := dramatiqtest.New(ft, dramatiq.Actors{stuck})
			for range 2 {
				if _, err := stuck.Send(t.Context(), b, dramatiq.None{}); err != nil {
					t.Error(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			b.RunUntilIdle(ctx)
			t.Error("RunUntilIdle has returned")
		})
		wantFailure(t, failure, "context deadline exceeded", `queue "default" has 1 messages waiting, 1 fetched or running, 0 delayed`)
	})
}

func TestBroker_RunWithoutHandlers(t *testing.T) {
	t.Parallel()
	ft := &fakeT{TB: t}
	failure := ft.run(func() {
		dramatiqtest.New(ft, nil).RunUntilIdle(t.Context())
	})
	wantFailure(t, failure, "a worker needs an actor with a handler")
}

func TestNew_BadConfig(t *testing.T) {
	t.Parallel()
	ft := &fakeT{TB: t}
	failure := ft.run(func() {
		dramatiqtest.New(ft, nil, dramatiqtest.BrokerConfig(dramatiq.BrokerConfig{MaxMessageBytes: -1}))
	})
	wantFailure(t, failure, "MaxMessageBytes is -1")
}

func TestFailOnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := dramatiq.NewActor("fail", func(_ context.Context, in email) error {
			return fmt.Errorf("no such mailbox: %s", in.To)
		}, dramatiq.MaxRetries(1))
		wait := dramatiq.NewActor("wait", func(ctx context.Context, _ dramatiq.None) error {
			if dramatiq.AttemptFrom(ctx).Number() == 1 {
				return dramatiq.RetryAfter(time.Second, nil)
			}
			return nil
		})
		unknown := dramatiq.Declare[dramatiq.RawArgs]("unknown")
		ft := &fakeT{TB: t}
		failure := ft.run(func() {
			b := dramatiqtest.New(ft, dramatiq.Actors{fail, wait}, dramatiqtest.FailOnError())
			if err := b.Send(t.Context(), fail.Message(email{To: "nobody"}), wait.Message(dramatiq.None{}),
				unknown.Message(dramatiq.RawArgs{Args: []byte(`[1,"x"]`), Kwargs: []byte(`{"a":null}`)})); err != nil {
				t.Error(err)
			}
			b.RunAll(t.Context())
		})
		lines := strings.Split(failure, "\n")
		slices.Sort(lines)
		want := []string{
			`dramatiqtest: attempt 1 at fail({"to":"nobody"}) failed: no such mailbox: nobody`,
			`dramatiqtest: attempt 2 at fail({"to":"nobody"}) failed: no such mailbox: nobody`,
			`dramatiqtest: fail({"to":"nobody"}) is dead: retries exhausted: no such mailbox: nobody`,
			`dramatiqtest: unknown(1,"x", {"a":null}) is dead: unknown actor: this worker has no handler for actor "unknown"`,
		}
		if !slices.Equal(lines, want) {
			t.Errorf("the failures are\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		send := dramatiq.Declare[email]("send")
		length := dramatiq.DeclareFunc[string, int]("length", dramatiq.Queue("other"))
		pointer := dramatiq.Declare[*email]("pointer", dramatiq.Positional())
		none := dramatiq.Declare[dramatiq.None]("none")
		b := dramatiqtest.New(t, nil)
		mails := []email{{To: "a", At: time.Now()}, {To: "b", Subject: "hi"}}
		if _, err := send.SendMany(t.Context(), b, mails); err != nil {
			t.Fatal(err)
		}
		if err := b.Send(t.Context(), length.Message("four", dramatiq.Delay(time.Hour)), pointer.Message(&email{To: "p"}),
			none.Message(dramatiq.None{})); err != nil {
			t.Fatal(err)
		}
		if got := dramatiqtest.Sent(b, send); len(got) != 2 || got[0].To != "a" || !got[0].At.Equal(mails[0].At) || got[1] != mails[1] {
			t.Errorf("send was sent %v, want %v", got, mails)
		}
		if got := dramatiqtest.Sent(b, length); !slices.Equal(got, []string{"four"}) {
			t.Errorf("length was sent %q", got)
		}
		if got, want := dramatiqtest.Sent(b, pointer), []*email{{To: "p"}}; !reflect.DeepEqual(got, want) {
			t.Errorf("pointer was sent %v, want %v", got, want)
		}
		if got := len(dramatiqtest.Sent(b, none)); got != 1 {
			t.Errorf("none was sent %d messages, want 1", got)
		}
		dramatiqtest.AssertSent(t, b, send, mails[0])
		dramatiqtest.AssertSent(t, b, length, "four")
		dramatiqtest.AssertSent(t, b, pointer, &email{To: "p"})
		dramatiqtest.AssertNotSent(t, b, dramatiq.Declare[int]("never"))
		if got := b.Messages()[2]; got.Message.Queue != "other" || !got.Due.Equal(time.Now().Add(time.Hour)) {
			t.Errorf("the message to length is %+v", got)
		}
	})
}

func TestAssertSent_Failures(t *testing.T) {
	t.Parallel()
	send := dramatiq.Declare[email]("send")
	ft := &fakeT{TB: t}
	failure := ft.run(func() {
		b := dramatiqtest.New(ft, nil)
		if err := b.Send(t.Context(), send.Message(email{To: "a"}), dramatiq.Declare[int]("other").Message(1)); err != nil {
			t.Error(err)
		}
		dramatiqtest.AssertSent(ft, b, send, email{To: "b"})
		dramatiqtest.AssertNotSent(ft, b, send)
		dramatiqtest.AssertSent(ft, b, dramatiq.Declare[chan int]("bad"), nil)
	})
	want := `dramatiqtest: not sent: send({"to":"b"})
	sent: send({"to":"a"})
	and 1 messages to other actors
dramatiqtest: actor "send" should not have been sent anything
	sent: send({"to":"a"})
	and 1 messages to other actors
dramatiqtest: the expected message cannot be sent: dramatiq: invalid actor "bad": argument type chan int cannot be encoded as JSON`
	if failure != want {
		t.Errorf("the failure is\n%s\nwant\n%s", failure, want)
	}
}

func TestSent_DoesNotFit(t *testing.T) {
	t.Parallel()
	ft := &fakeT{TB: t}
	failure := ft.run(func() {
		b := dramatiqtest.New(ft, nil)
		if _, err := dramatiq.Declare[string]("send").Send(t.Context(), b, "text"); err != nil {
			t.Error(err)
		}
		dramatiqtest.Sent(b, dramatiq.Declare[int]("send"))
		t.Error("Sent has returned")
	})
	wantFailure(t, failure, `what was sent to actor "send"`, `send("text")`, dramatiq.ErrArguments.Error())
}

func TestBroker_FailSends(t *testing.T) {
	t.Parallel()
	b := dramatiqtest.New(t, nil)
	send := dramatiq.Declare[email]("send")
	b.FailSends(dramatiq.ErrMaybeStored)
	if _, err := send.Send(t.Context(), b, email{}); !errors.Is(err, dramatiq.ErrMaybeStored) {
		t.Errorf("the error is %v, want ErrMaybeStored", err)
	}
	dramatiqtest.AssertNotSent(t, b, send)
	b.FailSends(nil)
	if _, err := send.Send(t.Context(), b, email{}); err != nil {
		t.Error(err)
	}
	dramatiqtest.AssertSent(t, b, send, email{})
}

// What was sent is a copy: neither side can spoil the other's.
func TestBroker_MessagesAreCopies(t *testing.T) {
	t.Parallel()
	b := dramatiqtest.New(t, nil)
	if _, err := dramatiq.Declare[int]("send").Send(t.Context(), b, 1); err != nil {
		t.Fatal(err)
	}
	b.Messages()[0].Message.Options.SetInt("x", 1)
	if n := b.Messages()[0].Message.Options.Len(); n != 0 {
		t.Errorf("the message has %d options, want none", n)
	}
}

func TestLogger(t *testing.T) {
	t.Parallel()
	ft := &fakeT{TB: t}
	log := dramatiqtest.Logger(ft)
	ft.run(func() { log.Info("during the test") })
	log.Info("after the test")
	if got := ft.log.String(); !strings.Contains(got, "during the test") || strings.Contains(got, "after the test") {
		t.Errorf("the log is %q", got)
	}
}
