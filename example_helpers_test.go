package dramatiq_test

import (
	"context"
	"log"
	"log/slog"
	"sync/atomic"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/memory"
)

// openBroker is how most examples begin: a broker in memory that logs nothing, with the default middleware and more. work
// runs a worker for actors until no message is left, one handler at a time.
func openBroker(more ...dramatiq.Middleware) (broker *dramatiq.Broker, work func(actors ...dramatiq.AnyActor)) {
	left := &pending{idle: make(chan struct{}, 1)}
	broker, err := dramatiq.NewBroker(memory.New(memory.Config{}), dramatiq.BrokerConfig{
		Middleware: append(append(dramatiq.DefaultMiddleware(), more...), left),
		Logger:     slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	return broker, func(actors ...dramatiq.AnyActor) {
		ctx := context.Background()
		w, err := dramatiq.NewWorker(broker, actors, dramatiq.WorkerConfig{Concurrency: 1})
		if err != nil {
			log.Fatal(err)
		}
		if err := w.Start(ctx); err != nil {
			log.Fatal(err)
		}
		<-left.idle
		if err := w.Drain(ctx); err != nil {
			log.Fatal(err)
		}
	}
}

// pending is middleware that counts the messages that are not settled yet.
type pending struct {
	count atomic.Int64
	idle  chan struct{}
}

func (p *pending) AfterEnqueue(context.Context, *dramatiq.Outgoing) { p.count.Add(1) }

func (p *pending) AfterAck(context.Context, *dramatiq.Attempt) { p.settled() }

func (p *pending) AfterNack(context.Context, *dramatiq.Attempt) { p.settled() }

func (p *pending) settled() {
	if p.count.Add(-1) == 0 {
		p.idle <- struct{}{}
	}
}
