package dramatiq_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/memory"
)

// outageDriver is a memory that cannot be reached while down is set.
type outageDriver struct {
	*memory.Driver

	down   atomic.Bool
	refuse atomic.Bool  // settlements with follow-ups
	tries  atomic.Int32 // that failed
}

var errDown = errors.New("no route to host")

func (d *outageDriver) Declare(ctx context.Context, queues []string) error {
	if d.down.Load() {
		d.tries.Add(1)
		return errDown
	}
	return d.Driver.Declare(ctx, queues)
}

func (d *outageDriver) Consume(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	c, err := d.Driver.Consume(ctx, cfg)
	return &outageConsumer{c, d}, err
}

type outageConsumer struct {
	driver.Consumer
	driver *outageDriver
}

func (c *outageConsumer) Fetch(ctx context.Context, limit int) ([]driver.Delivery, error) {
	if c.driver.down.Load() {
		c.driver.tries.Add(1)
		return nil, errDown
	}
	return c.Consumer.Fetch(ctx, limit)
}

func (c *outageConsumer) Settle(ctx context.Context, settlements []driver.Settlement) []error {
	if c.driver.down.Load() {
		return driver.Failed(errDown, len(settlements))
	}
	errs := make([]error, len(settlements))
	for i, s := range settlements {
		if len(s.FollowUps) > 0 && c.driver.refuse.Load() {
			errs[i] = errDown
		} else if err := c.Consumer.Settle(ctx, settlements[i:i+1]); err != nil {
			errs[i] = err[0]
		}
	}
	return errs
}

func newOutageBroker(t *testing.T) (*dramatiq.Broker, *outageDriver) {
	t.Helper()
	d := &outageDriver{Driver: memory.New(memory.Config{})}
	b, err := dramatiq.NewBroker(d, dramatiq.BrokerConfig{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return b, d
}

// In Python the retry that could not be stored is lost, as the message is acknowledged all the same (Q1).
func TestWorker_BrokerIsDownExactlyWhenAHandlerReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d := newOutageBroker(t)
		runs := 0
		flaky := dramatiq.NewActor("flaky", func(context.Context, dramatiq.None) error {
			if runs++; runs == 1 {
				d.down.Store(true)
				return errors.New("boom")
			}
			return nil
		}, dramatiq.MinBackoff(time.Second))
		startWorker(t, b, dramatiq.WorkerConfig{}, flaky)
		mustSend(t, b, flaky, dramatiq.None{})
		time.Sleep(time.Hour)
		synctest.Wait()
		if runs != 1 {
			t.Errorf("it ran %d times while the broker was down", runs)
		}
		wantStats(t, d.Driver, "default", [4]int{0, 0, 1, 0})
		d.down.Store(false)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if runs != 2 {
			t.Errorf("it ran %d times, want 2", runs)
		}
		wantStats(t, d.Driver, "default", [4]int{})
	})
}

func TestWorker_StartsWithTheBrokerDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d := newOutageBroker(t)
		var runs atomic.Int32
		work := dramatiq.NewActor("work", func(context.Context, dramatiq.None) error {
			runs.Add(1)
			return nil
		})
		mustSend(t, b, work, dramatiq.None{})
		d.down.Store(true)
		startWorker(t, b, dramatiq.WorkerConfig{Queues: []string{"default", "other"}}, work)
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if n := runs.Load(); n != 0 {
			t.Errorf("%d runs while the broker was down", n)
		}
		d.down.Store(false)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := runs.Load(); n != 1 {
			t.Errorf("%d runs 5s after the broker came up, want 1", n)
		}
		if n := d.tries.Load(); n < 1000 || n > 100_000 {
			t.Errorf("%d vain tries in three hours", n)
		}
	})
}

// suspectDriver is a memory whose messages have all crashed a worker once.
type suspectDriver struct{ *outageDriver }

func (d *suspectDriver) Consume(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	c, err := d.outageDriver.Consume(ctx, cfg)
	return &suspectConsumer{c}, err
}

