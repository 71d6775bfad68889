package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/sqlite"
	"github.com/dramatiq-go/dramatiq/wire"
)

func message(actor string) driver.Message {
	return driver.Message{
		Envelope: &wire.Envelope{Queue: "default", Actor: actor, ID: wire.NewID()},
		Encoder:  wire.JSON{},
	}
}

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx := context.Background()

	d, err := sqlite.Open("sqlite://" + filepath.ToSlash(dir) + "/jobs.db?heartbeat_timeout=30s")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = d.Close(ctx) }()
	if errs := d.Enqueue(ctx, []driver.Message{message("greet")}); errs != nil {
		log.Fatal(errors.Join(errs...))
	}

	c, err := d.Consume(ctx, driver.ConsumerConfig{Queues: []string{"default"}, Concurrency: 1, Logger: slog.Default()})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	deliveries, err := c.Fetch(ctx, 1)
	if err != nil {
		log.Fatal(err)
	}
	envelope, err := wire.JSON{}.Decode(deliveries[0].Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(envelope.Actor)
	if errs := c.Settle(ctx, []driver.Settlement{{Delivery: &deliveries[0]}}); errs != nil {
		log.Fatal(errors.Join(errs...))
	}
	// Output: greet
}

func ExampleDriver_EnqueueTx() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx := context.Background()
	path := filepath.Join(dir, "shop.db")

	d, err := sqlite.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = d.Close(ctx) }()
	db, err := sql.Open("sqlite", path+"?_txlock=immediate&_pragma=busy_timeout(5000)") // the shop's own
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = db.Close() }()

	for _, sold := range []bool{false, true} {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			log.Fatal(err)
		}
		if errs := d.EnqueueTx(tx).Enqueue(ctx, []driver.Message{message("send_invoice")}); errs != nil {
			log.Fatal(errors.Join(errs...))
		}
		if sold {
			err = tx.Commit()
			d.Wake()
		} else {
			err = tx.Rollback()
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	stats, err := d.Stats(ctx, "default")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("invoices to send:", stats.Waiting)
	// Output: invoices to send: 1
}
