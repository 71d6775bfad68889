package cli_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/cli"
	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/memory"
)

func send[In any](t *testing.T, d *memory.Driver, a *dramatiq.Actor[In], in In) {
	t.Helper()
	broker, err := dramatiq.NewBroker(d.Share(), dramatiq.BrokerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Send(t.Context(), broker, in); err != nil {
		t.Fatal(err)
	}
	if err := broker.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestWorker_runsUntilItIsToldToStop(t *testing.T) {
	t.Parallel()
	d := memory.New(memory.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	one := dramatiq.NewActor("one", func(context.Context, int) error { cancel(); return nil }, dramatiq.Queue("first"))
	two := dramatiq.NewActor("two", func(context.Context, int) error { return errors.New("must not run") }, dramatiq.Queue("second"))
	send(t, d, one, 1)
	send(t, d, two, 2)
	cfg := opening(d, one, two)
	got := run(ctx, cfg, "", "worker", "-Q", "first", "-Q", "other,another", "-t", "3", "--log-format", "json", "-v")
	if got.code != 0 || got.stdout != "" {
		t.Errorf("got %+v, want code 0 and nothing on stdout", got)
	}
	logged := map[string]map[string]any{}
	for line := range strings.Lines(got.stderr) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatalf("%q is no JSON", line)
		}
		logged[fmt.Sprint(record["msg"])] = record
	}
	if record := logged["using broker"]; record["broker"] != "the default" {
		t.Errorf("broker: %v", record)
	}
	if record := logged["worker started"]; fmt.Sprint(record["queues"]) != "[another first other]" || record["count"] != 3.0 {
		t.Errorf("started: %v", record)
	}
	if logged["message started"] == nil {
		t.Error("-v does not log details")
	}
	if stats, err := d.Stats(t.Context(), "second"); err != nil || stats.Waiting != 1 {
		t.Errorf("the queue that was not asked for: %+v, %v", stats, err)
	}
}

func TestWorker_configuration(t *testing.T) {
	t.Parallel()
	d := memory.New(memory.Config{})
	var stop context.CancelFunc
	stopper := dramatiq.NewActor("stop", func(context.Context, int) error { stop(); return nil })
	cfg := cli.Config{Setup: func(context.Context, string) (*cli.App, error) {
		broker, err := dramatiq.NewBroker(d.Share(), dramatiq.BrokerConfig{})
		return &cli.App{Broker: broker, Actors: dramatiq.Actors{stopper}, Worker: dramatiq.WorkerConfig{Concurrency: 5, Queues: []string{"q"}}}, err
	}}
	// Each run is told to stop as soon as its handler runs.
	runWorker := func(args ...string) result {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stop = cancel
		send(t, d, dramatiq.Declare[int]("stop", dramatiq.Queue("q")), 1)
		return run(ctx, cfg, "", append([]string{"worker"}, args...)...)
	}
	if got := runWorker(); got.code != 0 || !strings.Contains(got.stderr, "queues=[q] count=5") {
		t.Errorf("got %+v, want what Setup has configured", got)
	}
	if got := runWorker("-t7", "-Q", "q,r"); got.code != 0 || !strings.Contains(got.stderr, `queues="[q r]" count=7`) {
		t.Errorf("got %+v, want what the flags say", got)
	}
	if got := runWorker("--log-level", "error"); got.code != 0 || got.stderr != "" {
		t.Errorf("got %+v, want no log", got)
	}
	if got := run(t.Context(), opening(d), "", "worker"); got.code != 1 || !strings.Contains(got.stderr, "needs an actor") {
		t.Errorf("got %+v, want an error as there is nothing to do", got)
	}
}

func TestWorker_isToldToStopBeforeItStarts(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	idle := dramatiq.NewActor("idle", func(context.Context, int) error { return nil })
	if got := run(ctx, opening(memory.New(memory.Config{}), idle), "", "worker"); got.code != 0 {
		t.Errorf("got %+v, want code 0", got)
	}
}

func TestWorker_shutdownTimeout(t *testing.T) {
	t.Parallel()
	for _, timeout := range []string{"50", "50ms"} {
		d := memory.New(memory.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		endless := dramatiq.NewActor("endless", func(ctx context.Context, _ int) error {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		})
		send(t, d, endless, 1)
		start := time.Now()
		got := run(ctx, opening(d, endless), "", "worker", "--worker-shutdown-timeout", timeout)
		if got.code != 0 || time.Since(start) > 10*time.Second {
			t.Errorf("got %+v after %v, want a graceful end", got, time.Since(start))
		}
		if stats, err := d.Stats(t.Context(), "default"); err != nil || stats.Waiting != 1 {
			t.Errorf("got %+v, %v, want the message back on its queue", stats, err)
		}
	}
}

// misconfigured is a driver whose server refuses the queues.
type misconfigured struct{ *memory.Driver }

func (misconfigured) Declare(context.Context, []string) error {
	return fmt.Errorf("%w: queue exists with other arguments; delete it", driver.ErrMisconfigured)
}

func TestWorker_misconfigured(t *testing.T) {
	t.Parallel()
	cfg := cli.Config{
		Open:   func(string) (driver.Driver, error) { return misconfigured{memory.New(memory.Config{})}, nil },
		Actors: dramatiq.Actors{dramatiq.NewActor("a", func(context.Context, int) error { return nil })},
	}
	for format, want := range map[string]string{"text": "prog: dramatiq: ", "json": `"level":"ERROR","msg":"failed","error":"dramatiq: `} {
		got := run(t.Context(), cfg, "", "worker", "--log-format", format)
		lines := strings.Split(strings.TrimSpace(got.stderr), "\n")
		last := lines[len(lines)-1]
		if got.code != 1 || !strings.Contains(last, want) || !strings.Contains(last, "delete it") {
			t.Errorf("code %d, last line %q, want code 1 and the error", got.code, last)
		}
	}
}

// setupChild is the program of the tests that send signals: a worker with one message, whose handler takes as long as
// CLI_TEST_CHILD says.
func setupChild(ctx context.Context, url string) (*cli.App, error) {
	duration, err := time.ParseDuration(url)
	if err != nil {
		return nil, err
	}
	broker, err := dramatiq.NewBroker(memory.New(memory.Config{}), dramatiq.BrokerConfig{})
	if err != nil {
		return nil, err
	}
	log := cli.Logger(ctx)
	slow := dramatiq.NewActor("slow", func(context.Context, dramatiq.None) error {
		log.Info("handler begins") //nolint:sloglint // there is no context worth having
		<-time.After(duration)
		log.Info("handler ends") //nolint:sloglint // as above
		return nil
	})
	_, err = slow.Send(ctx, broker, dramatiq.None{})
	return &cli.App{Broker: broker, Actors: dramatiq.Actors{slow}}, err
}
