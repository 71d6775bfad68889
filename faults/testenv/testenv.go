// Package testenv tells tests where the servers are that tools/with-servers started for them. A test that needs a server
// which is not there fails: a test that skips itself proves nothing.
package testenv

import (
	"os"
	"testing"
)

// RedisURL returns the URL of a private Redis, such as redis://127.0.0.1:17000/0. Tests share it: each uses a namespace of
// its own and flushes nothing.
func RedisURL(tb testing.TB) string {
	tb.Helper()
	return require(tb, "DRAMATIQ_TEST_REDIS_URL")
}

// RabbitMQURL returns the URL of a private RabbitMQ, such as amqp://guest:guest@127.0.0.1:17001/. Tests share it: each uses
// queue names of its own.
func RabbitMQURL(tb testing.TB) string {
	tb.Helper()
	return require(tb, "DRAMATIQ_TEST_RABBITMQ_URL")
}

// MemcachedAddr returns the host:port of a private memcached. Tests share it: each uses keys of its own.
func MemcachedAddr(tb testing.TB) string {
	tb.Helper()
	return require(tb, "DRAMATIQ_TEST_MEMCACHED_ADDR")
}

// Python returns the path of a Python that has the packages of interop/requirements.txt.
func Python(tb testing.TB) string {
	tb.Helper()
	return require(tb, "DRAMATIQ_TEST_PYTHON")
}

// Full reports whether proofs run at full length ("make proof", DRAMATIQ_PROOF=full) or are to be short ("make test").
func Full(tb testing.TB) bool {
	tb.Helper()
	switch size := os.Getenv("DRAMATIQ_PROOF"); size {
	case "full":
		return true
	case "", "short":
		return false
	default:
		tb.Fatalf("DRAMATIQ_PROOF is %q: it must be short or full", size)
		return false
	}
}

func require(tb testing.TB, name string) string {
	tb.Helper()
	value := os.Getenv(name)
	if value == "" {
		tb.Fatalf("%s is not set: run through `make test`, or `tools/with-servers go test …`", name)
	}
	return value
}
