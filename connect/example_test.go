package connect_test

import (
	"context"
	"fmt"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/connect"
)

func Example() {
	ctx := context.Background()
	driver, err := connect.Open("memory:") // usually "", for $DRAMATIQ_BROKER_URL
	if err != nil {
		fmt.Println(err)
		return
	}
	broker, err := dramatiq.NewBroker(driver, dramatiq.BrokerConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = broker.Close(ctx) }()

	greet := dramatiq.Declare[string]("greet")
	if _, err := greet.Send(ctx, broker, "world"); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("sent")
	// Output: sent
}

func ExampleDescribe() {
	fmt.Println(connect.Describe("amqp://shop:secret@rabbit.internal/jobs?heartbeat=5"))
	// Output: amqp://shop@rabbit.internal/jobs
}

func ExampleOpen_unknownScheme() {
	_, err := connect.Open("kafka://localhost")
	fmt.Println(err)
	// Output: connect: unknown URL scheme "kafka"; the schemes are amqp, amqps, memory, sqlite
}
