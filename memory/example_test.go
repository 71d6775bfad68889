package memory_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/memory"
	"github.com/dramatiq-go/dramatiq/wire"
)

func Example() {
	ctx := context.Background()
	d := memory.New(memory.Config{})

	errs := d.Enqueue(ctx, []driver.Message{{
		Envelope: &wire.Envelope{Queue: "mail", Actor: "send_email", ID: "1"}, Encoder: wire.JSON{},
	}})
	fmt.Println("errors:", errs)

	c, err := d.Consume(ctx, driver.ConsumerConfig{
		Queues: []string{"mail"}, Concurrency: 1, Encoder: wire.JSON{}, Logger: slog.Default(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	deliveries, err := c.Fetch(ctx, 10)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", deliveries[0].Body)
	fmt.Println("errors:", c.Settle(ctx, []driver.Settlement{{Delivery: &deliveries[0]}}))

	stats, err := d.Stats(ctx, "mail")
	fmt.Printf("%+v %v\n", stats, err)
	fmt.Println("errors:", errors.Join(c.Close(ctx), d.Close(ctx)))
	// Output:
	// errors: []
	// {"queue_name":"mail","actor_name":"send_email","args":[],"kwargs":{},"options":{},"message_id":"1","message_timestamp":0}
	// errors: []
	// {Waiting:0 Delayed:0 Claimed:0 Dead:0} <nil>
	// errors: <nil>
}
