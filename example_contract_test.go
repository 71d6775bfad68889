package dramatiq_test

import (
	"context"
	"fmt"
	"log"

	"github.com/dramatiq-go/dramatiq"
)

// Crawl is the contract: what senders import. It knows nothing of what its handler needs, and its handler may be in
// another binary or in Python.
var Crawl = dramatiq.Declare[string]("crawl", dramatiq.Queue("crawl"))

// Crawler is where the dependencies live.
type Crawler struct {
	links map[string][]string
}

// Actors returns the contracts with their handlers bound, for a worker.
func (c *Crawler) Actors() dramatiq.Actors {
	return dramatiq.Actors{Crawl.Handle(c.crawl)}
}

// crawl sends to its own actor, which a handler inside of the variable Crawl could not.
func (c *Crawler) crawl(ctx context.Context, page string) error {
	fmt.Println("crawling", page)
	for _, link := range c.links[page] {
		if _, err := Crawl.Send(ctx, dramatiq.BrokerFrom(ctx), link); err != nil {
			return err
		}
	}
	return nil
}

func ExampleDeclare() {
	broker, work := openBroker()
	if _, err := Crawl.Send(context.Background(), broker, "/"); err != nil {
		log.Fatal(err)
	}

	crawler := &Crawler{links: map[string][]string{"/": {"/docs", "/blog"}, "/docs": {"/docs/start"}}}
	work(crawler.Actors()...) // runs a worker until nothing is left to do
	// Output:
	// crawling /
	// crawling /docs
	// crawling /blog
	// crawling /docs/start
}
