package dramatiqtest

import "github.com/dramatiq-go/dramatiq"

// Option configures New.
type Option func(*config)

type config struct {
	broker      dramatiq.BrokerConfig
	worker      dramatiq.WorkerConfig
	failOnError bool
	skipDelays  bool
}

// BrokerConfig makes the broker as a program makes its own, with its middleware, its encoder, its limits. The default for
// its Logger is Logger.
func BrokerConfig(cfg dramatiq.BrokerConfig) Option {
	return func(c *config) { c.broker = cfg }
}

// WorkerConfig is for the workers of RunUntilIdle and RunAll. The default for its Concurrency is 1.
func WorkerConfig(cfg dramatiq.WorkerConfig) Option {
	return func(c *config) { c.worker = cfg }
}

// FailOnError fails the test, without ending it, for each attempt that fails and each message that is dead-lettered. A
// RetryAfter without a cause is no failure.
func FailOnError() Option {
	return func(c *config) { c.failOnError = true }
}

// SkipDelays makes every message due at once, retries too, for tests that cannot run in a bubble of testing/synctest.
func SkipDelays() Option {
	return func(c *config) { c.skipDelays = true }
}
