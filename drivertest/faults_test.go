package drivertest_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/drivertest"
	"github.com/dramatiq-go/dramatiq/memory"
	"github.com/dramatiq-go/dramatiq/wire"
)

// faultVariable names a fault to the re-executed test binary.
const faultVariable = "DRIVERTEST_FAULT"

// fault is one way in which a driver can be wrong, and a test of the suite that must notice.
type fault struct {
	name    string
	noticed string
	enqueue func(f *faulty, ctx context.Context, messages []driver.Message) []error
	fetch   func(c *faultyConsumer, ctx context.Context, limit int) ([]driver.Delivery, error)
	settle  func(c *faultyConsumer, ctx context.Context, settlements []driver.Settlement) []error
	begin   func(c *faultyConsumer, ctx context.Context, d *driver.Delivery) error
	close   func(c *faultyConsumer, ctx context.Context) error
}

func faults() []fault {
	return slices.Concat(storeFaults(), fetchFaults(), settleFaults())
}

func storeFaults() []fault {
	type enqueue = func(*faulty, context.Context, []driver.Message) []error
	each := func(change func(m *driver.Message)) enqueue {
		return func(f *faulty, ctx context.Context, messages []driver.Message) []error {
			messages = slices.Clone(messages)
			for i := range messages {
				change(&messages[i])
			}
			return f.Driver.Enqueue(ctx, messages)
		}
	}
	return []fault{
		{
			name: "early", noticed: "a delayed message comes at its time and not before",
			enqueue: each(func(m *driver.Message) {
				if !m.Due.IsZero() {
					m.Due = m.Due.Add(-30 * time.Millisecond)
				}
			}),
		},
		{
			name: "no priorities", noticed: "higher priorities go first and each level keeps its order",
			enqueue: each(func(m *driver.Message) { m.Priority = 0 }),
		},
		{
			name: "stores twice", noticed: "a message arrives as it was sent",
			enqueue: func(f *faulty, ctx context.Context, messages []driver.Message) []error {
				f.Driver.Enqueue(ctx, messages)
				return f.Driver.Enqueue(ctx, messages)
			},
		},
		{
			name: "drops large batches", noticed: "a batch of a thousand over several queues arrives whole",
			enqueue: func(f *faulty, ctx context.Context, messages []driver.Message) []error {
				return f.Driver.Enqueue(ctx, messages[:min(len(messages), 999)])
			},
		},
		{
			name: "one bad entry fails all", noticed: "a bad entry of a batch fails only itself",
			enqueue: func(f *faulty, ctx context.Context, messages []driver.Message) []error {
				for i := range messages {
					if _, err := messages[i].Append(nil); err != nil {
						return driver.Failed(err, len(messages))
					}
				}
				return f.Driver.Enqueue(ctx, messages)
			},
		},
		{
			name: "ignores contexts", noticed: "a cancelled context stores nothing",
			enqueue: func(f *faulty, ctx context.Context, messages []driver.Message) []error {
				return f.Driver.Enqueue(context.WithoutCancel(ctx), messages)
			},
		},
	}
}

