// Package coalesce lets concurrent calls share one round trip: while one is under way, calls that come in gather, and go
// together in the next one. There is no timer, and a lone call waits for nobody.
package coalesce

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Config says how calls are put together.
type Config[T any] struct {
	// Do handles items in one round trip. It returns nil if all went well, else one error an item.
	Do func(ctx context.Context, items []T) []error
	// Size returns an item's weight in bytes.
	Size func(item T) int
	// MaxItems and MaxBytes cap a round trip; a single call that is larger goes alone, whole.
	MaxItems, MaxBytes int
	// Unknown marks the error of a call that was given up while it was under way.
	Unknown error
}

// Group puts concurrent calls together. It is safe for concurrent use.
type Group[T any] struct {
	cfg Config[T]

	mu      sync.Mutex // guards below
	busy    bool
	waiting []*call[T]
}

type call[T any] struct {
	ctx   context.Context //nolint:containedctx // a call waits in a queue together with its caller's context
	items []T
	bytes int
	errs  []error
	panic any // what Do panicked with
	done  chan struct{}
}

// result returns how a call fared. A panic of the round trip is that of each of its callers.
func (c *call[T]) result() []error {
	if c.panic != nil {
		panic(c.panic)
	}
	return c.errs
}

// New returns a group.
func New[T any](cfg Config[T]) *Group[T] {
	return &Group[T]{cfg: cfg}
}

// Do has items handled, alone or together with those of other callers. When ctx ends, the call returns at once: with
// ctx's error alone if its items were not yet handed over, else with Unknown too. Other callers are not affected.
func (g *Group[T]) Do(ctx context.Context, items []T) []error {
	if err := ctx.Err(); err != nil {
		return failed(err, len(items))
	}
	c := &call[T]{ctx: ctx, items: items}
	g.mu.Lock()
	if !g.busy {
		g.busy = true
		g.mu.Unlock()
		defer g.next()
		return g.cfg.Do(ctx, items)
	}
	for _, item := range items {
		c.bytes += g.cfg.Size(item)
	}
	c.done = make(chan struct{})
	g.waiting = append(g.waiting, c)
	g.mu.Unlock()

	select {
	case <-c.done:
		return c.result()
	case <-ctx.Done():
	}
	if g.withdraw(c) {
		return failed(ctx.Err(), len(items))
	}
	select {
	case <-c.done:
		return c.result()
	default:
		return failed(fmt.Errorf("%w: %w", g.cfg.Unknown, ctx.Err()), len(items))
	}
}

// withdraw takes back a call that is still waiting.
func (g *Group[T]) withdraw(c *call[T]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, w := range g.waiting {
		if w == c {
			g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// next starts the next round trip with what has gathered, if anything has.
func (g *Group[T]) next() {
	g.mu.Lock()
	batch := g.take()
	if len(batch) == 0 {
		g.busy = false
		g.mu.Unlock()
		return
	}
	g.mu.Unlock()
	go func() {
		g.fly(batch)
		g.next()
	}()
}

// take removes the calls of the next round trip from the queue, oldest first.
func (g *Group[T]) take() []*call[T] {
	n, items, bytes := 0, 0, 0
	for _, c := range g.waiting {
		if n > 0 && (items+len(c.items) > g.cfg.MaxItems || bytes+c.bytes > g.cfg.MaxBytes) {
			break
		}
		n, items, bytes = n+1, items+len(c.items), bytes+c.bytes
	}
	batch := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	if len(g.waiting) == 0 {
		g.waiting = nil
	}
	return batch
}

// fly handles calls in one round trip and tells each how its items fared. It outlives callers that give up, and ends when
// all of them have.
func (g *Group[T]) fly(batch []*call[T]) {
	ctx, cancel := shared(batch)
	defer cancel()
	var items []T
	if len(batch) == 1 {
		items = batch[0].items
	} else {
		for _, c := range batch {
			items = append(items, c.items...)
		}
	}
	var errs []error
	panicked := any("coalesce: round trip ended its goroutine")
	defer func() {
		if panicked == nil {
			return
		}
		if value := recover(); value != nil {
			panicked = value
		}
		for _, c := range batch {
			c.panic = panicked
			close(c.done)
		}
	}()
	errs = g.cfg.Do(ctx, items)
	panicked = nil
	for _, c := range batch {
		if errs != nil {
			c.errs, errs = errs[:len(c.items):len(c.items)], errs[len(c.items):]
			if errors.Join(c.errs...) == nil {
				c.errs = nil
			}
		}
		close(c.done)
	}
}

// shared returns a context with the values of the first call that ends when the contexts of all calls have ended.
func shared[T any](batch []*call[T]) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(batch[0].ctx))
	var mu sync.Mutex
	left := len(batch)
	stops := make([]func() bool, 0, len(batch))
	for _, c := range batch {
		if c.ctx.Done() == nil {
			continue // never ends, and so the round trip is never cancelled
		}
		stops = append(stops, context.AfterFunc(c.ctx, func() {
			mu.Lock()
			defer mu.Unlock()
			if left--; left == 0 {
				cancel()
			}
		}))
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}

func failed(err error, n int) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}
