package cli_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/cli"
	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/memory"
	"github.com/dramatiq-go/dramatiq/wire"
)

// childVariable makes a copy of this test, started as a child, the program under test.
const childVariable = "CLI_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		cli.Main(cli.Config{Name: "child", Setup: setupChild})
	}
	goleak.VerifyTestMain(m)
}

// buffer is written by the program and read by the test.
type buffer struct {
	mu   sync.Mutex // guards below
	text bytes.Buffer
}

func (b *buffer) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(data)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// await waits until the buffer holds some text.
func (b *buffer) await(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(b.String(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q did not come; there is %q", text, b.String())
		}
	}
}

// result is how a run of the program has ended.
type result struct {
	code           int
	stdout, stderr string
}

func run(ctx context.Context, cfg cli.Config, stdin string, args ...string) result {
	if cfg.Name == "" {
		cfg.Name = "prog"
	}
	var stdout, stderr buffer
	code := cli.Run(ctx, cfg, args, strings.NewReader(stdin), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// opening returns a configuration whose broker is another driver on d's store.
func opening(d *memory.Driver, actors ...dramatiq.AnyActor) cli.Config {
	return cli.Config{
		Open:   func(string) (driver.Driver, error) { return d.Share(), nil },
		Actors: actors,
	}
}

// stored takes n messages off queues and returns them in their order.
func stored(t *testing.T, d *memory.Driver, n int, queues ...string) []*wire.Envelope {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := d.Share().Consume(ctx, driver.ConsumerConfig{Queues: queues, Encoder: wire.JSON{}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	var envelopes []*wire.Envelope
	for len(envelopes) < n {
		deliveries, err := c.Fetch(ctx, n)
		if err != nil {
			t.Fatalf("after %d of %d messages: %v", len(envelopes), n, err)
		}
		for i := range deliveries {
			env, err := wire.JSON{}.Decode(deliveries[i].Body)
			if err != nil {
				t.Fatal(err)
			}
			envelopes = append(envelopes, env)
			c.Settle(ctx, []driver.Settlement{{Delivery: &deliveries[i]}})
		}
	}
	return envelopes
}

func TestRun_usage(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"":                                   "a command is missing",
		"dance":                              `unknown command "dance"`,
		"worker mail":                        "-Q a,b",
		"worker -t 0":                        "--threads is 0",
		"worker -Q 1a":                       "queue name",
		"worker --worker-shutdown-timeout x": "milliseconds",
		"worker --log-level loud":            "debug, info, warn or error",
		"worker --log-format xml":            "text or json",
		"worker --dance":                     "--dance",
		"enqueue":                            "name an ACTOR",
		"enqueue a b":                        "--args and --kwargs",
		"enqueue a --args [1":                "--args: expected",
		"enqueue a --args {}":                "args must be a JSON array",
		"enqueue a --kwargs []":              "kwargs must be a JSON object",
		"enqueue a --kwargs 1,2":             "--kwargs: ",
		"enqueue a --option x":               "NAME=VALUE",
		"enqueue a --delay -1s":              "must not be negative",
		"enqueue a --delay soon":             "delay",
		"enqueue a --queue a.DQ":             "derived queue",
		"enqueue a --stdin":                  "takes no ACTOR",
		"enqueue --stdin --args [1]":         "takes no --args",
		"version now":                        "unknown command",
	} {
		got := run(t.Context(), opening(memory.New(memory.Config{})), "", strings.Fields(line)...)
		if got.code != 2 || got.stdout != "" || !strings.Contains(got.stderr, want) || !strings.HasPrefix(got.stderr, "prog: ") {
			t.Errorf("%q: got %+v, want code 2 and %q on stderr alone", line, got, want)
		}
	}
}

func TestRun_help(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"-h":           "enqueue",
		"worker -h":    "--worker-shutdown-timeout",
		"help enqueue": "byte for byte",
		"version":      "prog 1.2.3 go",
		"--version":    "prog 1.2.3 go",
	} {
		got := run(t.Context(), cli.Config{Version: "1.2.3"}, "", strings.Fields(line)...)
		if got.code != 0 || got.stderr != "" || !strings.Contains(got.stdout, want) {
			t.Errorf("%q: got %+v, want code 0 and %q on stdout alone", line, got, want)
		}
	}
}

func TestRun_environmentIsNotShown(t *testing.T) {
	t.Setenv(cli.URLVariable, "amqp://bob:hunter2@localhost:1/shop?heartbeat=5")
	cfg := opening(memory.New(memory.Config{}))
	for _, args := range [][]string{{"-h"}, {"worker", "-h"}, {"worker", "x"}, {"enqueue", "a"}} {
		got := run(t.Context(), cfg, "", args...)
		if strings.Contains(got.stdout+got.stderr, "hunter2") {
			t.Errorf("%q shows the password: %+v", args, got)
		}
	}
	if got := run(t.Context(), cfg, "", "enqueue", "a"); !strings.Contains(got.stderr, "broker=amqp://bob@localhost:1/shop\n") {
		t.Errorf("got %+v, want the broker logged", got)
	}
	got := run(t.Context(), cfg, "", "enqueue", "a", "--broker", "amqp://bob:hun/ter2@localhost/")
	if strings.Contains(got.stderr, "ter2") {
		t.Errorf("a piece of the password is logged: %+v", got)
	}
	cfg.Describe = func(url string) string { return "described " + url[:4] }
	if got := run(t.Context(), cfg, "", "enqueue", "a"); !strings.Contains(got.stderr, `broker="described amqp"`) {
		t.Errorf("got %+v, want the broker as described", got)
	}
}

func TestRun_setup(t *testing.T) {
	t.Parallel()
	setup := func(err error) cli.Config {
		return cli.Config{Setup: func(context.Context, string) (*cli.App, error) { return nil, err }}
	}
	for name, c := range map[string]struct {
		cfg  cli.Config
		code int
		want string
	}{
		"fails":              {setup(errors.New("no database")), 1, "prog: no database\n"},
		"is used wrongly":    {setup(errors.Join(cli.ErrUsage, errors.New("x"))), 2, "wrong usage"},
		"returns nothing":    {setup(nil), 1, "returned no broker"},
		"is missing":         {cli.Config{}, 1, "neither Setup nor Open"},
		"comes beside Open":  {cli.Config{Setup: setup(nil).Setup, Actors: dramatiq.Actors{}}, 1, "must be nil"},
		"cannot open driver": {cli.Config{Open: func(string) (driver.Driver, error) { return nil, errors.New("no file") }}, 1, "no file"},
	} {
		for _, args := range [][]string{{"worker"}, {"enqueue", "a"}, {"enqueue", "--stdin"}} {
			if got := run(t.Context(), c.cfg, "", args...); got.code != c.code || !strings.HasSuffix(strings.TrimSpace(got.stderr), strings.TrimSpace(c.want)) &&
				!strings.Contains(got.stderr, c.want) {
				t.Errorf("a Setup that %s: %s: got %+v, want code %d and %q", name, args[0], got, c.code, c.want)
			}
		}
	}
}

func TestRun_closesTheAppInOrder(t *testing.T) {
	t.Parallel()
	d := memory.New(memory.Config{}).Share()
	var order []string
	cfg := cli.Config{Setup: func(ctx context.Context, url string) (*cli.App, error) {
		order = append(order, url)
		broker, err := dramatiq.NewBroker(d, dramatiq.BrokerConfig{Logger: cli.Logger(ctx)})
		return &cli.App{Broker: broker, Close: func() error { //nolint:contextcheck // the command's context may have ended
			if err := d.Declare(context.Background(), nil); !errors.Is(err, driver.ErrClosed) {
				t.Errorf("the broker is not closed yet: %v", err)
			}
			order = append(order, "closed")
			return errors.New("cannot close the database")
		}}, err
	}}
	got := run(t.Context(), cfg, "", "enqueue", "a", "--broker", "memory:")
	if want := []string{"memory:", "closed"}; !slices.Equal(order, want) {
		t.Errorf("got %q, want %q", order, want)
	}
	if got.code != 1 || !strings.Contains(got.stderr, "cannot close the database") {
		t.Errorf("got %+v, want Close's error", got)
	}
}

func TestLogger_elsewhere(t *testing.T) {
	t.Parallel()
	if cli.Logger(t.Context()) == nil {
		t.Error("no logger")
	}
}
