package rabbitmq

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	firstPause = 100 * time.Millisecond
	lastPause  = 3 * time.Second
)

// backoff spaces attempts: the pause doubles from firstPause to lastPause, with up to half of it taken off at random so
// that a fleet does not come back all at once.
type backoff struct {
	pause time.Duration
}

func (b *backoff) reset() { b.pause = 0 }

// wait pauses before the next attempt. What the last one took counts as part of the pause. It returns early when ctx ends.
func (b *backoff) wait(ctx context.Context, took time.Duration) {
	b.pause = min(max(2*b.pause, firstPause), lastPause)
	pause := b.pause - rand.N(b.pause/2)
	timer := time.NewTimer(max(pause-took, firstPause/2))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
