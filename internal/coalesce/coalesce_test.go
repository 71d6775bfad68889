package coalesce_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dramatiq-go/dramatiq/internal/coalesce"
)

var errUnknown = errors.New("who knows")

// trip is a round trip that a test lets end.
type trip struct {
	ctx   context.Context //nolint:containedctx // the test looks at it
	items []int
	end   chan []error
}

// server handles the round trips of a group, each when its test says so.
type server struct {
	trips chan trip
}

func newGroup(maxItems int) (*coalesce.Group[int], *server) {
	s := &server{trips: make(chan trip, 100)}
	return coalesce.New(coalesce.Config[int]{
		Do: func(ctx context.Context, items []int) []error {
			t := trip{ctx, slices.Clone(items), make(chan []error)}
			s.trips <- t
			return <-t.end
		},
		Size:     func(item int) int { return item },
		MaxItems: maxItems, MaxBytes: 100, Unknown: errUnknown,
	}), s
}

// next returns the round trip that is under way.
func (s *server) next(t *testing.T, want ...int) trip {
	t.Helper()
	synctest.Wait()
	select {
	case trip := <-s.trips:
		if !slices.Equal(trip.items, want) {
			t.Fatalf("the round trip has items %v, want %v", trip.items, want)
		}
		return trip
	default:
		t.Fatalf("nothing is under way, want a round trip with items %v", want)
		return trip{}
	}
}

func (s *server) none(t *testing.T) {
	t.Helper()
	synctest.Wait()
	select {
	case trip := <-s.trips:
		t.Fatalf("a round trip with items %v is under way, want none", trip.items)
	default:
	}
}

// call is a call that goes on in the background.
type call struct {
	errs []error
	done bool
	mu   sync.Mutex
}

func start(ctx context.Context, g *coalesce.Group[int], items ...int) *call {
	c := &call{}
	go func() {
		errs := g.Do(ctx, items)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.errs, c.done = errs, true
	}()
	synctest.Wait() // so that calls come in order
	return c
}

func (c *call) want(t *testing.T, want ...error) {
	t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.done {
		t.Fatal("the call has not returned")
	}
	if len(c.errs) != len(want) {
		t.Fatalf("the errors are %v, want %v", c.errs, want)
	}
	for i := range want {
		if !errors.Is(c.errs[i], want[i]) {
			t.Errorf("error %d is %v, want %v", i, c.errs[i], want[i])
		}
	}
}

func (c *call) wantWaiting(t *testing.T) {
	t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		t.Fatalf("the call has returned %v", c.errs)
	}
}

func TestGroup_ALoneCallWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGroup(10)
		began := time.Now()
		for n := range 3 {
			c := start(t.Context(), g, n)
			s.next(t, n).end <- nil
			c.want(t)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("three calls took %v: there should be no timer", took)
		}
	})
}

func TestGroup_CallsGatherWhileOneIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGroup(10)
		first := start(t.Context(), g, 1)
		one := s.next(t, 1)
		second, third := start(t.Context(), g, 2, 3), start(t.Context(), g, 4)
		s.none(t)
		one.end <- nil
		first.want(t)
		two := s.next(t, 2, 3, 4)
		fourth := start(t.Context(), g, 5)
		two.end <- nil
		second.want(t)
		third.want(t)
		s.next(t, 5).end <- nil
		fourth.want(t)
		s.none(t)
	})
}

func TestGroup_Caps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGroup(3)
		start(t.Context(), g, 0)
		busy := s.next(t, 0)
		for _, items := range [][]int{{1, 1}, {1}, {1}, {60}, {41}, {500}, {1, 1, 1, 1}, {1}} {
			start(t.Context(), g, items...)
		}
		busy.end <- nil
		s.next(t, 1, 1, 1).end <- nil    // three items
		s.next(t, 1, 60).end <- nil      // 41 more would be too many bytes
		s.next(t, 41).end <- nil         // as would 500
		s.next(t, 500).end <- nil        // too large, so alone
		s.next(t, 1, 1, 1, 1).end <- nil // too many, so alone, and whole
		s.next(t, 1).end <- nil
		s.none(t)
	})
}

func TestGroup_EachGetsItsOwnErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGroup(10)
		boom := errors.New("boom")
		leader := start(t.Context(), g, 0)
		one := s.next(t, 0)
		good, mixed, bad := start(t.Context(), g, 1), start(t.Context(), g, 2, 3), start(t.Context(), g, 4)
		one.end <- []error{boom}
		leader.want(t, boom)
		s.next(t, 1, 2, 3, 4).end <- []error{nil, nil, boom, boom}
		good.want(t)
		mixed.want(t, nil, boom)
		bad.want(t, boom)
	})
}

func TestGroup_CancelledWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGroup(10)
		leader := start(t.Context(), g, 0)
		one := s.next(t, 0)
		ctx, cancel := context.WithCancel(t.Context())
		before, gone, after := start(t.Context(), g, 1), start(ctx, g, 2, 3), start(t.Context(), g, 4)
		cancel()
		gone.want(t, context.Canceled, context.Canceled)
		if errors.Is(gone.errs[0], errUnknown) {
			t.Errorf("%v: it is known that the items were not handed over", gone.errs[0])
		}
		before.wantWaiting(t)
		one.end <- nil
		leader.want(t)
		s.next(t, 1, 4).end <- nil
		before.want(t)
		after.want(t)
	})
}