type suspectConsumer struct{ driver.Consumer }

func (c *suspectConsumer) Fetch(ctx context.Context, limit int) ([]driver.Delivery, error) {
	deliveries, err := c.Consumer.Fetch(ctx, limit)
	for i := range deliveries {
		deliveries[i].Suspect, deliveries[i].Crashes = true, 1
	}
	return deliveries, err
}

// A suspect that killed the worker before its predecessor's end was stored brought the predecessor into the dead-letter
// queue, as it did so each time.
func TestWorker_ASuspectWaitsUntilTheLastOneIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &suspectDriver{&outageDriver{Driver: memory.New(memory.Config{})}}
		b, err := dramatiq.NewBroker(d, dramatiq.BrokerConfig{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		var runs atomic.Int32
		work := dramatiq.NewActor("work", func(context.Context, int) error {
			runs.Add(1)
			d.down.Store(true) // nothing can be settled
			return nil
		})
		for i := range 3 {
			mustSend(t, b, work, i)
		}
		startWorker(t, b, dramatiq.WorkerConfig{Concurrency: 3}, work)
		for want := range int32(3) {
			time.Sleep(time.Minute)
			synctest.Wait()
			if got := runs.Load(); got != want+1 {
				t.Errorf("%d runs, want %d until the last one is settled", got, want+1)
			}
			d.down.Store(false)
			time.Sleep(5 * time.Second)
		}
		d.down.Store(false)
		time.Sleep(time.Minute)
		wantStats(t, d.Driver, "default", [4]int{})
	})
}

// One message that the broker does not let go of must not hold up the others.
func TestWorker_ASettlementThatFailsHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d := newOutageBroker(t)
		fail := dramatiq.NewActor("fail", func(context.Context, dramatiq.None) error { return errors.New("boom") })
		ok := dramatiq.NewActor("ok", doNothing[dramatiq.None])
		startWorker(t, b, dramatiq.WorkerConfig{}, fail, ok)
		d.refuse.Store(true) // and with it the retry
		mustSend(t, b, fail, dramatiq.None{})
		time.Sleep(time.Minute)
		for range 100 {
			mustSend(t, b, ok, dramatiq.None{})
			synctest.Wait()
			wantStats(t, d.Driver, "default", [4]int{0, 0, 1, 0})
			time.Sleep(100 * time.Millisecond)
		}
		d.refuse.Store(false)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		wantStats(t, d.Driver, "default", [4]int{0, 1, 0, 0}) // the retry
	})
}

// A worker that the broker refuses ends with an error instead of trying for ever.
func TestWorker_EndsWhenTheBrokerRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &refusingDriver{memory.New(memory.Config{})}
		b, err := dramatiq.NewBroker(d, dramatiq.BrokerConfig{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		work := dramatiq.NewActor("work", doNothing[dramatiq.None])
		w, err := dramatiq.NewWorker(b, dramatiq.Actors{work}, dramatiq.WorkerConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Run(t.Context()); !errors.Is(err, dramatiq.ErrMisconfigured) {
			t.Errorf("the error is %v, want ErrMisconfigured", err)
		}
		select {
		case <-w.Done():
		default:
			t.Error("the worker is not done")
		}
	})
}

// A worker that Run does not watch over must not fall silent.
func TestWorker_LogsThatTheBrokerRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		b, err := dramatiq.NewBroker(&refusingDriver{memory.New(memory.Config{})}, dramatiq.BrokerConfig{
			Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError})),
		})
		if err != nil {
			t.Fatal(err)
		}
		startWorker(t, b, dramatiq.WorkerConfig{}, dramatiq.NewActor("work", doNothing[dramatiq.None]))
		synctest.Wait()
		if !strings.Contains(log.String(), "406 inequivalent arg") {
			t.Errorf("the log says %q", log.String())
		}
	})
}

type refusingDriver struct{ *memory.Driver }

func (*refusingDriver) Declare(context.Context, []string) error {
	return driver.Misconfigured(errors.New("406 inequivalent arg"))
}
