package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

// troublePause is how long a fetch that finds nothing waits before it reports that a queue cannot be consumed.
const troublePause = time.Second

// claim is the driver's side of a delivery.
type claim struct {
	link *link
	tag  uint64

	mu     sync.Mutex // guards below
	taken  bool       // settled, or being settled
	stored []bool     // follow-ups that an earlier attempt to settle has stored
}

// inbox holds what the server has pushed until it is fetched.
type inbox struct {
	mu     sync.Mutex // guards below
	lanes  []lane
	next   int           // the lane whose turn it is
	wake   chan struct{} // closed when something has changed; nil while nobody waits
	closed bool

	// What the sources of all lanes add up to: trouble is nil if all are consumed, and otherwise the reason of one that is
	// not, the worst of them; starting is true while some are being opened for the first time in a session.
	trouble  error
	starting bool
}

// lane holds the deliveries of one queue in their order.
type lane struct {
	deliveries []driver.Delivery
	sources    [2]error // why the queue and its delay queue are not consumed; nil if they are
}

// The places in lane.sources.
const (
	sourceReady = iota
	sourceDelayed
)

var errConnecting = errors.New("not connected yet")

func newInbox(lanes int) *inbox {
	in := &inbox{lanes: make([]lane, lanes)}
	in.reportAll(errConnecting)
	return in
}

func (in *inbox) changed() {
	if in.wake != nil {
		close(in.wake)
		in.wake = nil
	}
}

// put adds deliveries of one link to the queue's lane, unless the link has ended.
func (in *inbox) put(l *link, lane int, deliveries ...driver.Delivery) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !l.held() {
		return
	}
	in.lanes[lane].deliveries = append(in.lanes[lane].deliveries, deliveries...)
	in.changed()
}

// drop forgets the deliveries of a link that has ended.
func (in *inbox) drop(l *link, lane int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.lanes[lane].deliveries = slices.DeleteFunc(in.lanes[lane].deliveries, func(d driver.Delivery) bool {
		return d.Claim.(*claim).link == l
	})
}

// report notes why a source is not consumed now, or with nil that it is.
func (in *inbox) report(lane, source int, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.lanes[lane].sources[source] = err
	in.addUp()
}

// reportAll notes why nothing is consumed now.
func (in *inbox) reportAll(err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for i := range in.lanes {
		in.lanes[i].sources = [2]error{err, err}
	}
	in.addUp()
}

func (in *inbox) addUp() {
	in.trouble, in.starting = nil, false
	for i := range in.lanes {
		for _, err := range in.lanes[i].sources {
			if err == nil {
				continue
			}
			if in.trouble == nil || errors.Is(err, driver.ErrMisconfigured) {
				in.trouble = err
			}
			in.starting = in.starting || errors.Is(err, errConnecting)
		}
	}
	in.changed()
}

func (in *inbox) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	for i := range in.lanes {
		in.lanes[i].deliveries = nil
	}
	in.changed()
}

func (in *inbox) isClosed() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.closed
}

// take returns up to limit deliveries, one of each queue in turn.
func (in *inbox) take(limit int) []driver.Delivery {
	var taken []driver.Delivery
	for empty := 0; empty < len(in.lanes) && len(taken) < limit; in.next = (in.next + 1) % len(in.lanes) {
		lane := &in.lanes[in.next]
		if len(lane.deliveries) == 0 {
			empty++
			continue
		}
		empty = 0
		taken = append(taken, lane.deliveries[0])
		lane.deliveries[0] = driver.Delivery{}
		if lane.deliveries = lane.deliveries[1:]; len(lane.deliveries) == 0 {
			lane.deliveries = nil
		}
	}
	return taken
}

// fetch waits for deliveries. While a queue cannot be consumed and the others bring nothing, it returns the reason after
// troublePause. At the start of a session it waits as long at most for all queues to be opened, so that the first one
// does not get ahead of the others.
func (in *inbox) fetch(ctx context.Context, limit int) ([]driver.Delivery, error) {
	var pause <-chan time.Time
	waited := false // as long as a pause
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("rabbitmq: fetch: %w", err)
		}
		taken, wake, err := in.tryFetch(limit, waited)
		if err != nil {
			return nil, fmt.Errorf("rabbitmq: fetch: %w", err)
		}
		if len(taken) > 0 {
			return taken, nil
		}
		if pause == nil {
			timer := time.NewTimer(troublePause)
			defer timer.Stop()
			pause = timer.C
		}
		select {
		case <-wake:
		case <-pause:
			waited = true
		case <-ctx.Done():
		}
	}
}

// tryFetch returns deliveries, or a channel that is closed when another attempt makes sense.
func (in *inbox) tryFetch(limit int, waited bool) (taken []driver.Delivery, wake <-chan struct{}, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return nil, nil, driver.ErrClosed
	}
	if errors.Is(in.trouble, driver.ErrMisconfigured) {
		return nil, nil, in.trouble
	}
	if !in.starting || waited {
		taken = in.take(limit)
	}
	if len(taken) == 0 && waited && in.trouble != nil {
		return nil, nil, in.trouble
	}
	if len(taken) > 0 {
		return taken, nil, nil
	}
	if in.wake == nil {
		in.wake = make(chan struct{})
	}
	return nil, in.wake, nil
}
