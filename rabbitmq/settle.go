package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dramatiq-go/dramatiq/driver"
)

// Settle publishes all follow-ups, waits for their confirmations, and then settles the deliveries whose follow-ups are
// all stored. A settlement that is tried again publishes only what is not stored yet. The server does not confirm a
// settlement: if the connection is lost right after it, the message may come once more.
func (c *consumer) Settle(ctx context.Context, settlements []driver.Settlement) []error {
	errs := make([]error, len(settlements))
	if err := ctx.Err(); err != nil {
		errs = driver.Failed(err, len(settlements))
	} else {
		c.settle(ctx, settlements, errs)
	}
	if !slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return nil
	}
	for i, err := range errs {
		if err != nil {
			errs[i] = fmt.Errorf("rabbitmq: settle: %w", err)
		}
	}
	return errs
}

func (c *consumer) settle(ctx context.Context, settlements []driver.Settlement, errs []error) {
	claims := make([]*claim, len(settlements)) // nil where there is nothing to do any more
	for i := range settlements {
		claims[i], errs[i] = c.claim(&settlements[i])
	}
	c.storeFollowUps(ctx, settlements, claims, errs)
	byLink := make(map[*link]*tags)
	for i, held := range claims {
		if held == nil {
			continue
		}
		if byLink[held.link] == nil {
			byLink[held.link] = &tags{}
		}
		byLink[held.link].add(held.tag, settlements[i].Outcome)
	}
	failed := make(map[*link]error)
	for l, t := range byLink {
		failed[l] = l.settle(t.acks, t.rejects, t.requeues)
	}
	for i, held := range claims {
		if held != nil {
			errs[i] = failed[held.link]
		}
	}
}

// tags are the deliveries of one link that are to be settled.
type tags struct {
	acks, rejects, requeues []uint64
}

func (t *tags) add(tag uint64, outcome driver.Outcome) {
	switch outcome {
	case driver.Reject:
		t.rejects = append(t.rejects, tag)
	case driver.Requeue:
		t.requeues = append(t.requeues, tag)
	default:
		t.acks = append(t.acks, tag)
	}
}

// claim takes the claim of a settlement, so that nobody else settles it.
func (c *consumer) claim(s *driver.Settlement) (*claim, error) {
	if s.Outcome > driver.Requeue {
		return nil, fmt.Errorf("there is no outcome %d", s.Outcome)
	}
	if c.inbox.isClosed() {
		return nil, errors.Join(driver.ErrClosed, driver.ErrNotHeld)
	}
	held, ok := s.Delivery.Claim.(*claim)
	if !ok || held.link.consumer != c || !held.link.held() {
		return nil, driver.ErrNotHeld
	}
	held.mu.Lock()
	defer held.mu.Unlock()
	if held.taken {
		return nil, driver.ErrNotHeld
	}
	held.taken = true
	if len(held.stored) != len(s.FollowUps) {
		held.stored = make([]bool, len(s.FollowUps))
	}
	return held, nil
}

// release gives a claim back for another attempt.
func (c *claim) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taken = false
}

// storeFollowUps stores the follow-ups of the claims. Those that fail are released and set to nil.
func (c *consumer) storeFollowUps(ctx context.Context, settlements []driver.Settlement, claims []*claim, errs []error) {
	type place struct{ settlement, followUp int }
	var places []place
	var messages []driver.Message
	for i, held := range claims {
		if held == nil {
			continue
		}
		for n := range settlements[i].FollowUps {
			if !held.stored[n] {
				places = append(places, place{i, n})
				messages = append(messages, settlements[i].FollowUps[n])
			}
		}
	}
	failures := make(map[int][]error)
	for k, err := range c.driver.enqueue(ctx, messages) {
		at := places[k]
		if err == nil {
			claims[at.settlement].stored[at.followUp] = true
			continue
		}
		failures[at.settlement] = append(failures[at.settlement],
			fmt.Errorf("store a follow-up in %q: %w", messages[k].Envelope.Queue, err))
	}
	for i, failed := range failures {
		errs[i] = errors.Join(failed...)
		claims[i].release()
		claims[i] = nil
	}
}
