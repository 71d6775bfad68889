package memory_test

import (
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/drivertest"
	"github.com/dramatiq-go/dramatiq/memory"
)

func features() drivertest.Features {
	return drivertest.Features{
		Delays: true, Atomic: true, Priorities: true, Ordered: true, RequeueFirst: true, Verbatim: true,
		Leases: true, Crashes: true, Stats: true, DeadLetters: true, Shared: true,
	}
}

func newStore(tb testing.TB) drivertest.Store {
	tb.Helper()
	const lease = 100 * time.Millisecond
	origin := memory.New(memory.Config{LeaseTimeout: lease})
	return drivertest.Store{
		Open:         func(testing.TB) driver.Driver { return origin.Share() },
		Abandon:      func(_ testing.TB, c driver.Consumer) { c.(interface{ Silence() }).Silence() },
		LeaseTimeout: lease,
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, features(), newStore)
}

func BenchmarkDriver(b *testing.B) { drivertest.Benchmark(b, features(), newStore) }
