package dramatiq_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/dramatiq-go/dramatiq"
)

// tracer is middleware: a value that implements some of the hooks. It need not implement the others.
type tracer struct{ name string }

// BeforeEnqueue sees each message on its way to the broker, and may refuse it.
func (t tracer) BeforeEnqueue(_ context.Context, out *dramatiq.Outgoing) error {
	fmt.Println(t.name, "before enqueue")
	if len(out.Message.Args) > 20 {
		return errors.New("too long")
	}
	return nil
}

// BeforeProcess and AfterProcess come before and after each run of a message.
func (t tracer) BeforeProcess(context.Context, *dramatiq.Attempt) error {
	fmt.Println(t.name, "before process")
	return nil
}

func (t tracer) AfterProcess(_ context.Context, a *dramatiq.Attempt) {
	fmt.Println(t.name, "after process, error:", a.Err())
}

// Wrap surrounds the handler, for what needs a context of its own.
func (t tracer) Wrap(next dramatiq.Handler) dramatiq.Handler {
	return func(ctx context.Context, a *dramatiq.Attempt) error {
		start := time.Now()
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		err := next(ctx, a)
		fmt.Println(t.name, "wraps a handler that is fast:", time.Since(start) < time.Minute)
		return err
	}
}

func ExampleMiddleware() {
	broker, work := openBroker(tracer{"outer"}, tracer{"inner"})
	greet := dramatiq.NewActor("greet", func(_ context.Context, name string) error {
		fmt.Println("hello,", name)
		return nil
	})

	ctx := context.Background()
	_, err := greet.Send(ctx, broker, "Pablo Diego José Francisco de Paula")
	fmt.Println(err)
	if _, err := greet.Send(ctx, broker, "Ada"); err != nil {
		log.Fatal(err)
	}
	work(greet) // runs a worker until nothing is left to do
	// Output:
	// outer before enqueue
	// dramatiq: send to actor "greet" on queue "default": refused by middleware dramatiq_test.tracer: too long
	// outer before enqueue
	// inner before enqueue
	// outer before process
	// inner before process
	// hello, Ada
	// inner wraps a handler that is fast: true
	// outer wraps a handler that is fast: true
	// inner after process, error: <nil>
	// outer after process, error: <nil>
}