func fetchFaults() []fault {
	type fetch = func(*faultyConsumer, context.Context, int) ([]driver.Delivery, error)
	each := func(change func(d *driver.Delivery)) fetch {
		return func(c *faultyConsumer, ctx context.Context, limit int) ([]driver.Delivery, error) {
			deliveries, err := c.Consumer.Fetch(ctx, limit)
			for i := range deliveries {
				change(&deliveries[i])
			}
			return deliveries, err
		}
	}
	return []fault{
		{
			name: "rewrites bodies", noticed: "bodies that only Python understands arrive unchanged",
			fetch: each(func(d *driver.Delivery) { d.Body = bytes.ReplaceAll(d.Body, []byte("NaN"), []byte("null")) }),
		},
		{
			name: "hides suspects", noticed: "being claimed by a dead consumer makes a suspect, not a crash",
			fetch: each(func(d *driver.Delivery) { d.Suspect = false }),
		},
		{
			name: "suspects everybody", noticed: "closing a consumer hands back what did not begin",
			fetch: each(func(d *driver.Delivery) { d.Suspect = d.Redelivered }),
		},
		{
			name: "counts what is not guilty", noticed: "a suspect that did not begin is not counted",
			fetch: each(func(d *driver.Delivery) {
				if d.Suspect {
					d.Crashes++
				}
			}),
		},
		{
			name: "no limit", noticed: "a fetch returns no more than its limit",
			fetch: func(c *faultyConsumer, ctx context.Context, limit int) ([]driver.Delivery, error) {
				return c.Consumer.Fetch(ctx, limit+3)
			},
		},
		{
			name: "last in first out", noticed: "one consumer gets a queue's messages in the order in which they were stored",
			fetch: func(c *faultyConsumer, ctx context.Context, limit int) ([]driver.Delivery, error) {
				deliveries, err := c.Consumer.Fetch(ctx, limit)
				slices.Reverse(deliveries)
				return deliveries, err
			},
		},
		{
			name: "loses what a cancelled fetch claimed", noticed: "fetches that are cancelled as messages arrive lose none",
			fetch: func(c *faultyConsumer, ctx context.Context, limit int) ([]driver.Delivery, error) {
				deliveries, err := c.Consumer.Fetch(ctx, limit)
				if err != nil { // a claim that reached the store all the same, and whose reply nobody reads
					late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Millisecond)
					defer cancel()
					lost, _ := c.Consumer.Fetch(late, limit)
					for i := range lost {
						c.Consumer.Settle(context.WithoutCancel(ctx), []driver.Settlement{{Delivery: &lost[i]}})
					}
				}
				return deliveries, err
			},
		},
	}
}

func settleFaults() []fault {
	type settle = func(*faultyConsumer, context.Context, []driver.Settlement) []error
	each := func(change func(s *driver.Settlement)) settle {
		return func(c *faultyConsumer, ctx context.Context, settlements []driver.Settlement) []error {
			settlements = slices.Clone(settlements)
			for i := range settlements {
				change(&settlements[i])
			}
			return c.Consumer.Settle(ctx, settlements)
		}
	}
	return []fault{
		{
			name: "drops follow-ups", noticed: "follow-ups are stored with every outcome",
			settle: each(func(s *driver.Settlement) { s.FollowUps = nil }),
		},
		{
			name: "drops reasons", noticed: "a dead letter keeps its reason, detail and body",
			settle: each(func(s *driver.Settlement) { s.Death = driver.Death{} }),
		},
		{
			name: "rejects into nowhere", noticed: "a rejected message does not come again",
			settle: each(func(s *driver.Settlement) {
				if s.Outcome == driver.Reject {
					s.Outcome = driver.Ack
				}
			}),
		},
		{
			name: "requeues to the tail", noticed: "requeued messages go first and in their old order",
			settle: each(func(s *driver.Settlement) {
				if s.Outcome == driver.Requeue {
					again := driver.Message{Encoder: wire.JSON{}}
					again.Envelope, _ = again.Encoder.Decode(s.Delivery.Body)
					s.Outcome, s.FollowUps = driver.Ack, append(slices.Clone(s.FollowUps), again)
				}
			}),
		},
		{
			name: "settles twice", noticed: "a claim ends once",
			settle: func(c *faultyConsumer, ctx context.Context, settlements []driver.Settlement) []error {
				errs := c.Consumer.Settle(ctx, settlements)
				if errs != nil && errors.Is(errors.Join(errs...), driver.ErrNotHeld) {
					return nil
				}
				return errs
			},
		},
		{
			name: "acks before it stores", noticed: "a claim that was taken over stores no follow-ups",
			settle: func(c *faultyConsumer, ctx context.Context, settlements []driver.Settlement) []error {
				for i := range settlements {
					if errs := c.driver.Enqueue(ctx, settlements[i].FollowUps); errs != nil {
						return driver.Failed(errs[0], len(settlements))
					}
				}
				return c.Consumer.Settle(ctx, settlements)
			},
		},
		{
			name: "two steps", noticed: "a chain of follow-ups holds one message at any time",
			settle: func(c *faultyConsumer, ctx context.Context, settlements []driver.Settlement) []error {
				bare := slices.Clone(settlements)
				for i := range bare {
					c.driver.Enqueue(ctx, bare[i].FollowUps)
					bare[i].FollowUps = nil
				}
				<-time.After(time.Millisecond)
				return c.Consumer.Settle(ctx, bare)
			},
		},
		{
			name: "begins always", noticed: "a claim that was taken over cannot begin",
			begin: func(c *faultyConsumer, ctx context.Context, d *driver.Delivery) error {
				if err := c.Consumer.Begin(ctx, d); !errors.Is(err, driver.ErrNotHeld) {
					return err
				}
				return nil
			},
		},
		{
			name: "records no starts", noticed: "recorded starts without an end are counted",
			begin: func(*faultyConsumer, context.Context, *driver.Delivery) error { return nil },
		},
		{
			name: "keeps claims at close", noticed: "closing a consumer hands back what did not begin",
			close: func(*faultyConsumer, context.Context) error { return nil },
		},
		{
			name: "close takes what runs", noticed: "what began and was not settled comes again after its consumer closed",
			begin: func(*faultyConsumer, context.Context, *driver.Delivery) error { return nil },
		},
	}
}

