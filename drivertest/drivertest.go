// Package drivertest is the conformance suite for message transports: the tests that every implementation of
// driver.Driver has to pass, this project's and a third party's, and benchmarks that compare them. It needs nothing but
// the standard library.
//
// A driver's own test opens a fresh store per test and says what the driver promises:
//
//	func TestConformance(t *testing.T) {
//		drivertest.Run(t, drivertest.Features{Delays: true, Ordered: true}, func(t testing.TB) drivertest.Store {
//			path := filepath.Join(t.TempDir(), "queue.db")
//			return drivertest.Store{Open: func(t testing.TB) driver.Driver {
//				d, err := mydriver.Open(path)
//				if err != nil {
//					t.Fatal(err)
//				}
//				return d
//			}}
//		})
//	}
//
//	func BenchmarkDriver(b *testing.B) { drivertest.Benchmark(b, features, newStore) }
//
// # What every test checks at its end
//
// The suite keeps a ledger of what it stored and settled. At the end of each test it compares the ledger with what the
// store counts (where Features.Stats is promised), closes all consumers, opens a new one, and expects exactly those
// messages that were never settled: none lost, none both stored and settled.
//
// # What a test may ask for
//
// No test holds more claims of one consumer than the consumer's Concurrency, which is 64 where nothing else is needed, so
// that a transport that pushes may derive its prefetch from it. No test but those of leases relies on two consumers of
// a queue sharing it in some proportion, and all queues are declared before they are used.
//
// # Time
//
// No test sleeps and hopes. What must happen is waited for, up to Store.Patience; what must not happen too early is
// checked on one side only, so that a slow machine makes a test slow but not red. The exception is a driver whose
// consumers keep leases: a machine that stalls for longer than Store.LeaseTimeout loses claims rightly.
package drivertest

import (
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

// Features says what a driver promises. Tests of what it does not promise are left out; everything else is required.
type Features struct {
	// Delays: a message is not fetched before its due time, and soon after it; whatever else is delayed.
	Delays bool
	// Atomic: a settlement and its follow-ups are one step, so that a claim that was taken over stores none of them.
	Atomic bool
	// Priorities: Message.Priority overtakes what waits in the queue, first come first served within a level.
	Priorities bool
	// Ordered: one consumer gets the messages of one queue in the order in which they were stored.
	Ordered bool
	// RequeueFirst: messages that are requeued or handed back go before what waits, in their old order.
	RequeueFirst bool
	// Verbatim: a body is stored exactly as the encoder wrote it. Without it, options may have been added to the envelope.
	Verbatim bool
	// Leases: claims of a consumer that fell silent are taken over, and its late calls are refused. Needs Store.Abandon.
	Leases bool
	// Crashes: messages of dead consumers come back as suspects, and recorded starts without an end are counted. Needs
	// Leases.
	Crashes bool
	// Stats: implements driver.Inspector, and its Stats are exact at any time.
	Stats bool
	// DeadLetters: implements driver.Inspector, and dead letters keep their reason, detail and replaced body.
	DeadLetters bool
	// Shared: several drivers, in one process or in many, can have the same store open.
	Shared bool
}

// Store is one fresh, empty store, private to a test. Functions that clean it up belong to the t given to newStore; they
// run after all drivers have been closed.
type Store struct {
	// Open opens a driver on the store, the first or another. The suite closes it when the test ends.
	Open func(t testing.TB) driver.Driver
	// Abandon makes a consumer of this store silent, as SIGSTOP would: its claims are no longer kept alive and not handed
	// back, but its methods can still be called, as after SIGCONT: they must see for themselves that a claim was taken
	// over. Nil if there is no such hook.
	Abandon func(t testing.TB, c driver.Consumer)
	// LeaseTimeout is the time after which claims of a silent consumer are expected back, plus a few multiples of it. Keep
	// it short, but longer than the machine may stall; a second is a good value.
	LeaseTimeout time.Duration
	// Outage makes the broker unreachable for all drivers on the store until restore is called. Nil if there is no such
	// hook.
	Outage func(t testing.TB) (restore func())
	// Patience is how long anything may take that has to happen; 30 s by default. Only a failing test waits that long.
	Patience time.Duration
}

// Run runs the whole suite: RunCore and the tests of all promised features. Each test is a parallel sub-test with a store
// of its own.
func Run(t *testing.T, features Features, newStore func(t testing.TB) Store) {
	t.Helper()
	RunCore(t, features, newStore)
	runTests(t, features, newStore, delayTests())
	runTests(t, features, newStore, orderTests())
	runTests(t, features, newStore, priorityTests())
	runTests(t, features, newStore, leaseTests())
	runTests(t, features, newStore, crashTests())
	runTests(t, features, newStore, deadLetterTests())
	runTests(t, features, newStore, outageTests())
}

// RunCore runs the part that every broker must pass, one that only pushes and acknowledges included. Features that are
// promised make it stricter.
func RunCore(t *testing.T, features Features, newStore func(t testing.TB) Store) {
	t.Helper()
	runTests(t, features, newStore, enqueueTests())
	runTests(t, features, newStore, fetchTests())
	runTests(t, features, newStore, settleTests())
	runTests(t, features, newStore, followUpTests())
	runTests(t, features, newStore, queueTests())
	runTests(t, features, newStore, closeTests())
	runTests(t, features, newStore, concurrencyTests())
}

// test is one sub-test: a sentence, what it needs beyond the core, and its body.
type test struct {
	name  string
	needs func(f Features, s Store) bool // nil: nothing
	run   func(e *env)
}

func runTests(t *testing.T, features Features, newStore func(t testing.TB) Store, tests []test) {
	t.Helper()
	if features.Crashes && !features.Leases {
		t.Fatal("drivertest: Features.Crashes needs Features.Leases")
	}
	for _, tt := range tests {
		// Store hooks are not known before a store is made; what only depends on features is decided here.
		if tt.needs != nil && !tt.needs(features, everyHook()) {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			store := newStore(t)
			if features.Leases && (store.Abandon == nil || store.LeaseTimeout <= 0) {
				t.Fatal("drivertest: Features.Leases needs Store.Abandon and Store.LeaseTimeout")
			}
			if tt.needs != nil && !tt.needs(features, store) {
				t.Skip("the store has no hook for this")
			}
			e := newEnv(t, features, store)
			tt.run(e)
			e.finish()
		})
	}
}

func everyHook() Store {
	return Store{Outage: func(testing.TB) func() { return func() {} }}
}
