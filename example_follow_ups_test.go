package dramatiq_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/dramatiq-go/dramatiq"
)

// A handler sends through FollowUps what must be sent if, and only if, it succeeds: it is stored together with the
// acknowledgement of its message. What it sends through BrokerFrom is sent at once, and again by each further attempt.
func ExampleFollowUps() {
	broker, work := openBroker()
	ship := dramatiq.NewActor("ship", func(_ context.Context, order int) error {
		fmt.Println("shipping order", order)
		return nil
	})
	note := dramatiq.NewActor("note", func(_ context.Context, text string) error {
		fmt.Println("note:", text)
		return nil
	})
	pay := dramatiq.NewActor("pay", func(ctx context.Context, order int) error {
		if _, err := note.Send(ctx, dramatiq.BrokerFrom(ctx), "somebody is paying"); err != nil {
			return err
		}
		if _, err := ship.Send(ctx, dramatiq.FollowUps(ctx), order); err != nil {
			return err
		}
		if dramatiq.AttemptFrom(ctx).Number() == 1 {
			return errors.New("the bank is closed") // ship was not sent
		}
		return nil
	}, dramatiq.MinBackoff(0))

	if _, err := pay.Send(context.Background(), broker, 7); err != nil {
		log.Fatal(err)
	}
	work(pay, ship, note) // runs a worker until nothing is left to do
	// Output:
	// note: somebody is paying
	// note: somebody is paying
	// shipping order 7
}
