package drivertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

const (
	// backlog is how many messages a benchmark lets a store hold, so that it measures the driver and not a full disk.
	backlog = 8192
	// settleBatch is how many messages are fetched and settled at once.
	settleBatch = 128
)

// Benchmark measures a driver: enqueueing by one sender, by 64 at once and in batches, fetching and settling in batches,
// and the time from an enqueue to the return of an idle consumer's fetch. Each part is a sub-benchmark with a store of its
// own; one operation is one message. Of the features only Shared matters to it.
func Benchmark(b *testing.B, features Features, newStore func(t testing.TB) Store) {
	b.Helper()
	for _, part := range []struct {
		name    string
		senders int
		batch   int
	}{
		{"enqueue/one sender", 1, 1},
		{"enqueue/64 senders", 64, 1},
		{"enqueue/batches of 100", 1, 100},
		{"enqueue/batches of 1000", 1, 1000},
	} {
		b.Run(part.name, func(b *testing.B) { benchEnqueue(newBench(b, newStore), part.senders, part.batch) })
	}
	b.Run(fmt.Sprintf("settle/batches of %d", settleBatch), func(b *testing.B) { benchSettle(newBench(b, newStore), 0) })
	b.Run(fmt.Sprintf("settle/batches of %d with follow-ups", settleBatch), func(b *testing.B) {
		benchSettle(newBench(b, newStore), 1)
	})
	b.Run("latency/same driver", func(b *testing.B) { benchLatency(newBench(b, newStore), false) })
	if features.Shared {
		b.Run("latency/another driver", func(b *testing.B) { benchLatency(newBench(b, newStore), true) })
	}
}

// bench is a store with one driver and one consumer of queue alpha.
type bench struct {
	*testing.B
	store    Store
	driver   driver.Driver
	consumer driver.Consumer
	env      env // for its messages
	next     []driver.Message
}

func newBench(b *testing.B, newStore func(t testing.TB) Store) *bench {
	b.Helper()
	bb := &bench{B: b, store: newStore(b)}
	bb.driver = bb.open()
	if err := bb.driver.Declare(b.Context(), []string{"alpha", "beta"}); err != nil {
		b.Fatal(err)
	}
	c, err := bb.driver.Consume(b.Context(), consumerConfig(2*settleBatch, []string{"alpha"}))
	if err != nil {
		b.Fatal(err)
	}
	bb.consumer = c
	b.Cleanup(func() { closeQuietly(b, "consumer", c.Close) })
	b.ReportAllocs()
	return bb
}

func (b *bench) open() driver.Driver {
	d := b.store.Open(b.B)
	b.Cleanup(func() { closeQuietly(b.B, "driver", d.Close) })
	return d
}

// drain takes n messages out of the store, in batches.
func (b *bench) drain(n int, followUps int) {
	for n > 0 {
		deliveries, err := b.consumer.Fetch(context.Background(), min(n, settleBatch))
		if err != nil {
			b.Fatal(err)
		}
		settlements := acks(deliveries)
		for i := range deliveries {
			if err := b.consumer.Begin(context.Background(), &deliveries[i]); err != nil {
				b.Fatal(err)
			}
			if followUps > 0 {
				settlements[i].FollowUps = b.next[:followUps]
			}
		}
		if errs := b.consumer.Settle(context.Background(), settlements); errs != nil {
			b.Fatal(errors.Join(errs...))
		}
		n -= len(deliveries)
	}
}

func (b *bench) send(messages []driver.Message) {
	if errs := b.driver.Enqueue(context.Background(), messages); errs != nil {
		b.Error(errors.Join(errs...))
	}
}

// rounds calls timed with portions of b.N, and the others around it with the clock stopped.
func (b *bench) rounds(before, timed, after func(n int)) {
	b.StopTimer()
	b.ResetTimer()
	for left := b.N; left > 0 && !b.Failed(); {
		n := min(left, backlog)
		before(n)
		b.StartTimer()
		timed(n)
		b.StopTimer()
		after(n)
		left -= n
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}

func benchEnqueue(b *bench, senders, batch int) {
	messages := b.env.messages("alpha", backlog)
	b.rounds(func(int) {}, func(n int) {
		if senders == 1 {
			for start := 0; start < n; start += batch {
				b.send(messages[start:min(start+batch, n)])
			}
			return
		}
		var next atomic.Int64
		var wg sync.WaitGroup
		for range senders {
			wg.Go(func() {
				for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
					b.send(messages[i-1 : i])
				}
			})
		}
		wg.Wait()
	}, func(n int) { b.drain(n, 0) })
}

func benchSettle(b *bench, followUps int) {
	messages := b.env.messages("alpha", backlog)
	var others driver.Consumer
	if followUps > 0 {
		b.next = b.env.messages("beta", followUps)
		c, err := b.driver.Consume(b.Context(), consumerConfig(2*settleBatch, []string{"beta"}))
		if err != nil {
			b.Fatal(err)
		}
		others = c
		b.Cleanup(func() { closeQuietly(b.B, "consumer", c.Close) })
	}
	b.rounds(func(n int) {
		for start := 0; start < n; start += 1000 {
			b.send(messages[start:min(start+1000, n)])
		}
	}, func(n int) { b.drain(n, followUps) }, func(n int) {
		if followUps > 0 {
			first := b.consumer
			b.consumer = others
			b.drain(n*followUps, 0)
			b.consumer = first
		}
	})
}

// benchLatency measures single messages against an idle consumer, with a pause before each so that it is truly idle.
func benchLatency(b *bench, another bool) {
	sender := b.driver
	if another {
		sender = b.open()
	}
	type arrival struct {
		at         time.Time
		deliveries []driver.Delivery
		err        error
	}
	arrivals := make(chan arrival, 1)
	var took []time.Duration
	b.ResetTimer()
	for range b.N {
		go func() {
			deliveries, err := b.consumer.Fetch(context.Background(), 1)
			arrivals <- arrival{time.Now(), deliveries, err}
		}()
		<-time.After(2 * time.Millisecond)
		m := b.env.messages("alpha", 1)
		start := time.Now()
		if errs := sender.Enqueue(context.Background(), m); errs != nil {
			b.Fatal(errors.Join(errs...))
		}
		a := <-arrivals
		if a.err != nil {
			b.Fatal(a.err)
		}
		took = append(took, a.at.Sub(start))
		if errs := b.consumer.Settle(context.Background(), acks(a.deliveries)); errs != nil {
			b.Fatal(errors.Join(errs...))
		}
	}
	slices.Sort(took)
	micros := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	b.ReportMetric(micros(took[len(took)/2]), "p50-µs")
	b.ReportMetric(micros(took[len(took)*99/100]), "p99-µs")
}
