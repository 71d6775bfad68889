// Worker runs the actors of package tasks until it gets a signal:
//
//	go run ./examples/worker worker
//	go run ./examples/worker enqueue charge_card --kwargs '{"order_id": 7, "cents": 1999}'
package main

import (
	"context"
	"log/slog"

	"github.com/dramatiq-go/dramatiq/cli"
	"github.com/dramatiq-go/dramatiq/connect"
	"github.com/dramatiq-go/dramatiq/examples/tasks"
)

func main() {
	app := &tasks.App{Bank: bank{}, Mailer: mailer{}}
	cli.Main(cli.Config{Open: connect.Open, Describe: connect.Describe, Actors: tasks.Actors(app)})
}

// bank and mailer only log what they would do.
type (
	bank   struct{}
	mailer struct{}
)

func (bank) Charge(ctx context.Context, orderID, cents int) error {
	slog.InfoContext(ctx, "charged", slog.Int("order_id", orderID), slog.Int("cents", cents))
	return nil
}

func (mailer) Send(ctx context.Context, subject string, orderID int) error {
	slog.InfoContext(ctx, "mailed", slog.String("subject", subject), slog.Int("order_id", orderID))
	return nil
}
