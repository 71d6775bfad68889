package dramatiq_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/dramatiq-go/dramatiq"
)

// Charged is what a callback of OnSuccess takes: the message that has succeeded, and its result.
type Charged struct {
	Message *dramatiq.Envelope `json:"message"`
	Receipt string             `json:"receipt"`
}

// Declined is what a callback of OnFailure takes: the message that has failed, and why.
type Declined struct {
	Message *dramatiq.Envelope `json:"message"`
	Error   struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	} `json:"error"`
}

// Callbacks are actors, too. They are sent together with the end of the message that they are about.
func ExampleOnSuccess() {
	broker, work := openBroker()
	charged := dramatiq.NewActor("charged", func(_ context.Context, c Charged) error {
		fmt.Printf("%s%s gave %s\n", c.Message.Actor, c.Message.Args, c.Receipt)
		return nil
	})
	declined := dramatiq.NewActor("declined", func(_ context.Context, d Declined) error {
		fmt.Println("no receipt:", d.Error.Message)
		return nil
	})
	charge := dramatiq.NewFunc("charge", func(_ context.Context, cents int) (string, error) {
		if cents > 10000 {
			return "", dramatiq.Permanent(errors.New("that is too much"))
		}
		return "receipt 17", nil
	}, dramatiq.OnSuccess(charged), dramatiq.OnFailure(declined))

	if _, err := charge.SendMany(context.Background(), broker, []int{995, 99500}); err != nil {
		log.Fatal(err)
	}
	work(charge, charged, declined) // runs a worker until nothing is left to do
	// Output:
	// charge[995] gave receipt 17
	// no receipt: that is too much
}
