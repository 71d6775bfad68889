package dramatiq_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/dramatiq-go/dramatiq"
)

// Declaring an actor and building a message never fail: what is wrong is an error of whatever uses them first, and can be told
// apart with errors.Is.
func Example_errors() {
	broker, _ := openBroker()
	ctx := context.Background()

	noName := dramatiq.Declare[int]("")
	_, err := noName.Send(ctx, broker, 1)
	fmt.Println(errors.Is(err, dramatiq.ErrInvalidActor), err)

	ticks := dramatiq.Declare[map[string]any]("ticks")
	err = ticks.Message(map[string]any{"each": func() {}}).Err()
	fmt.Println(errors.Is(err, dramatiq.ErrEncode), err)

	err = ticks.Call(ctx, nil)
	fmt.Println(errors.Is(err, dramatiq.ErrNoHandler), err)

	_, err = ticks.Send(ctx, dramatiq.BrokerFrom(ctx), nil) // ctx is no handler's
	fmt.Println(errors.Is(err, dramatiq.ErrNoBroker), err)
	// Output:
	// true dramatiq: invalid actor "": name is empty
	// true dramatiq: arguments of a message to actor "ticks": cannot be encoded: json: unsupported type: func()
	// true dramatiq: call actor "ticks": actor has no handler here
	// true dramatiq: send: no broker
}
