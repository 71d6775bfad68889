package dramatiq_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/memory"
)

// Many messages travel in as few round trips as possible. The error says which were not accepted; the others were.
func ExampleActor_SendMany() {
	broker, err := dramatiq.NewBroker(memory.New(memory.Config{}), dramatiq.BrokerConfig{MaxMessageBytes: 1000})
	if err != nil {
		fmt.Println(err)
		return
	}
	index := dramatiq.Declare[string]("index")
	texts := []string{"short", strings.Repeat("long ", 1000), "short, too"}
	messages, err := index.SendMany(context.Background(), broker, texts)

	var some *dramatiq.SendError
	if errors.As(err, &some) {
		for i, err := range some.Errs {
			fmt.Printf("%s: accepted %t, too large %t\n",
				messages[i].Envelope().Actor, err == nil, errors.Is(err, dramatiq.ErrTooLarge))
		}
	}
	// Output:
	// index: accepted true, too large false
	// index: accepted false, too large true
	// index: accepted true, too large false
}
