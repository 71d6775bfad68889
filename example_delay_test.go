package dramatiq_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/dramatiq-go/dramatiq"
)

func ExampleDelay() {
	broker, work := openBroker()
	remind := dramatiq.NewActor("remind", func(_ context.Context, what string) error {
		fmt.Println(what)
		return nil
	})
	err := broker.Send(context.Background(),
		remind.Message("third", dramatiq.ETA(time.Now().Add(40*time.Millisecond))),
		remind.Message("second", dramatiq.Delay(20*time.Millisecond)),
		remind.Message("first"),
	)
	if err != nil {
		log.Fatal(err)
	}
	work(remind) // runs a worker until nothing is left to do
	// Output:
	// first
	// second
	// third
}
