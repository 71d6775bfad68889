package rabbitmq_test

import (
	"testing"

	"github.com/dramatiq-go/dramatiq/drivertest"
)

func BenchmarkDriver(b *testing.B) {
	drivertest.Benchmark(b, drivertest.Features{Shared: true}, func(tb testing.TB) drivertest.Store {
		tb.Helper()
		return newStoreAt(tb, serverURL(tb))
	})
}
