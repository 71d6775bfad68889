package dramatiq_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/memory"
)

// newTestBroker returns a broker on a memory of its own, and the memory.
func newTestBroker(t *testing.T, middleware ...dramatiq.Middleware) (*dramatiq.Broker, *memory.Driver) {
	t.Helper()
	store := memory.New(memory.Config{})
	b, err := dramatiq.NewBroker(store, dramatiq.BrokerConfig{
		Middleware: append(dramatiq.DefaultMiddleware(), middleware...),
		Logger:     slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b, store
}

// startWorker starts a worker that is drained at the end of the test.
func startWorker(t *testing.T, b *dramatiq.Broker, cfg dramatiq.WorkerConfig, actors ...dramatiq.AnyActor) *dramatiq.Worker {
	t.Helper()
	w, err := dramatiq.NewWorker(b, actors, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Drain(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return w
}

// stats returns what a queue holds.
func stats(t *testing.T, store *memory.Driver, queue string) (waiting, delayed, claimed, dead int) {
	t.Helper()
	s, err := store.Stats(t.Context(), queue)
	if err != nil {
		t.Fatal(err)
	}
	return s.Waiting, s.Delayed, s.Claimed, s.Dead
}

func TestWorker_RunsWhatIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, store := newTestBroker(t)
		var sum atomic.Int64
		add := dramatiq.NewActor("add", func(_ context.Context, n int64) error {
			sum.Add(n)
			return nil
		})
		startWorker(t, b, dramatiq.WorkerConfig{}, add)
		for i := range int64(1000) {
			if _, err := add.Send(t.Context(), b, i); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got := sum.Load(); got != 499500 {
			t.Errorf("the sum is %d, want 499500", got)
		}
		if waiting, delayed, claimed, dead := stats(t, store, "default"); waiting+delayed+claimed+dead != 0 {
			t.Errorf("%d waiting, %d delayed, %d claimed, %d dead; want nothing", waiting, delayed, claimed, dead)
		}
	})
}

func TestWorker_RetriesOverDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, store := newTestBroker(t)
		var runs atomic.Int64
		start := time.Now()
		fail := dramatiq.NewActor("fail", func(context.Context, dramatiq.None) error {
			runs.Add(1)
			return errors.New("no luck")
		}, dramatiq.MaxRetries(20))
		startWorker(t, b, dramatiq.WorkerConfig{}, fail)
		if _, err := fail.Send(t.Context(), b, dramatiq.None{}); err != nil {
			t.Fatal(err)
		}
		for {
			time.Sleep(24 * time.Hour)
			synctest.Wait()
			if _, delayed, _, _ := stats(t, store, "default"); delayed == 0 {
				break
			}
		}
		if runs.Load() != 21 {
			t.Errorf("it ran %d times, want 21", runs.Load())
		}
		if _, _, _, dead := stats(t, store, "default"); dead != 1 {
			t.Errorf("%d dead letters, want 1", dead)
		}
		if days := time.Since(start).Hours() / 24; days < 10 {
			t.Errorf("20 retries took %.1f days", days)
		}
	})
}
