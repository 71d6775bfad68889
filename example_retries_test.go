package dramatiq_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"time"

	"github.com/dramatiq-go/dramatiq"
)

var errOffline = errors.New("the other side is offline")

// A handler that fails is tried again, with a growing delay.
func ExampleMaxRetries() {
	broker, work := openBroker()
	sync := dramatiq.NewActor("sync", func(ctx context.Context, _ dramatiq.None) error {
		attempt := dramatiq.AttemptFrom(ctx).Number()
		fmt.Println("attempt", attempt)
		if attempt < 3 {
			return errOffline
		}
		return nil
	}, dramatiq.MaxRetries(5), dramatiq.MinBackoff(time.Millisecond))
	if _, err := sync.Send(context.Background(), broker, dramatiq.None{}); err != nil {
		log.Fatal(err)
	}
	work(sync) // runs a worker until nothing is left to do
	// Output:
	// attempt 1
	// attempt 2
	// attempt 3
}

// A handler that knows better than the backoff when to try again says so.
func ExampleRetryAfter() {
	broker, work := openBroker()
	poll := dramatiq.NewActor("poll", func(ctx context.Context, export string) error {
		if dramatiq.AttemptFrom(ctx).Number() == 1 {
			fmt.Println(export, "is not ready yet")
			return dramatiq.RetryAfter(10*time.Millisecond, nil) // nil: this is no error
		}
		fmt.Println(export, "is ready")
		return nil
	})
	if _, err := poll.Send(context.Background(), broker, "export 7"); err != nil {
		log.Fatal(err)
	}
	work(poll) // runs a worker until nothing is left to do
	// Output:
	// export 7 is not ready yet
	// export 7 is ready
}

// What no retry can cure is dead-lettered at once: what the handler calls Permanent, and what the actor Throws.
func ExamplePermanent() {
	broker, work := openBroker()
	load := dramatiq.NewActor("load", func(_ context.Context, file string) error {
		fmt.Println("loading", file)
		if file == "broken.csv" {
			return dramatiq.Permanent(errors.New("line 3 has no name"))
		}
		return fmt.Errorf("reading %s: %w", file, io.ErrUnexpectedEOF)
	}, dramatiq.Throws(io.ErrUnexpectedEOF))
	if _, err := load.SendMany(context.Background(), broker, []string{"broken.csv", "short.csv"}); err != nil {
		log.Fatal(err)
	}
	work(load) // runs a worker until nothing is left to do
	// Output:
	// loading broken.csv
	// loading short.csv
}

// RetryWhen decides instead of MaxRetries.
func ExampleRetryWhen() {
	broker, work := openBroker()
	push := dramatiq.NewActor("push", func(ctx context.Context, _ dramatiq.None) error {
		fmt.Println("attempt", dramatiq.AttemptFrom(ctx).Number())
		return errOffline
	}, dramatiq.MinBackoff(time.Millisecond), dramatiq.RetryWhen(func(retries int, err error) bool {
		return errors.Is(err, errOffline) && retries < 2
	}))
	if _, err := push.Send(context.Background(), broker, dramatiq.None{}); err != nil {
		log.Fatal(err)
	}
	work(push) // runs a worker until nothing is left to do
	// Output:
	// attempt 1
	// attempt 2
	// attempt 3
}
