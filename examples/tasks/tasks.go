// Package tasks holds the actors of an imaginary shop: what can be sent, and with Actors what runs it. Programs that only
// send import it, too.
package tasks

import (
	"context"
	"errors"
	"time"

	"github.com/dramatiq-go/dramatiq"
)

// Resize is what ResizeImage takes.
type Resize struct {
	Path  string `json:"path"`
	Width int    `json:"width"`
}

// Charge is what ChargeCard takes.
type Charge struct {
	OrderID int `json:"order_id"`
	Cents   int `json:"cents"`
}

// ResizeImage is contract and handler in one, which is all it takes for a handler that needs nothing from outside.
var ResizeImage = dramatiq.NewActor("resize_image", func(ctx context.Context, r Resize) error {
	if r.Width <= 0 {
		return dramatiq.Permanent(errors.New("width must be positive")) // no retry can cure that
	}
	dramatiq.Logger(ctx).InfoContext(ctx, "resized")
	return nil
}, dramatiq.Queue("images"), dramatiq.TimeLimit(time.Minute))

// ChargeCard and SendReceipt are contracts. Their handlers need an App and are bound in Actors.
var (
	ChargeCard  = dramatiq.Declare[Charge]("charge_card", dramatiq.Queue("payments"), dramatiq.MaxRetries(10))
	SendReceipt = dramatiq.Declare[int]("send_receipt", dramatiq.Queue("mail"))
)

// Bank takes money.
type Bank interface {
	Charge(ctx context.Context, orderID, cents int) error
}

// Mailer sends mail.
type Mailer interface {
	Send(ctx context.Context, subject string, orderID int) error
}

// App is what the handlers need from outside.
type App struct {
	Bank   Bank
	Mailer Mailer
}

// Actors returns what a worker runs.
func Actors(app *App) dramatiq.Actors {
	return dramatiq.Actors{ResizeImage, ChargeCard.Handle(app.chargeCard), SendReceipt.Handle(app.sendReceipt)}
}

// chargeCard asks for the receipt with a follow-up: it is stored together with the acknowledgement of this message, so that
// a charge that fails, or a worker that dies, sends none.
func (a *App) chargeCard(ctx context.Context, c Charge) error {
	if err := a.Bank.Charge(ctx, c.OrderID, c.Cents); err != nil {
		return err
	}
	_, err := SendReceipt.Send(ctx, dramatiq.FollowUps(ctx), c.OrderID)
	return err
}

func (a *App) sendReceipt(ctx context.Context, orderID int) error {
	return a.Mailer.Send(ctx, "Your receipt", orderID)
}
