// Quickstart sends three messages and runs them, in one program and without a server:
//
//	go run ./examples/quickstart
//
// It keeps them in an SQLite file that is gone afterwards. DRAMATIQ_BROKER_URL names another broker, such as
// amqp://localhost.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/connect"
)

// Email is what the actor send_email takes. On the wire its fields are keyword arguments, so that a Python actor
// send_email(to, subject) could take this one's place.
type Email struct {
	To      string `json:"to"`
	Subject string `json:"subject"`
}

var sendEmail = dramatiq.NewActor("send_email", func(_ context.Context, e Email) error {
	finished <- fmt.Sprintf("sent %q to %s", e.Subject, e.To)
	return nil
}, dramatiq.Queue("quickstart"))

// An error has its message retried after a delay that doubles each time.
var fetchReport = dramatiq.NewActor("fetch_report", func(ctx context.Context, url string) error {
	attempt := dramatiq.AttemptFrom(ctx).Number()
	if attempt < 3 {
		return errors.New("503 Service Unavailable")
	}
	finished <- fmt.Sprintf("fetched %s at the %drd attempt", url, attempt)
	return nil
}, dramatiq.Queue("quickstart"), dramatiq.MaxRetries(5), dramatiq.MinBackoff(200*time.Millisecond))

// finished tells main what has been done.
var finished = make(chan string, 100)

func main() {
	log.SetFlags(0) // the worker's log needs no times here
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "quickstart")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	driver, err := connect.Open(cmp.Or(os.Getenv(connect.URLVariable), "sqlite:"+filepath.Join(dir, "quickstart.db")))
	if err != nil {
		return err
	}
	broker, err := dramatiq.NewBroker(driver, dramatiq.BrokerConfig{})
	if err != nil {
		return err
	}
	defer broker.Close(ctx)

	// Any program that can reach the broker may send; the messages wait there until a worker runs them.
	_, err1 := sendEmail.Send(ctx, broker, Email{To: "ada@example.com", Subject: "Hello"})
	_, err2 := sendEmail.Send(ctx, broker, Email{To: "bob@example.com", Subject: "Reminder"}, dramatiq.Delay(2*time.Second))
	_, err3 := fetchReport.Send(ctx, broker, "https://example.com/report")
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}

	worker, err := dramatiq.NewWorker(broker, dramatiq.Actors{sendEmail, fetchReport}, dramatiq.WorkerConfig{})
	if err != nil {
		return err
	}
	start := time.Now()
	if err := worker.Start(ctx); err != nil { // a program that only works calls worker.Run
		return err
	}
	for range 3 {
		select {
		case what := <-finished:
			fmt.Printf("%.1fs: %s\n", time.Since(start).Seconds(), what)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), worker.Stop(ctx))
		}
	}
	return worker.Drain(ctx)
}
