package drivertest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/dramatiq-go/dramatiq/driver"
)

func concurrencyTests() []test {
	return []test{
		{name: "many producers and consumers handle each message once", run: manyToMany},
		{name: "nothing is lost while consumers come and go", run: comeAndGo},
		{name: "of two that settle one claim one succeeds", run: settleRace},
		{name: "goroutines settle claims of one consumer", run: settleConcurrently},
	}
}

// tally counts how often each message was handled.
type tally struct {
	mu      sync.Mutex // guards below
	handled map[string]int
	left    atomic.Int64
	done    chan struct{} // closed when all have been handled
}

func newTally(n int) *tally {
	t := &tally{handled: make(map[string]int), done: make(chan struct{})}
	t.left.Store(int64(n))
	return t
}

func (t *tally) add(deliveries []driver.Delivery) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range keys(deliveries) {
		if t.handled[k]++; t.handled[k] == 1 && t.left.Add(-1) == 0 {
			close(t.done)
		}
	}
}

// produce sends from several goroutines, singly and in small batches.
func (e *env) produce(wg *sync.WaitGroup, d driver.Driver, producers, each int, queues ...string) {
	for p := range producers {
		wg.Go(func() {
			for sent := 0; sent < each; {
				messages := e.messages(queues[(p+sent)%len(queues)], min(1+sent%3, each-sent))
				e.ledger.stored(messages...) // before anybody can settle them
				if errs := d.Enqueue(e.context(), messages); errs != nil {
					e.Errorf("Enqueue = %v", errors.Join(errs...))
					return
				}
				sent += len(messages)
			}
		})
	}
}

// work fetches, begins and acknowledges until ctx ends or the consumer closes.
func (e *env) work(ctx context.Context, c driver.Consumer, t *tally) {
	for {
		deliveries, err := e.fetchOnce(ctx, c, 10)
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, driver.ErrClosed) {
				e.Errorf("Fetch = %v", err)
			}
			return
		}
		for i := range deliveries {
			//nolint:contextcheck // what was fetched is handled although the workers are being stopped
			if err := c.Begin(e.context(), &deliveries[i]); err != nil {
				e.Errorf("Begin = %v", err)
			}
		}
		settlements := acks(deliveries)
		errs := c.Settle(e.context(), settlements) //nolint:contextcheck // likewise
		if errs != nil {
			e.Errorf("Settle = %v", errors.Join(errs...))
			return
		}
		for i := range settlements {
			e.ledger.settled(&settlements[i])
		}
		t.add(deliveries)
	}
}

func (e *env) wantOnce(t *tally) {
	e.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, n := range t.handled {
		if n != 1 {
			e.Errorf("%s was handled %d times", k, n)
		}
	}
	if left := t.left.Load(); left != 0 {
		e.Errorf("%d messages were never handled", left)
	}
}

func manyToMany(e *env) {
	const producers, each = 16, 40
	queues := []string{"alpha", "beta", "gamma"}
	d := e.start(queues...)
	ctx, cancel := context.WithCancel(e.context())
	t := newTally(producers * each)
	var producing, consuming sync.WaitGroup
	for i := range 6 {
		from := d
		if i%2 == 1 {
			from = e.open()
		}
		c := e.consume(from, queues...)
		consuming.Go(func() { e.work(ctx, c, t) })
		if i == 0 { // two goroutines on one consumer
			consuming.Go(func() { e.work(ctx, c, t) })
		}
	}
	e.produce(&producing, d, producers/2, each, queues...)
	e.produce(&producing, e.open(), producers/2, each, queues...)
	producing.Wait()
	select {
	case <-t.done:
	case <-ctx.Done():
	}
	cancel()
	consuming.Wait()
	e.wantOnce(t)
}

