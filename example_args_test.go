package dramatiq_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	"github.com/dramatiq-go/dramatiq"
)

// Resize is what an actor takes. Its fields are keyword arguments by their JSON names.
type Resize struct {
	Image string `json:"image"`
	Width int    `json:"width"`
}

// show prints how a message's arguments travel.
func show(m dramatiq.AnyMessage) {
	env := m.Envelope()
	if len(env.Args) > 0 {
		fmt.Printf("args %s\n", env.Args)
	}
	if len(env.Kwargs) > 0 {
		fmt.Printf("kwargs %s\n", env.Kwargs)
	}
}

// A struct is sent as keyword arguments; Positional sends it as positional ones. On receipt both are taken, and mixtures.
func ExampleActor_Message_arguments() {
	resize := dramatiq.Declare[Resize]("resize")
	show(resize.Message(Resize{"cat.png", 320}))
	show(resize.Message(Resize{"cat.png", 320}, dramatiq.Positional()))
	// Output:
	// kwargs {"image":"cat.png","width":320}
	// args ["cat.png",320]
}

// What is no struct is one positional argument. Arg makes one of a struct, too.
func ExampleArg() {
	length := dramatiq.Declare[[]int]("length")
	show(length.Message([]int{1, 2, 3}))

	resize := dramatiq.Declare[dramatiq.Arg[Resize]]("resize_one")
	show(resize.Message(dramatiq.Arg[Resize]{Value: Resize{"cat.png", 320}}))
	// Output:
	// args [[1,2,3]]
	// args [{"image":"cat.png","width":320}]
}

// RawArgs takes whatever comes, byte for byte.
func ExampleRawArgs() {
	broker, work := openBroker()
	audit := dramatiq.NewActor("audit", func(_ context.Context, in dramatiq.RawArgs) error {
		fmt.Printf("args %s, kwargs %s\n", in.Args, in.Kwargs)
		return nil
	})
	in := dramatiq.RawArgs{Args: json.RawMessage(`[1, NaN, 123456789012345678901234567890]`)}
	if _, err := audit.Send(context.Background(), broker, in); err != nil {
		log.Fatal(err)
	}
	work(audit) // runs a worker until nothing is left to do
	// Output:
	// args [1, NaN, 123456789012345678901234567890], kwargs {}
}
