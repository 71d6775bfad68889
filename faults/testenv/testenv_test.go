package testenv_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/dramatiq-go/dramatiq/faults/testenv"
)

// fakeTB is a test that records how it failed.
type fakeTB struct {
	testing.TB
	failure string
}

func (f *fakeTB) Helper() {}

func (f *fakeTB) Fatalf(format string, args ...any) {
	f.failure = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// failureOf runs a function as the body of a test and returns how that test failed.
func failureOf(body func(tb testing.TB)) string {
	fake := &fakeTB{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		body(fake)
	}()
	<-done
	return fake.failure
}

func TestVariables_missingFailsWithTheFix(t *testing.T) {
	for name, get := range map[string]func(testing.TB) string{
		"DRAMATIQ_TEST_REDIS_URL":      testenv.RedisURL,
		"DRAMATIQ_TEST_RABBITMQ_URL":   testenv.RabbitMQURL,
		"DRAMATIQ_TEST_MEMCACHED_ADDR": testenv.MemcachedAddr,
		"DRAMATIQ_TEST_PYTHON":         testenv.Python,
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, "")
			failure := failureOf(func(tb testing.TB) { tb.Helper(); get(tb) })
			if !strings.Contains(failure, name) || !strings.Contains(failure, "make test") {
				t.Errorf("missing variable: failed with %q, want its name and the fix", failure)
			}
			t.Setenv(name, "somewhere")
			if got := get(t); got != "somewhere" {
				t.Errorf("got %q, want the variable's value", got)
			}
		})
	}
}

func TestFull(t *testing.T) {
	for size, want := range map[string]bool{"": false, "short": false, "full": true} {
		t.Setenv("DRAMATIQ_PROOF", size)
		if got := testenv.Full(t); got != want {
			t.Errorf("DRAMATIQ_PROOF=%q: got %v, want %v", size, got, want)
		}
	}
	t.Setenv("DRAMATIQ_PROOF", "long")
	if failure := failureOf(func(tb testing.TB) { tb.Helper(); testenv.Full(tb) }); !strings.Contains(failure, `"long"`) {
		t.Errorf("unknown size: failed with %q, want the value named", failure)
	}
}