// faulty is a driver with one fault.
type faulty struct {
	*memory.Driver

	fault fault
}

func (f *faulty) Enqueue(ctx context.Context, messages []driver.Message) []error {
	if f.fault.enqueue != nil {
		return f.fault.enqueue(f, ctx, messages)
	}
	return f.Driver.Enqueue(ctx, messages)
}

func (f *faulty) Consume(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	c, err := f.Driver.Consume(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &faultyConsumer{c, f}, nil
}

type faultyConsumer struct {
	driver.Consumer

	driver *faulty
}

func (c *faultyConsumer) Fetch(ctx context.Context, limit int) ([]driver.Delivery, error) {
	if fetch := c.driver.fault.fetch; fetch != nil {
		return fetch(c, ctx, limit)
	}
	return c.Consumer.Fetch(ctx, limit)
}

func (c *faultyConsumer) Settle(ctx context.Context, settlements []driver.Settlement) []error {
	if settle := c.driver.fault.settle; settle != nil {
		return settle(c, ctx, settlements)
	}
	return c.Consumer.Settle(ctx, settlements)
}

func (c *faultyConsumer) Begin(ctx context.Context, d *driver.Delivery) error {
	if begin := c.driver.fault.begin; begin != nil {
		return begin(c, ctx, d)
	}
	return c.Consumer.Begin(ctx, d)
}

func (c *faultyConsumer) Close(ctx context.Context) error {
	if closing := c.driver.fault.close; closing != nil {
		return closing(c, ctx)
	}
	return c.Consumer.Close(ctx)
}

// TestFaultyDriver is run by TestFaultsAreNoticed in a process of its own, where it is expected to fail.
func TestFaultyDriver(t *testing.T) {
	name := os.Getenv(faultVariable)
	at := slices.IndexFunc(faults(), func(f fault) bool { return f.name == name })
	if at < 0 {
		t.Skipf("%s names no fault", faultVariable)
	}
	drivertest.Run(t, drivertest.Features{
		Delays: true, Atomic: true, Priorities: true, Ordered: true, RequeueFirst: true, Verbatim: true,
		Leases: true, Crashes: true, Stats: true, DeadLetters: true, Shared: true,
	}, func(testing.TB) drivertest.Store {
		origin := memory.New(memory.Config{LeaseTimeout: 50 * time.Millisecond})
		return drivertest.Store{
			Open: func(testing.TB) driver.Driver {
				return &faulty{origin.Share(), faults()[at]}
			},
			Abandon: func(_ testing.TB, c driver.Consumer) {
				c.(*faultyConsumer).Consumer.(interface{ Silence() }).Silence()
			},
			LeaseTimeout: 50 * time.Millisecond,
			Patience:     2 * time.Second,
		}
	})
}

func TestFaultsAreNoticed(t *testing.T) {
	t.Parallel()
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			sentence := strings.ReplaceAll(f.noticed, " ", "_")
			cmd := exec.CommandContext(t.Context(), os.Args[0],
				"-test.run=^TestFaultyDriver$/^"+regexp.QuoteMeta(sentence)+"$", "-test.v")
			cmd.Env = append(os.Environ(), faultVariable+"="+f.name)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				t.Fatalf("the suite did not fail: %v\n%s", err, out)
			}
			if !bytes.Contains(out, []byte("--- FAIL: TestFaultyDriver/"+sentence)) {
				t.Errorf("the suite failed otherwise:\n%s", out)
			}
		})
	}
}
