package drivertest_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/drivertest"
	"github.com/dramatiq-go/dramatiq/memory"
)

// poor is a driver that promises nothing, has no inspector, and can lose its broker.
type poor struct {
	driver.Driver

	out *atomic.Bool
}

var errOut = errors.New("the broker cannot be reached")

func (p poor) Declare(ctx context.Context, queues []string) error {
	if p.out.Load() {
		return errOut
	}
	return p.Driver.Declare(ctx, queues)
}

func (p poor) Enqueue(ctx context.Context, messages []driver.Message) []error {
	if p.out.Load() {
		return driver.Failed(errOut, len(messages))
	}
	return p.Driver.Enqueue(ctx, messages)
}

func (p poor) Consume(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	c, err := p.Driver.Consume(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return poorConsumer{c, p.out}, nil
}

type poorConsumer struct {
	driver.Consumer

	out *atomic.Bool
}

func (c poorConsumer) Fetch(ctx context.Context, limit int) ([]driver.Delivery, error) {
	if c.out.Load() {
		return nil, errOut
	}
	return c.Consumer.Fetch(ctx, limit)
}

func (c poorConsumer) Settle(ctx context.Context, settlements []driver.Settlement) []error {
	if c.out.Load() {
		return driver.Failed(errOut, len(settlements))
	}
	return c.Consumer.Settle(ctx, settlements)
}

// TestPoorDriver runs the suite on a driver without any feature, and its tests of outages, for which the in-memory driver
// has no hook.
func TestPoorDriver(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, drivertest.Features{}, func(testing.TB) drivertest.Store {
		var out atomic.Bool
		return drivertest.Store{
			Open: func(testing.TB) driver.Driver {
				return poor{memory.New(memory.Config{LeaseTimeout: 100 * time.Millisecond}), &out}
			},
			Outage: func(testing.TB) func() {
				out.Store(true)
				return func() { out.Store(false) }
			},
		}
	})
}
