package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

// deadLetter is one dead message.
type deadLetter struct {
	id    uint64 // grows with the time of death
	body  []byte
	died  time.Time
	death driver.Death
}

func (s *store) bury(q *queue, body []byte, death driver.Death, now time.Time) {
	death.Body = nil
	q.dead = append(q.dead, deadLetter{s.nextSeq(), body, now, death})
	if s.sweep.IsZero() {
		s.sweep = now.Add(s.cfg.DeadLetterTTL)
	}
}

// sweepDead drops the dead letters that are too old, in all queues.
func (s *store) sweepDead(now time.Time) {
	s.sweep = time.Time{}
	for _, q := range s.queues {
		old := 0
		for old < len(q.dead) && !q.dead[old].died.Add(s.cfg.DeadLetterTTL).After(now) {
			old++
		}
		q.dead = slices.Delete(q.dead, 0, old)
		if len(q.dead) == 0 {
			q.dead = nil
			continue
		}
		if next := q.dead[0].died.Add(s.cfg.DeadLetterTTL); s.sweep.IsZero() || next.Before(s.sweep) {
			s.sweep = next
		}
	}
}

// Stats implements driver.Inspector. Its counts are exact; a queue that nobody has named yet is empty.
func (d *Driver) Stats(ctx context.Context, queue string) (driver.Stats, error) {
	if err := d.check(ctx); err != nil {
		return driver.Stats{}, fmt.Errorf("memory: stats: %w", err)
	}
	s, now := d.store, time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick(now)
	q := s.queues[queue]
	if q == nil {
		return driver.Stats{}, nil
	}
	s.promote(q, now)
	return driver.Stats{Waiting: q.waiting, Delayed: len(q.delayed), Claimed: q.claimed, Dead: len(q.dead)}, nil
}

// DeadLetters implements driver.Inspector. The letters after an id are found even if that one has expired. Bodies are
// shared with the store and must not be changed.
func (d *Driver) DeadLetters(ctx context.Context, queue, after string, limit int) ([]driver.DeadLetter, error) {
	if err := d.check(ctx); err != nil {
		return nil, fmt.Errorf("memory: dead letters: %w", err)
	}
	var last uint64
	if after != "" {
		var err error
		if last, err = strconv.ParseUint(after, 10, 64); err != nil {
			return nil, fmt.Errorf("memory: dead letters: bad id %q: %w", after, err)
		}
	}
	s := d.store
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick(time.Now())
	q := s.queues[queue]
	if q == nil {
		return nil, nil
	}
	start, found := slices.BinarySearchFunc(q.dead, last, func(l deadLetter, id uint64) int { return cmp.Compare(l.id, id) })
	if found {
		start++
	}
	page := q.dead[start:]
	page = page[:max(0, min(limit, len(page)))]
	letters := make([]driver.DeadLetter, len(page))
	for i, l := range page {
		letters[i] = driver.DeadLetter{
			ID: strconv.FormatUint(l.id, 10), Queue: q.name, Body: l.body, Died: l.died, Death: l.death,
		}
	}
	return letters, nil
}
