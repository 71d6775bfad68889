package dramatiqtest_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/dramatiqtest"
)

// Welcome is what the examples send.
type Welcome struct {
	To string `json:"to"`
}

var (
	sendWelcome = dramatiq.NewActor("send_welcome", func(_ context.Context, w Welcome) error {
		fmt.Println("welcome,", w.To)
		return nil
	})
	remind = dramatiq.NewActor("remind", func(_ context.Context, to string) error {
		fmt.Println("are you still there,", to)
		return nil
	})
)

// signUp is the code under test.
func signUp(ctx context.Context, s dramatiq.Sender, name string) error {
	return s.Send(ctx, sendWelcome.Message(Welcome{To: name}), remind.Message(name, dramatiq.Delay(72*time.Hour)))
}

func Example() {
	t := newT() // in a test, t is its *testing.T

	b := dramatiqtest.New(t, dramatiq.Actors{sendWelcome, remind}, dramatiqtest.FailOnError(), dramatiqtest.SkipDelays())
	if err := signUp(t.Context(), b, "Ada"); err != nil {
		t.Fatal(err)
	}
	dramatiqtest.AssertSent(t, b, sendWelcome, Welcome{To: "Ada"})
	b.RunUntilIdle(t.Context())
	// Output:
	// welcome, Ada
	// are you still there, Ada
}

func ExampleSent() {
	t := newT() // in a test, t is its *testing.T

	b := dramatiqtest.New(t, nil) // nothing is to run
	for _, name := range []string{"Ada", "Grace"} {
		if err := signUp(t.Context(), b, name); err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range dramatiqtest.Sent(b, sendWelcome) {
		fmt.Println(w.To)
	}
	// Output:
	// Ada
	// Grace
}

func ExampleAssertSent() {
	t := newT() // in a test, t is its *testing.T

	b := dramatiqtest.New(t, nil)
	if err := signUp(t.Context(), b, "Ada"); err != nil {
		t.Fatal(err)
	}
	dramatiqtest.AssertSent(t, b, sendWelcome, Welcome{To: "Ada"})
	dramatiqtest.AssertSent(t, b, remind, "Grace")
	// Output:
	// dramatiqtest: not sent: remind("Grace")
	// 	sent: remind("Ada")
	// 	and 1 messages to other actors
}

func ExampleBroker_DeadLetters() {
	t := newT() // in a test, t is its *testing.T

	charge := dramatiq.NewActor("charge", func(_ context.Context, cents int) error {
		return fmt.Errorf("card was declined for %d cents", cents)
	}, dramatiq.MaxRetries(3))
	b := dramatiqtest.New(t, dramatiq.Actors{charge}, dramatiqtest.SkipDelays())
	if _, err := charge.Send(t.Context(), b, 995); err != nil {
		t.Fatal(err)
	}
	b.RunAll(t.Context())
	for _, letter := range b.DeadLetters() {
		fmt.Println(letter)
	}
	// Output:
	// charge(995): retries exhausted: card was declined for 995 cents
}

func ExampleBroker_FailSends() {
	t := newT() // in a test, t is its *testing.T

	b := dramatiqtest.New(t, nil)
	b.FailSends(dramatiq.ErrMaybeStored)
	fmt.Println(signUp(t.Context(), b, "Ada"))
	// Output:
	// dramatiq: 2 of 2 messages were not accepted: dramatiq: send to actor "send_welcome" on queue "default": the message may or may not have been stored
}

// exampleT stands for a test, as examples have none. It prints failures.
type exampleT struct{ testing.TB }

func newT() exampleT { return exampleT{} }

func (exampleT) Helper()                      {}
func (exampleT) Cleanup(func())               {}
func (exampleT) Context() context.Context     { return context.Background() }
func (exampleT) Output() io.Writer            { return io.Discard }
func (exampleT) Fatal(args ...any)            { panic(fmt.Sprint(args...)) }
func (exampleT) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }
func (exampleT) Errorf(f string, args ...any) { fmt.Printf(f+"\n", args...) }
