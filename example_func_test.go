package dramatiq_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/dramatiq-go/dramatiq"
)

// CountWords gives something back: it is a Func, an actor with a result.
var CountWords = dramatiq.NewFunc("count_words", func(_ context.Context, text string) (int, error) {
	return len(strings.Fields(text)), nil
})

func ExampleNewFunc() {
	broker, work := openBroker()
	job, err := CountWords.Send(context.Background(), broker, "many a little makes a mickle")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("sent a job to", job.Envelope().Actor)
	work(CountWords) // runs a worker until nothing is left to do
	// Output:
	// sent a job to count_words
}

// Call runs the handler here and now, for tests and for work that need not wait.
func ExampleFunc_Call() {
	n, err := CountWords.Call(context.Background(), "many a little makes a mickle")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(n, "words")
	// Output:
	// 6 words
}
