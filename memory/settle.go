package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

// Settle implements driver.Consumer. Each settlement is atomic with its follow-ups; one whose follow-ups cannot be encoded
// fails alone and leaves the message claimed.
func (c *consumer) Settle(ctx context.Context, settlements []driver.Settlement) []error {
	if len(settlements) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return driver.Failed(fmt.Errorf("memory: settle: %w", err), len(settlements))
	}
	var errs []error
	fail := func(i int, err error) {
		if errs == nil {
			errs = make([]error, len(settlements))
		}
		errs[i] = fmt.Errorf("memory: settle: %w", err)
	}
	followUps, failed := encodeFollowUps(settlements)
	now := time.Now()
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	for i := range settlements {
		s := &settlements[i]
		m, err := c.held(s.Delivery)
		if err == nil && failed != nil {
			err = failed[i]
		}
		if err == nil && s.Outcome > driver.Requeue {
			err = fmt.Errorf("outcome %d is unknown", s.Outcome)
		}
		if err != nil {
			fail(i, err)
			continue
		}
		if followUps != nil && len(followUps[i]) > 0 {
			c.store.put(followUps[i], now)
		}
		c.store.settle(m, s, now)
	}
	return errs
}

// encodeFollowUps encodes the follow-ups of all settlements, nil if there are none. errs is nil if none failed.
func encodeFollowUps(settlements []driver.Settlement) (followUps [][]encoded, errs []error) {
	for i := range settlements {
		if len(settlements[i].FollowUps) == 0 {
			continue
		}
		if followUps == nil {
			followUps = make([][]encoded, len(settlements))
		}
		var failed []error
		followUps[i], failed = encode(settlements[i].FollowUps)
		if failed != nil {
			if errs == nil {
				errs = make([]error, len(settlements))
			}
			errs[i] = fmt.Errorf("follow-up: %w", errors.Join(failed...))
		}
	}
	return followUps, errs
}

// settle ends a held claim.
func (s *store) settle(m *message, settlement *driver.Settlement, now time.Time) {
	switch settlement.Outcome {
	case driver.Ack:
		m.release()
	case driver.Reject:
		m.release()
		body := m.body
		if settlement.Death.Body != nil {
			body = bytes.Clone(settlement.Death.Body)
		}
		s.bury(m.queue, body, settlement.Death, now)
	case driver.Requeue:
		s.restore(m, m.successor())
	}
}
