package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/drivertest"
)

func features() drivertest.Features {
	return drivertest.Features{
		Delays: true, Atomic: true, Priorities: true, Ordered: true, RequeueFirst: true, Verbatim: true, Leases: true,
		Crashes: true, Stats: true, DeadLetters: true, Shared: true,
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, features(), func(tb testing.TB) drivertest.Store {
		tb.Helper()
		return newStore(tb, time.Second, Full)
	})
}

func BenchmarkConformance(b *testing.B) {
	drivertest.Benchmark(b, features(), func(tb testing.TB) drivertest.Store {
		tb.Helper()
		return newStore(tb, defaultHeartbeat, Full)
	})
}

// newStore returns a store whose leases last for lease.
func newStore(tb testing.TB, lease time.Duration, synchronous Synchronous) drivertest.Store {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "queue.db")
	return drivertest.Store{
		Open: func(tb testing.TB) driver.Driver {
			tb.Helper()
			d, err := New(Config{Path: path, HeartbeatTimeout: lease, Synchronous: synchronous})
			if err != nil {
				tb.Fatal(err)
			}
			return d
		},
		Abandon: func(tb testing.TB, c driver.Consumer) {
			tb.Helper()
			stopped, ok := c.(*consumer)
			if !ok {
				tb.Fatalf("%T is no consumer of this package", c)
			}
			stopped.beat.stop() // and nothing else: a stopped process keeps its lock and its sockets
		},
		LeaseTimeout: lease,
		Outage: func(tb testing.TB) func() {
			tb.Helper()
			return lockOut(tb, path)
		},
	}
}

// lockOut is an outage of an embedded database: somebody else holds its write lock.
func lockOut(tb testing.TB, path string) (restore func()) {
	tb.Helper()
	d, err := Open(path) // makes sure that there is something to be locked
	if err != nil {
		tb.Fatal(err)
	}
	if err := d.Close(context.Background()); err != nil {
		tb.Fatal(err)
	}
	tx, err := openForeign(tb, path).BeginTx(context.Background(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
			tb.Error(err)
		}
	}
}
