package dramatiq_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/driver"
)

// No message disappears: what cannot run, or has failed for good, is kept with its reason. Drivers that can look into
// their store are inspectors.
func Example_deadLetters() {
	broker, work := openBroker()
	refund := dramatiq.NewActor("refund", func(_ context.Context, order int) error {
		return fmt.Errorf("order %d was never paid", order)
	}, dramatiq.MaxRetries(2), dramatiq.MinBackoff(0))
	cancel := dramatiq.NewActor("cancel", func(context.Context, int) error {
		return dramatiq.Permanent(errors.New("it has been shipped"))
	})
	forgotten := dramatiq.Declare[int]("forgotten")

	ctx := context.Background()
	if err := broker.Send(ctx, refund.Message(7), cancel.Message(8), forgotten.Message(9)); err != nil {
		log.Fatal(err)
	}
	work(refund, cancel) // runs a worker until nothing is left to do

	inspector, ok := broker.Driver().(driver.Inspector)
	if !ok {
		return
	}
	reasons := map[string]string{}
	letters, err := inspector.DeadLetters(ctx, dramatiq.DefaultQueue, "", 100)
	if err != nil {
		log.Fatal(err)
	}
	for _, letter := range letters {
		reasons[letter.Death.Reason] = letter.Death.Detail
	}
	for _, reason := range []string{dramatiq.ReasonRetries, dramatiq.ReasonPermanent, dramatiq.ReasonUnknownActor} {
		fmt.Printf("%s: %s\n", reason, reasons[reason])
	}
	// Output:
	// retries exhausted: order 7 was never paid
	// permanent error: it has been shipped
	// unknown actor: this worker has no handler for actor "forgotten"
}
