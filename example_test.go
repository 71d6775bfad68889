package dramatiq_test

import (
	"context"
	"fmt"
	"log"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/memory"
)

func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	// An actor is a function with a name. Usually it is a package variable, for senders to import.
	type Email struct {
		To      string `json:"to"`
		Subject string `json:"subject"`
	}
	sendEmail := dramatiq.NewActor("send_email", func(_ context.Context, e Email) error {
		fmt.Printf("to %s: %s\n", e.To, e.Subject)
		stop() // that was all
		return nil
	}, dramatiq.Queue("mail"), dramatiq.MaxRetries(5))

	// A broker is made from a driver: a server's, an SQLite file's or, for tests and examples, the one in memory.
	broker, err := dramatiq.NewBroker(memory.New(memory.Config{}), dramatiq.BrokerConfig{})
	if err != nil {
		log.Fatal(err)
	}

	// Any program sends.
	if _, err := sendEmail.Send(ctx, broker, Email{To: "ada@example.com", Subject: "Hello"}); err != nil {
		log.Fatal(err)
	}

	// A worker, here or elsewhere, runs what was sent until its context ends.
	worker, err := dramatiq.NewWorker(broker, dramatiq.Actors{sendEmail}, dramatiq.WorkerConfig{})
	if err != nil {
		log.Fatal(err)
	}
	if err := worker.Run(ctx); err != nil {
		log.Fatal(err)
	}
	if err := broker.Close(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// to ada@example.com: Hello
}
