package dramatiqtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/memory"
)

// store is the in-memory driver, watched: all that adds or removes messages goes through its lock, so that between two
// queues no message is overlooked.
type store struct {
	*memory.Driver
	skipDelays bool
	dead       func(m *dramatiq.Envelope, death driver.Death) // is told of dead letters; may be nil

	mu      sync.Mutex // guards below
	sent    []dramatiq.Outgoing
	known   map[string]bool // ids of messages
	queues  []string        // that messages were sent to
	refusal error
	changed chan struct{} // closed and replaced when something was stored or settled
}

var (
	_ driver.Driver    = (*store)(nil)
	_ driver.Inspector = (*store)(nil)
)

// Enqueue implements driver.Enqueuer.
func (s *store) Enqueue(ctx context.Context, messages []driver.Message) []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusal != nil {
		return driver.Failed(s.refusal, len(messages))
	}
	errs := s.Driver.Enqueue(ctx, s.due(messages))
	for i, m := range messages {
		if errs == nil || errs[i] == nil {
			s.record(m)
		}
	}
	s.signal()
	return errs
}

// due returns messages as they are to be stored.
func (s *store) due(messages []driver.Message) []driver.Message {
	if !s.skipDelays {
		return messages
	}
	messages = slices.Clone(messages)
	for i := range messages {
		messages[i].Due = time.Time{}
	}
	return messages
}

func (s *store) record(m driver.Message) {
	s.known[m.Envelope.ID] = true
	if !slices.Contains(s.queues, m.Envelope.Queue) {
		s.queues = append(s.queues, m.Envelope.Queue)
	}
	s.sent = append(s.sent, dramatiq.Outgoing{Message: m.Envelope.Clone(), Due: m.Due})
}

func (s *store) signal() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Consume implements driver.Driver.
func (s *store) Consume(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	c, err := s.Driver.Consume(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &consumer{Consumer: c, store: s, cfg: cfg}, nil
}

type consumer struct {
	driver.Consumer
	store *store
	cfg   driver.ConsumerConfig
}

// Settle implements driver.Consumer.
func (c *consumer) Settle(ctx context.Context, settlements []driver.Settlement) []error {
	errs := c.settle(ctx, settlements)
	for i, s := range settlements {
		if c.store.dead != nil && s.Outcome == driver.Reject && (errs == nil || errs[i] == nil) {
			env, err := c.cfg.Encoder.Decode(s.Delivery.Body)
			if err != nil {
				env = &dramatiq.Envelope{Queue: s.Delivery.Queue}
			}
			c.store.dead(env, s.Death)
		}
	}
	return errs
}

func (c *consumer) settle(ctx context.Context, settlements []driver.Settlement) []error {
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	stored := slices.Clone(settlements)
	for i := range stored {
		stored[i].FollowUps = s.due(stored[i].FollowUps)
	}
	errs := c.Consumer.Settle(ctx, stored)
	for i, settlement := range settlements {
		if errs != nil && errs[i] != nil {
			continue
		}
		for _, m := range settlement.FollowUps {
			if !s.known[m.Envelope.ID] { // else it is the same job, again
				s.record(m)
			}
		}
	}
	s.signal()
	return errs
}

// left says what is left to do in queues, "" if nothing is, and when to look again.
func (s *store) left(ctx context.Context, queues []string, delayed bool) (report string, changed <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	for _, q := range queues {
		stats, err := s.Stats(ctx, q)
		if err != nil {
			return "", nil, err
		}
		if stats.Waiting+stats.Claimed > 0 || delayed && stats.Delayed > 0 {
			lines = append(lines, fmt.Sprintf("queue %q has %d messages waiting, %d fetched or running, %d delayed",
				q, stats.Waiting, stats.Claimed, stats.Delayed))
		}
	}
	return strings.Join(lines, "; "), s.changed, nil
}
