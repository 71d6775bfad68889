package dramatiq_test

import (
	"context"
	"fmt"
	"log"

	"github.com/dramatiq-go/dramatiq"
)

// A worker runs until its context ends, at SIGTERM for instance: see signal.NotifyContext. Then nothing new starts, and Run
// returns when the handlers have, or hands back their messages after ShutdownTimeout.
func ExampleWorker_Run() {
	broker, _ := openBroker()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	copyFile := dramatiq.NewActor("copy_file", func(ctx context.Context, file string) error {
		fmt.Println("copying", file)
		stop() // as if the operator had stopped the program now
		if err := ctx.Err(); err != nil {
			return err // a handler's context does not end with the worker's, so that it can finish
		}
		fmt.Println("copied", file)
		return nil
	})
	if _, err := copyFile.Send(ctx, broker, "a.txt"); err != nil {
		log.Fatal(err)
	}
	worker, err := dramatiq.NewWorker(broker, dramatiq.Actors{copyFile}, dramatiq.WorkerConfig{})
	if err != nil {
		log.Fatal(err)
	}
	if err := worker.Run(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("stopped")
	// Output:
	// copying a.txt
	// copied a.txt
	// stopped
}

// With NotifyShutdown a handler is told at once, to stop where it can go on later. Its message is retried.
func ExampleNotifyShutdown() {
	broker, _ := openBroker()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	train := dramatiq.NewActor("train", func(ctx context.Context, model string) error {
		fmt.Println("training", model)
		stop() // as if the operator had stopped the program now
		<-ctx.Done()
		fmt.Println("saving a checkpoint:", context.Cause(ctx))
		return ctx.Err()
	}, dramatiq.NotifyShutdown(true))
	if _, err := train.Send(ctx, broker, "m1"); err != nil {
		log.Fatal(err)
	}
	worker, err := dramatiq.NewWorker(broker, dramatiq.Actors{train}, dramatiq.WorkerConfig{})
	if err != nil {
		log.Fatal(err)
	}
	if err := worker.Run(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// training m1
	// saving a checkpoint: worker is shutting down
}
