package dramatiq_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/dramatiq-go/dramatiq"
)

// Options print themselves, and what they refuse is reported by whatever uses them first.
func ExampleOption() {
	for _, opt := range []dramatiq.Option{
		dramatiq.MaxRetries(3), dramatiq.MinBackoff(time.Second), dramatiq.TimeLimit(dramatiq.NoLimit),
	} {
		fmt.Println(opt)
	}

	broker, _ := openBroker()
	bad := dramatiq.Declare[dramatiq.None]("bad", dramatiq.Queue("no spaces"), dramatiq.MaxRetries(-3))
	_, err := bad.Send(context.Background(), broker, dramatiq.None{})
	fmt.Println(errors.Is(err, dramatiq.ErrInvalidActor), errors.Is(err, dramatiq.ErrInvalidOption))
	// Output:
	// MaxRetries(3)
	// MinBackoff(1s)
	// TimeLimit(NoLimit)
	// true true
}

// Tenant is an option of one's own. It travels in the message, and an actor can have a default for it.
var Tenant = dramatiq.NewOptionKey("x-tenant", func(name string) error {
	if name == "" {
		return errors.New("must not be empty")
	}
	return nil
})

// tenants is the middleware that reads the option. It says that it knows it, so that actors may have it.
type tenants struct{}

func (tenants) Options() []string { return []string{Tenant.Name()} }

func (tenants) Wrap(next dramatiq.Handler) dramatiq.Handler {
	return func(ctx context.Context, a *dramatiq.Attempt) error {
		name, _ := Tenant.From(a)
		return next(context.WithValue(ctx, tenantKey{}, name), a)
	}
}

type tenantKey struct{}

func ExampleOptionKey() {
	broker, work := openBroker(tenants{})
	report := dramatiq.NewActor("report", func(ctx context.Context, month string) error {
		fmt.Printf("%s for %s\n", month, ctx.Value(tenantKey{}))
		return nil
	}, Tenant.Of("everybody"))

	ctx := context.Background()
	if err := broker.Send(ctx, report.Message("May"), report.Message("June", Tenant.Of("acme"))); err != nil {
		log.Fatal(err)
	}
	_, err := report.Send(ctx, broker, "July", Tenant.Of(""))
	fmt.Println(err)
	work(report) // runs a worker until nothing is left to do
	// Output:
	// dramatiq: message to actor "report": invalid option x-tenant(): must not be empty
	// May for everybody
	// June for acme
}
