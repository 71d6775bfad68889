package tasks_test

import (
	"context"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/examples/tasks"
	"github.com/dramatiq-go/dramatiq/memory"
)

// shop stands for the bank and the mailer: what has happened can be read from its channel.
type shop chan string

func (s shop) Charge(context.Context, int, int) error { s <- "charged"; return nil }

func (s shop) Send(_ context.Context, subject string, _ int) error { s <- subject; return nil }

// A handler alone is called directly.
func TestResizeImage(t *testing.T) {
	t.Parallel()
	if err := tasks.ResizeImage.Call(t.Context(), tasks.Resize{Path: "a.jpg", Width: 640}); err != nil {
		t.Error(err)
	}
	if err := tasks.ResizeImage.Call(t.Context(), tasks.Resize{Path: "a.jpg"}); err == nil {
		t.Error("an image without a width was resized")
	}
}

// What passes from one actor to the next runs on the in-memory broker.
func TestChargeCard(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	broker, err := dramatiq.NewBroker(memory.New(memory.Config{}), dramatiq.BrokerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	events := make(shop, 10)
	worker, err := dramatiq.NewWorker(broker, tasks.Actors(&tasks.App{Bank: events, Mailer: events}), dramatiq.WorkerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := tasks.ChargeCard.Send(ctx, broker, tasks.Charge{OrderID: 7, Cents: 1999}); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"charged", "Your receipt"} {
		select {
		case got := <-events:
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		case <-ctx.Done():
			t.Fatalf("%q did not happen", want)
		}
	}
	if err := worker.Drain(ctx); err != nil {
		t.Error(err)
	}
}
