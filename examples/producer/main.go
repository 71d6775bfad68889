// Producer sends messages to the actors of package tasks; examples/worker runs them:
//
//	go run ./examples/producer
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/connect"
	"github.com/dramatiq-go/dramatiq/examples/tasks"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	driver, err := connect.Open("")
	if err != nil {
		return err
	}
	broker, err := dramatiq.NewBroker(driver, dramatiq.BrokerConfig{})
	if err != nil {
		return err
	}
	defer broker.Close(ctx)
	log.Println("sending to", connect.Describe(""))

	msg, err := tasks.ChargeCard.Send(ctx, broker, tasks.Charge{OrderID: 7, Cents: 1999}, dramatiq.Delay(2*time.Second))
	if err != nil {
		return err
	}
	fmt.Println("sent", msg)

	// Many messages to one actor share round trips.
	images := []tasks.Resize{{Path: "a.jpg", Width: 640}, {Path: "b.jpg", Width: 640}, {Path: "c.jpg", Width: 1280}}
	messages, err := tasks.ResizeImage.SendMany(ctx, broker, images)
	if err != nil {
		return err
	}
	fmt.Println("sent", len(messages), "images")
	return nil
}
