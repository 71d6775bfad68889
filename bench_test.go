package dramatiq_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/memory"
)

type benchArgs struct {
	UserID int `json:"user_id"`
}

func benchBroker(b *testing.B) *dramatiq.Broker {
	b.Helper()
	broker, err := dramatiq.NewBroker(memory.New(memory.Config{}), dramatiq.BrokerConfig{
		Logger: slog.New(slog.NewTextHandler(b.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		b.Fatal(err)
	}
	return broker
}

// BenchmarkMessage builds a message: its arguments, its id.
func BenchmarkMessage(b *testing.B) {
	actor := dramatiq.Declare[benchArgs]("noop")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := actor.Message(benchArgs{i}).Err(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSend sends one message after the other to a memory.
func BenchmarkSend(b *testing.B) {
	broker := benchBroker(b)
	actor := dramatiq.Declare[benchArgs]("noop")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := actor.Send(b.Context(), broker, benchArgs{i}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkProcess has a worker with the default middleware run messages that a memory holds.
func BenchmarkProcess(b *testing.B) {
	broker := benchBroker(b)
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan struct{})
	actor := dramatiq.NewActor("noop", func(context.Context, benchArgs) error {
		if left.Add(-1) == 0 {
			close(done)
		}
		return nil
	})
	enqueueMany(b, broker, actor, b.N)
	w, err := dramatiq.NewWorker(broker, dramatiq.Actors{actor}, dramatiq.WorkerConfig{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	if err := w.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	<-done
	if err := w.Drain(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}

func enqueueMany(b *testing.B, broker *dramatiq.Broker, actor *dramatiq.Actor[benchArgs], n int) {
	b.Helper()
	if err := broker.Driver().Declare(b.Context(), []string{dramatiq.DefaultQueue}); err != nil {
		b.Fatal(err)
	}
	for n > 0 {
		ins := make([]benchArgs, min(n, 1000))
		if _, err := actor.SendMany(b.Context(), broker, ins); err != nil {
			b.Fatal(err)
		}
		n -= len(ins)
	}
}
