package dramatiq_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/dramatiq-go/dramatiq"
)

// When its time is over, a handler's context is cancelled. The message counts as failed and is retried.
func ExampleTimeLimit() {
	broker, work := openBroker()
	search := dramatiq.NewActor("search", func(ctx context.Context, _ string) error {
		<-ctx.Done() // in practice: a query that gets ctx
		fmt.Println("out of time:", errors.Is(context.Cause(ctx), dramatiq.ErrTimeLimitExceeded))
		return ctx.Err()
	}, dramatiq.TimeLimit(10*time.Millisecond), dramatiq.MaxRetries(1), dramatiq.MinBackoff(0))
	if _, err := search.Send(context.Background(), broker, "the answer"); err != nil {
		log.Fatal(err)
	}
	work(search) // runs a worker until nothing is left to do
	// Output:
	// out of time: true
	// out of time: true
}