// comeAndGo opens and closes consumers while 64 producers send. What a consumer has claimed and not begun when it closes
// goes to others, so that each message is still handled once.
func comeAndGo(e *env) {
	const producers, each = 64, 10
	d := e.start("alpha", "beta")
	t := newTally(producers * each)
	var producing, consuming sync.WaitGroup
	e.produce(&producing, d, producers, each, "alpha", "beta")
	for range 3 {
		consuming.Go(func() {
			for i := 0; t.left.Load() > 0 && !e.Failed(); i++ {
				if !e.visit(d, t, i) {
					return
				}
			}
		})
	}
	producing.Wait()
	consuming.Wait()
	e.wantOnce(t)
}

// visit is the short life of a consumer: it handles some messages and closes with others claimed.
func (e *env) visit(d driver.Driver, t *tally, i int) bool {
	c, err := d.Consume(e.context(), consumerConfig(16, []string{"alpha", "beta"}))
	if err != nil {
		e.Errorf("Consume = %v", err)
		return false
	}
	defer func() {
		if err := c.Close(e.context()); err != nil {
			e.Errorf("Close = %v", err)
		}
	}()
	for round := range 5 {
		ctx, cancel := context.WithTimeout(e.context(), nothingFor)
		deliveries, err := c.Fetch(ctx, 1+(i+round)%16)
		cancel()
		if err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				e.Errorf("Fetch = %v", err)
				return false
			}
			return true
		}
		handled := deliveries[:(len(deliveries)+1)/2] // the others stay claimed until the close
		settlements := acks(handled)
		for i := range handled {
			if err := c.Begin(e.context(), &handled[i]); err != nil {
				e.Errorf("Begin = %v", err)
			}
		}
		if errs := c.Settle(e.context(), settlements); errs != nil {
			e.Errorf("Settle = %v", errors.Join(errs...))
			return false
		}
		for i := range settlements {
			e.ledger.settled(&settlements[i])
		}
		t.add(handled)
		if len(handled) < len(deliveries) {
			return true
		}
	}
	return true
}

func settleRace(e *env) {
	d := e.start("alpha", "beta")
	c := e.consume(d, "alpha")
	followers := e.consume(d, "beta")
	for range 20 {
		e.enqueue(d, e.message("alpha"))
		got := e.fetchOne(c)
		e.begin(c, got)
		settlements := [2]driver.Settlement{
			{Delivery: got, FollowUps: e.messages("beta", 1)},
			{Delivery: got, FollowUps: e.messages("beta", 1)},
		}
		var won atomic.Int32
		var wg sync.WaitGroup
		for i := range settlements {
			wg.Go(func() {
				errs := c.Settle(e.context(), settlements[i:i+1])
				if errs == nil {
					won.Add(1)
					e.ledger.settled(&settlements[i])
					return
				}
				e.wantErrors("Settle in a race", errs, 1, driver.ErrNotHeld)
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			e.Fatalf("%d of 2 settlements of one claim succeeded", won.Load())
		}
		e.ack(followers, e.fetch(followers, 1)...)
	}
	e.fetchNothing(followers)
}

func settleConcurrently(e *env) {
	const n = 48
	d := e.start("alpha", "beta")
	c := e.consume(d, "alpha")
	e.enqueue(d, e.messages("alpha", n)...)
	got := e.fetch(c, n)
	var wg sync.WaitGroup
	for i := range got {
		next := e.messages("beta", i%2)
		wg.Go(func() {
			if err := c.Begin(e.context(), &got[i]); err != nil {
				e.Errorf("Begin = %v", err)
			}
			s := driver.Settlement{Delivery: &got[i], FollowUps: next}
			if errs := c.Settle(e.context(), []driver.Settlement{s}); errs != nil {
				e.Errorf("Settle = %v", errs)
				return
			}
			e.ledger.settled(&s)
		})
	}
	wg.Wait()
	e.fetchNothing(c)
	followers := e.consume(d, "beta")
	e.ack(followers, e.fetch(followers, n/2)...)
}

// workers starts consumers that handle messages until stop is called.
func (e *env) workers(d driver.Driver, n int, t *tally, queues ...string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range n {
		c := e.consume(d, queues...)
		wg.Go(func() { e.work(ctx, c, t) })
	}
	stop = func() {
		cancel()
		wg.Wait()
	}
	e.Cleanup(stop)
	return stop
}
