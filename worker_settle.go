package dramatiq

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

// settler settles attempts in batches: what gathers while one batch is under way goes in the next. It waits for nothing
// but the broker.
type settler struct {
	worker *Worker
	ctx    context.Context //nolint:containedctx // ends when the worker gives up on what is unsettled
	stop   context.CancelFunc

	mu      sync.Mutex // guards below
	pending []settling
	flying  int
	aside   int // failed, and will be pending again
	busy    bool
	changed chan struct{} // closed and replaced when a batch is done
}

type settling struct {
	attempt    *Attempt
	settlement driver.Settlement
	failures   int
}

const (
	settleBatch = 512
	// maxUnsettled is how many finished messages may wait for the broker before the worker stops fetching.
	maxUnsettled = 8 * settleBatch
)

func newSettler(w *Worker) *settler {
	s := &settler{worker: w, changed: make(chan struct{})}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// add has a settlement stored, soon.
func (s *settler) add(a *Attempt, settlement driver.Settlement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.push(settling{attempt: a, settlement: settlement})
}

// push has settlements tried. s.mu must be held.
func (s *settler) push(more ...settling) {
	s.pending = append(s.pending, more...)
	if !s.busy {
		s.busy = true
		go s.loop()
	}
}

// loop settles until nothing is pending. What fails is set aside for a while, so that one settlement that the broker does
// not take holds up no other.
func (s *settler) loop() {
	for {
		s.mu.Lock()
		if len(s.pending) == 0 || s.ctx.Err() != nil {
			s.busy = false
			s.mu.Unlock()
			return
		}
		batch := s.pending[:min(len(s.pending), settleBatch)]
		s.pending = s.pending[len(batch):]
		s.flying = len(batch)
		s.mu.Unlock()

		again, failures := s.settle(batch)
		s.mu.Lock()
		s.flying = 0
		if len(again) > 0 {
			s.aside += len(again)
			time.AfterFunc(backoff(failures), func() { s.retry(again) })
		}
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
	}
}

// retry tries what was set aside again.
func (s *settler) retry(again []settling) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aside -= len(again)
	s.push(again...)
}

// settle settles one batch and returns what has to be tried again, and how often the most unlucky of that has failed.
func (s *settler) settle(batch []settling) (again []settling, failures int) {
	settlements := make([]driver.Settlement, len(batch))
	for i, b := range batch {
		settlements[i] = b.settlement
	}
	ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second)
	defer cancel()
	errs := s.worker.consumer.Settle(ctx, settlements)
	var first error
	for i, b := range batch {
		switch err := errorAt(errs, i); {
		case err == nil:
			s.worker.pool.over(b.attempt)
			s.worker.settled(ctx, b.attempt, b.settlement.Outcome)
		case errors.Is(err, driver.ErrNotHeld):
			s.worker.pool.over(b.attempt)
			b.attempt.Logger().LogAttrs(ctx, slog.LevelWarn,
				"message had been taken over by another worker, or settled by a call whose answer was lost")
		default:
			b.failures++
			again, failures = append(again, b), max(failures, b.failures)
			first = err
		}
	}
	if first != nil && s.ctx.Err() == nil {
		s.worker.log.LogAttrs(ctx, slog.LevelWarn, "cannot settle messages; trying again",
			slog.Int(LogCount, len(again)), slog.Any(LogError, first))
	}
	return again, failures
}

func errorAt(errs []error, i int) error {
	if errs == nil {
		return nil
	}
	return errs[i]
}

// accepting waits until not too much is unsettled. It reports false when ctx has ended.
func (s *settler) accepting(ctx context.Context) bool {
	return s.waitUntil(ctx, func(unsettled int) bool { return unsettled < maxUnsettled })
}

// wait waits until everything is settled, or ctx has ended, and returns how much is not.
func (s *settler) wait(ctx context.Context) int {
	s.waitUntil(ctx, func(unsettled int) bool { return unsettled == 0 })
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending) + s.flying + s.aside
}

func (s *settler) waitUntil(ctx context.Context, enough func(unsettled int) bool) bool {
	for {
		s.mu.Lock()
		unsettled, changed := len(s.pending)+s.flying+s.aside, s.changed
		s.mu.Unlock()
		if enough(unsettled) {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
