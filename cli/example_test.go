package cli_test

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/cli"
	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/memory"
)

// A Setup opens what the actors need. Programs call cli.Main with it; Run is the same for tests.
func ExampleConfig() {
	cfg := cli.Config{
		Name: "shop",
		Setup: func(ctx context.Context, url string) (*cli.App, error) {
			greeting := "Hello, %s!\n" // from a database, say
			greet := dramatiq.NewActor("greet", func(_ context.Context, name string) error {
				fmt.Printf(greeting, name)
				return nil
			})
			broker, err := dramatiq.NewBroker(memory.New(memory.Config{}), dramatiq.BrokerConfig{Logger: cli.Logger(ctx)})
			if err != nil {
				return nil, err
			}
			return &cli.App{Broker: broker, Actors: dramatiq.Actors{greet}}, nil
		},
	}
	code := cli.Run(context.Background(), cfg, []string{"enqueue", "greet", "--args", `["Ada"`}, os.Stdin, os.Stdout, os.Stdout)
	fmt.Println("exit code", code)
	// Output:
	// shop: --args: expected a comma or a closing bracket at offset 6
	// See "shop enqueue --help".
	// exit code 2
}

// Many messages are sent from a file or a pipe. Bad lines keep nobody else back.
func ExampleRun() {
	cfg := cli.Config{
		Name: "shop",
		Open: func(string) (driver.Driver, error) { return memory.New(memory.Config{}), nil }, // usually connect.Open
	}
	lines := strings.NewReader(`{"actor": "greet", "args": ["Ada"]}
{"actor": "greet", "args": "Bob"}
`)
	var ids, failures strings.Builder
	code := cli.Run(context.Background(), cfg, []string{"enqueue", "--stdin", "--log-level", "warn"}, lines, &ids, &failures)
	fmt.Println(strings.Count(ids.String(), "\n"), "sent")
	fmt.Print(failures.String())
	fmt.Println("exit code", code)
	// Output:
	// 1 sent
	// shop: line 2: the member args must be an array
	// shop: 1 of 2 messages were not sent
	// exit code 1
}
