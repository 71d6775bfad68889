package sqlite

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/wire"
)

// BenchmarkIdleToStart measures from before an Enqueue in another process to the return of an idle worker's Fetch.
func BenchmarkIdleToStart(b *testing.B) {
	for _, synchronous := range []Synchronous{Full, Normal} {
		b.Run(string(synchronous), func(b *testing.B) {
			d := openTest(b, Config{Synchronous: synchronous})
			c := consumeTest(b, d, "default")
			sender := startChild(b, "sender", "sqlite://"+d.path+"?synchronous="+string(synchronous))
			var took []time.Duration
			pace := time.NewTicker(10 * time.Millisecond)
			defer pace.Stop()
			for i := 0; b.Loop(); i++ {
				<-pace.C // so that the worker is idle
				sender.say(strconv.Itoa(i))
				got := fetchTest(b, c, 1)
				took = append(took, time.Since(sentAt(b, &got[0])))
				settleTest(b, c, driver.Ack, got...)
			}
			report(b, took, "")
		})
	}
}

func sentAt(tb testing.TB, d *driver.Delivery) time.Time {
	tb.Helper()
	e, err := wire.JSON{}.Decode(d.Body)
	if err != nil {
		tb.Fatal(err)
	}
	ns, err := strconv.ParseInt(strings.Trim(string(e.Args), "[]"), 10, 64)
	if err != nil {
		tb.Fatal(err)
	}
	return time.Unix(0, ns)
}

// report adds percentiles to a benchmark's result.
func report(b *testing.B, took []time.Duration, prefix string) {
	b.Helper()
	slices.Sort(took)
	for _, p := range []int{50, 99} {
		b.ReportMetric(float64(took[(len(took)-1)*p/100])/1e6, fmt.Sprintf("%sp%d-ms", prefix, p))
	}
	b.ReportMetric(float64(took[len(took)-1])/1e6, prefix+"max-ms")
}

// BenchmarkBesideFlood measures a worker's fetch and settlement of single messages while another process stores messages
// back to back.
func BenchmarkBesideFlood(b *testing.B) {
	d := openTest(b, Config{})
	c := consumeTest(b, d, "flood")
	startChild(b, "flood", "sqlite://"+d.path)
	var fetches, settles []time.Duration
	for b.Loop() {
		begin := time.Now()
		got := fetchTest(b, c, 1)
		fetches = append(fetches, time.Since(begin))
		begin = time.Now()
		settleTest(b, c, driver.Ack, got...)
		settles = append(settles, time.Since(begin))
	}
	report(b, fetches, "fetch-")
	report(b, settles, "settle-")
}

func BenchmarkEnqueue(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) {
			d := openTest(b, Config{})
			messages := newMessages(n)
			for b.Loop() {
				enqueueTest(b, d, messages...)
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
	b.Run("parallel=64", func(b *testing.B) {
		d := openTest(b, Config{})
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			messages := newMessages(1)
			for pb.Next() {
				enqueueTest(b, d, messages...)
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
	})
}

func BenchmarkFetchAndAck(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) {
			d := openTest(b, Config{})
			c := consumeTest(b, d, "default")
			backlog := newMessages(50000)
			left := 0
			for b.Loop() {
				if left < n {
					b.StopTimer()
					enqueueTest(b, d, backlog...)
					left += len(backlog)
					b.StartTimer()
				}
				got := fetchTest(b, c, n)
				settleTest(b, c, driver.Ack, got...)
				left -= n
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}

// BenchmarkAmongDelayed fetches and settles single messages beside a million that are due tomorrow.
func BenchmarkAmongDelayed(b *testing.B) {
	d := openTest(b, Config{Synchronous: Normal})
	far := newMessages(100_000)
	for i := range far {
		far[i].Due = time.Now().Add(24 * time.Hour)
	}
	for range 10 {
		enqueueTest(b, d, far...)
	}
	c := consumeTest(b, d, "default")
	var late []time.Duration
	for b.Loop() {
		m := newMessage("default", "near")
		m.Due = time.Now().Add(5 * time.Millisecond)
		enqueueTest(b, d, m)
		got := fetchTest(b, c, 1)
		late = append(late, time.Since(m.Due))
		settleTest(b, c, driver.Ack, got...)
	}
	report(b, late, "late-")
}
