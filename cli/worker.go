package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/wire"
)

// workerFlags are those of the worker command.
type workerFlags struct {
	queues   []string
	threads  int
	shutdown millisFlag
}

func (p *program) workerCommand() *cobra.Command {
	var f workerFlags
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Run actors until TERM or INT",
		Long: `Run the actors of this program.

TERM or INT stops the worker gracefully: nothing new starts, running handlers go
on until they return, and what was fetched and not begun goes back to its queue.
When --worker-shutdown-timeout has passed, handlers' contexts are cancelled. A
second signal ends the program at once; what was running is redelivered.

A broker that cannot be reached is waited for.`,
		Example: fmt.Sprintf(`  %[1]s worker
  %[1]s worker -Q mail,images -t 32
  %[1]s worker --broker amqp://localhost -v`, p.cfg.Name),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unexpected argument %q; several queues are written -Q a,b or -Q a -Q b", args[0])
			}
			return nil
		},
		PreRunE: func(cmd *cobra.Command, _ []string) error { return f.check(cmd) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.work(p.begin(cmd.Context()), &f)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringSliceVarP(&f.queues, "queues", "Q", nil, "`queues` to consume, separated by commas (default those of all actors)")
	flags.IntVarP(&f.threads, "threads", "t", 0, fmt.Sprintf("how many `handlers` run at once (default %d for each CPU)",
		dramatiq.DefaultConcurrencyPerCPU))
	flags.Var(&f.shutdown, "worker-shutdown-timeout", "how long handlers may go on after a signal: milliseconds, or a "+
		"duration such as 30s (default "+dramatiq.DefaultShutdownTimeout.String()+")")
	return cmd
}

// check finds mistakes before anything is opened.
func (f *workerFlags) check(cmd *cobra.Command) error {
	if cmd.Flags().Changed("threads") && f.threads < 1 {
		return fmt.Errorf("--threads is %d; it must be at least 1", f.threads)
	}
	for _, q := range f.queues {
		if err := wire.CheckQueueName(q); err != nil {
			return fmt.Errorf("--queues: %w", err)
		}
	}
	return nil
}

// config returns the worker's configuration: the program's, where no flag says otherwise.
func (f *workerFlags) config(app *App, log *slog.Logger) dramatiq.WorkerConfig {
	cfg := app.Worker
	if len(f.queues) > 0 {
		cfg.Queues = slices.Clone(f.queues)
	}
	if f.threads > 0 {
		cfg.Concurrency = f.threads
	}
	if f.shutdown.given {
		cfg.ShutdownTimeout = f.shutdown.value
	}
	if cfg.Logger == nil {
		cfg.Logger = log
	}
	return cfg
}

// work runs the worker command. A signal is no failure, however early it comes.
func (p *program) work(ctx context.Context, f *workerFlags) error {
	err := p.runWorker(ctx, f)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) && !errors.Is(err, dramatiq.ErrAbandoned) {
		return nil
	}
	return err
}

func (p *program) runWorker(ctx context.Context, f *workerFlags) (err error) {
	app, err := p.setup(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, app.close(ctx)) }()
	cfg := f.config(app, p.log)
	worker, err := dramatiq.NewWorker(app.Broker, app.Actors, cfg)
	if err != nil {
		return err
	}
	p.log.LogAttrs(ctx, slog.LevelInfo, "starting worker",
		slog.String("version", p.version()), slog.Int("pid", os.Getpid()),
		slog.Any(dramatiq.LogQueues, worker.Queues()))
	return worker.Run(ctx)
}
