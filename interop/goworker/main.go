// Goworker is the Go side of the interop tests, the twin of pyworker.py:
//
//	goworker worker
//	goworker enqueue ACTOR [--queue Q] [--args JSON] [--kwargs JSON] [--option K=V]... [--delay DURATION]
//	goworker enqueue --stdin
//
// The contract (environment, actors, ledger, exit codes) is in interop/README.md.
package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/cli"
	"github.com/dramatiq-go/dramatiq/connect"
)

func main() {
	cli.Main(cli.Config{Name: "goworker", Setup: setup, Describe: connect.Describe})
}

func setup(ctx context.Context, url string) (*cli.App, error) {
	env, err := readEnvironment(url)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", cli.ErrUsage, err)
	}
	record, err := openLedger(env.ledgerURL)
	if err != nil {
		return nil, fmt.Errorf("%w: INTEROP_LEDGER_URL: %w", cli.ErrUsage, err)
	}
	driver, err := connect.Open(env.brokerURL)
	if errors.Is(err, dramatiq.ErrMisconfigured) {
		err = fmt.Errorf("%w: %w", cli.ErrUsage, err)
	}
	if err != nil {
		return nil, errors.Join(err, record.close())
	}
	middleware := dramatiq.DefaultMiddleware()
	if _, none := record.(noLedger); !none {
		middleware = append(middleware, &recorder{record}) // last, so that it sees runs before anything reacts to their outcome
	}
	broker, err := dramatiq.NewBroker(driver, dramatiq.BrokerConfig{Middleware: middleware, Logger: cli.Logger(ctx)})
	if err != nil {
		return nil, errors.Join(err, driver.Close(ctx), record.close())
	}
	return &cli.App{Broker: broker, Actors: actors(record), Worker: env.worker, Close: record.close}, nil
}