func TestGroup_CancelledUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGroup(10)
		start(t.Context(), g, 0)
		one := s.next(t, 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		gone, stays := start(ctx, g, 1), start(t.Context(), g, 2)
		one.end <- nil
		two := s.next(t, 1, 2)
		time.Sleep(time.Second)
		gone.want(t, errUnknown)
		gone.want(t, context.DeadlineExceeded)
		stays.wantWaiting(t)
		if err := two.ctx.Err(); err != nil {
			t.Errorf("the round trip was cancelled: %v", err)
		}
		two.end <- nil
		stays.want(t)
	})
}

// A round trip nobody waits for any more is cancelled, and one with a caller who will always wait never.
func TestGroup_CancelledByAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, forever := range []bool{false, true} {
			g, s := newGroup(10)
			start(t.Context(), g, 0)
			one := s.next(t, 0)
			ctx1, cancel1 := context.WithCancel(t.Context())
			ctx2, cancel2 := context.WithCancel(t.Context())
			start(ctx1, g, 1)
			start(ctx2, g, 2)
			want := []int{1, 2}
			if forever {
				start(context.Background(), g, 3)
				want = append(want, 3)
			}
			one.end <- nil
			two := s.next(t, want...)
			cancel1()
			synctest.Wait()
			if err := two.ctx.Err(); err != nil {
				t.Errorf("the round trip was cancelled by one of two: %v", err)
			}
			cancel2()
			synctest.Wait()
			if cancelled := two.ctx.Err() != nil; cancelled == forever {
				t.Errorf("with a caller without an end: %t; the round trip was cancelled: %t", forever, cancelled)
			}
			two.end <- nil
			s.none(t)
		}
	})
}

func TestGroup_CancelledBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGroup(10)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("gone"))
		start(ctx, g, 1, 2).want(t, context.Canceled, context.Canceled)
		s.none(t)
	})
}

type key struct{}

func TestGroup_ContextValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := newGroup(10)
		start(context.WithValue(t.Context(), key{}, "leader"), g, 0)
		one := s.next(t, 0)
		if got := one.ctx.Value(key{}); got != "leader" {
			t.Errorf("a lone call's context has value %v", got)
		}
		start(context.WithValue(t.Context(), key{}, "first"), g, 1)
		start(context.WithValue(t.Context(), key{}, "second"), g, 2)
		one.end <- nil
		two := s.next(t, 1, 2)
		if got := two.ctx.Value(key{}); got != "first" {
			t.Errorf("a shared round trip's context has value %v", got)
		}
		two.end <- nil
	})
}

// Under a storm of calls with short lives each item is handled at most once, and what was reported is true.
func TestGroup_Storm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		handled := map[int]int{}
		g := coalesce.New(coalesce.Config[int]{
			Do: func(ctx context.Context, items []int) []error {
				time.Sleep(time.Millisecond)
				var errs []error
				mu.Lock()
				defer mu.Unlock()
				for i, item := range items {
					if item%7 != 0 {
						handled[item]++
						continue
					}
					if errs == nil {
						errs = make([]error, len(items))
					}
					errs[i] = fmt.Errorf("item %d", item)
				}
				return errs
			},
			Size: func(int) int { return 1 }, MaxItems: 20, MaxBytes: 1000, Unknown: errUnknown,
		})
		var wg sync.WaitGroup
		for n := range 1000 {
			wg.Go(func() {
				time.Sleep(time.Duration(n%50) * 100 * time.Microsecond)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n%13)*time.Millisecond)
				defer cancel()
				errs := g.Do(ctx, []int{n})
				mu.Lock()
				defer mu.Unlock()
				switch times := handled[n]; {
				case times > 1:
					t.Errorf("item %d was handled %d times", n, times)
				case errs == nil && times != 1:
					t.Errorf("item %d was reported as handled and was not", n)
				case errs != nil && times != 0 && !errors.Is(errs[0], errUnknown):
					t.Errorf("item %d was handled and reported as %v", n, errs[0])
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Second) // the last round trips, which nobody waits for
	})
}

// A caller may survive the panic of a driver or an encoder, as HTTP handlers do. Others must not wait for it for ever.
func TestGroup_PanicDoesNotBlockOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		panics := true
		g := coalesce.New(coalesce.Config[int]{
			Do: func(context.Context, []int) []error {
				if panics {
					panic("boom")
				}
				return nil
			},
			Size: func(int) int { return 1 }, MaxItems: 10, MaxBytes: 100, Unknown: errUnknown,
		})
		func() {
			defer func() { _ = recover() }()
			g.Do(t.Context(), []int{1})
		}()
		panics = false
		c := start(t.Context(), g, 2)
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.done {
			t.Error("after a panic, calls wait for ever")
		}
	})
}
