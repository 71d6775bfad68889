package memory_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/memory"
	"github.com/dramatiq-go/dramatiq/wire"
)

func message(queue, id string) driver.Message {
	return driver.Message{Envelope: &wire.Envelope{Queue: queue, Actor: "actor", ID: id}, Encoder: wire.JSON{}}
}

func enqueue(t *testing.T, d *memory.Driver, messages ...driver.Message) {
	t.Helper()
	if errs := d.Enqueue(t.Context(), messages); errs != nil {
		t.Fatal(errs)
	}
}

func consume(t *testing.T, d *memory.Driver, queues ...string) driver.Consumer {
	t.Helper()
	c, err := d.Consume(t.Context(), driver.ConsumerConfig{
		Queues: queues, Concurrency: 1, Encoder: wire.JSON{}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func fetch(t *testing.T, c driver.Consumer, limit int) []driver.Delivery {
	t.Helper()
	deliveries, err := c.Fetch(t.Context(), limit)
	if err != nil {
		t.Fatal(err)
	}
	return deliveries
}

func settle(t *testing.T, c driver.Consumer, s driver.Settlement) {
	t.Helper()
	if errs := c.Settle(t.Context(), []driver.Settlement{s}); errs != nil {
		t.Fatal(errs)
	}
}

func id(t *testing.T, d *driver.Delivery) string {
	t.Helper()
	e, err := wire.JSON{}.Decode(d.Body)
	if err != nil {
		t.Fatal(err)
	}
	return e.ID
}

func ids(t *testing.T, deliveries []driver.Delivery) (list []string) {
	t.Helper()
	for i := range deliveries {
		list = append(list, id(t, &deliveries[i]))
	}
	return list
}

func stats(t *testing.T, d *memory.Driver, queue string) driver.Stats {
	t.Helper()
	s, err := d.Stats(t.Context(), queue)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDriver_DelaysAreExact(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := memory.New(memory.Config{})
		c := consume(t, d, "alpha", "beta")
		start := time.Now()
		delays := []time.Duration{9 * 24 * time.Hour, time.Millisecond, time.Hour, 7 * 24 * time.Hour, time.Nanosecond}
		for i, delay := range delays {
			m := message([]string{"alpha", "beta"}[i%2], delay.String())
			m.Due = start.Add(delay)
			enqueue(t, d, m)
		}
		slices.Sort(delays)
		for _, delay := range delays {
			got := fetch(t, c, 10)
			if len(got) != 1 || id(t, &got[0]) != delay.String() || time.Since(start) != delay {
				t.Errorf("got %q after %v, want %v alone at its time", ids(t, got), time.Since(start), delay)
			}
		}
	})
}

func TestDriver_NearerDelayWakesAllWaiters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := memory.New(memory.Config{})
		start := time.Now()
		took := make(chan time.Duration, 3)
		for range 3 {
			c := consume(t, d, "alpha")
			go func() {
				if _, err := c.Fetch(t.Context(), 1); err == nil {
					took <- time.Since(start)
				}
			}()
		}
		synctest.Wait()
		for i := range 3 {
			m := message("alpha", fmt.Sprint(i))
			m.Due = start.Add(time.Duration(3-i) * time.Hour)
			enqueue(t, d, m)
		}
		for i := range 3 {
			if got, want := <-took, time.Duration(i+1)*time.Hour; got != want {
				t.Errorf("message %d after %v, want %v", i, got, want)
			}
		}
	})
}

func TestDriver_UrgentMessageOvertakesWhenDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := memory.New(memory.Config{})
		c := consume(t, d, "alpha")
		urgent := message("alpha", "urgent")
		urgent.Priority, urgent.Due = 9, time.Now().Add(time.Hour)
		enqueue(t, d, urgent, message("alpha", "first"), message("alpha", "second"))
		if got := id(t, &fetch(t, c, 1)[0]); got != "first" {
			t.Errorf("got %s before anything urgent is due", got)
		}
		time.Sleep(time.Hour)
		if got := ids(t, fetch(t, c, 10)); !slices.Equal(got, []string{"urgent", "second"}) {
			t.Errorf("got %q", got)
		}
	})
}

func TestDriver_DueMessagesEnterBeforeLaterOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := memory.New(memory.Config{})
		delayed := message("alpha", "delayed")
		delayed.Due = time.Now().Add(time.Minute)
		enqueue(t, d, message("alpha", "before"), delayed)
		time.Sleep(2 * time.Minute)
		enqueue(t, d, message("alpha", "after"))
		if got := ids(t, fetch(t, consume(t, d, "alpha"), 10)); !slices.Equal(got, []string{"before", "delayed", "after"}) {
			t.Errorf("got %q", got)
		}
	})
}

func TestDriver_FetchIsFairOverQueues(t *testing.T) {
	t.Parallel()
	d := memory.New(memory.Config{})
	for i := range 100 {
		enqueue(t, d, message("alpha", fmt.Sprint("a", i)))
	}
	for i := range 3 {
		enqueue(t, d, message("beta", fmt.Sprint("b", i)), message("gamma", fmt.Sprint("c", i)))
	}
	c := consume(t, d, "alpha", "beta", "empty", "gamma", "alpha")
	got := append(ids(t, fetch(t, c, 5)), ids(t, fetch(t, c, 6))...)
	want := []string{"a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2", "a3", "a4"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for range 90 {
		fetch(t, c, 1)
	}
	if s := stats(t, d, "alpha"); s.Waiting != 5 {
		t.Errorf("%+v, want 5 waiting", s)
	}
}

// A fetch that is cancelled at the moment in which it is woken must not keep the wake-up to itself.
func TestDriver_CancelledFetchPassesItsWakeUpOn(t *testing.T) {
	t.Parallel()
	for i := range 200 {
		synctest.Test(t, func(t *testing.T) {
			d := memory.New(memory.Config{})
			ctx, cancel := context.WithCancel(t.Context())
			answers := make(chan error, 2)
			contexts := []context.Context{ctx, t.Context()}
			if i%2 == 0 { // whichever is woken first
				slices.Reverse(contexts)
			}
			for _, ctx := range contexts {
				c := consume(t, d, "alpha")
				go func() {
					_, err := c.Fetch(ctx, 1)
					answers <- err
				}()
			}
			synctest.Wait()
			cancel()
			enqueue(t, d, message("alpha", "one"))
			synctest.Wait()
			if s := stats(t, d, "alpha"); s.Claimed != 1 {
				t.Fatalf("%+v: a message waits beside a waiting fetch", s)
			}
			if len(answers) == 1 { // the cancelled one took it, the other still waits
				enqueue(t, d, message("alpha", "two"))
			}
			for range 2 {
				if err := <-answers; err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
		})
	}
}

func TestDriver_DeadLettersExpire(t *testing.T) {
	t.Parallel()
	const week = 7 * 24 * time.Hour
	for _, ttl := range []time.Duration{0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			d := memory.New(memory.Config{DeadLetterTTL: ttl})
			c := consume(t, d, "alpha", "beta")
			if ttl == 0 {
				ttl = week
			}
			for _, queue := range []string{"alpha", "beta", "alpha"} {
				enqueue(t, d, message(queue, "m"))
				got := fetch(t, c, 1)
				settle(t, c, driver.Settlement{Delivery: &got[0], Outcome: driver.Reject})
				time.Sleep(ttl / 4)
			}
			want := func(alpha, beta int) {
				t.Helper()
				if a, b := stats(t, d, "alpha").Dead, stats(t, d, "beta").Dead; a != alpha || b != beta {
					t.Errorf("%d and %d dead, want %d and %d", a, b, alpha, beta)
				}
			}
			want(2, 1)
			time.Sleep(ttl / 4)
			want(1, 1)
			time.Sleep(ttl / 4)
			want(1, 0)
			time.Sleep(ttl / 4)
			want(0, 0)
		})
	}
}

func TestDriver_DeadLettersPageOverExpiredOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := memory.New(memory.Config{DeadLetterTTL: time.Hour})
		c := consume(t, d, "alpha")
		bury := func() {
			enqueue(t, d, message("alpha", "m"))
			settle(t, c, driver.Settlement{Delivery: &fetch(t, c, 1)[0], Outcome: driver.Reject})
		}
		bury()
		first, err := d.DeadLetters(t.Context(), "alpha", "", 1)
		if err != nil || len(first) != 1 {
			t.Fatal(first, err)
		}
		time.Sleep(30 * time.Minute)
		bury()
		time.Sleep(30 * time.Minute)
		next, err := d.DeadLetters(t.Context(), "alpha", first[0].ID, 10)
		if err != nil || len(next) != 1 || next[0].ID == first[0].ID {
			t.Errorf("after an expired letter: %v, %v; want the one that follows", next, err)
		}
		if _, err := d.DeadLetters(t.Context(), "alpha", "x", 10); err == nil {
			t.Error("a bad id is accepted")
		}
		for _, limit := range []int{0, -1} {
			if none, err := d.DeadLetters(t.Context(), "alpha", "", limit); err != nil || len(none) != 0 {
				t.Errorf("limit %d: %v, %v", limit, none, err)
			}
		}
	})
}

func TestDriver_KilledDriversClaimsComeBack(t *testing.T) {
	t.Parallel()
	for _, lease := range []time.Duration{0, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			d := memory.New(memory.Config{LeaseTimeout: lease})
			if lease == 0 {
				lease = time.Minute
			}
			survivor := consume(t, d, "alpha")
			enqueue(t, d, message("alpha", "m"))
			for crashes := range 3 {
				process := d.Share()
				c := consume(t, process, "alpha")
				got := fetch(t, c, 1)
				if err := c.Begin(t.Context(), &got[0]); err != nil {
					t.Fatal(err)
				}
				process.Kill()
				killed := time.Now()
				wantClosed(t, process, c, &got[0])
				back := fetch(t, survivor, 1)
				if time.Since(killed) != lease || !back[0].Suspect || !back[0].Redelivered || back[0].Crashes != crashes {
					t.Errorf("came back after %v as %+v, want %d crashes", time.Since(killed), back[0], crashes)
				}
				settle(t, survivor, driver.Settlement{Delivery: &back[0], Outcome: driver.Requeue})
			}
		})
	}
}

func wantClosed(t *testing.T, d *memory.Driver, c driver.Consumer, got *driver.Delivery) {
	t.Helper()
	_, fetched := c.Fetch(t.Context(), 1)
	_, consumed := d.Consume(t.Context(), driver.ConsumerConfig{})
	for _, err := range []error{
		fetched, consumed, c.Begin(t.Context(), got), c.Settle(t.Context(), []driver.Settlement{{Delivery: got}})[0],
		d.Enqueue(t.Context(), []driver.Message{message("alpha", "late")})[0],
	} {
		if !errors.Is(err, driver.ErrClosed) {
			t.Errorf("%v, want ErrClosed", err)
		}
	}
	if err := errors.Join(c.Close(t.Context()), d.Close(t.Context())); err != nil {
		t.Error(err)
	}
}

func TestDriver_CloseEndsConsumers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := memory.New(memory.Config{})
		enqueue(t, d, message("alpha", "1"), message("alpha", "2"))
		process := d.Share()
		c := consume(t, process, "alpha")
		got := fetch(t, c, 2)
		if err := c.Begin(t.Context(), &got[0]); err != nil {
			t.Fatal(err)
		}
		failed := make(chan error)
		go func() {
			_, err := c.Fetch(t.Context(), 1)
			failed <- err
		}()
		synctest.Wait()
		closed := time.Now()
		if err := process.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-failed; !errors.Is(err, driver.ErrClosed) {
			t.Errorf("the waiting fetch returned %v", err)
		}
		other := consume(t, d, "alpha")
		if back := fetch(t, other, 2); !slices.Equal(ids(t, back), []string{"2"}) || back[0].Suspect || time.Now() != closed {
			t.Errorf("handed back %q, want what did not begin, at once", ids(t, back))
		}
		if back := fetch(t, other, 2); !slices.Equal(ids(t, back), []string{"1"}) || time.Since(closed) != time.Minute {
			t.Errorf("%q came back after %v, want the lease to run out", ids(t, back), time.Since(closed))
		}
	})
}

func TestConsumer_RefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	d := memory.New(memory.Config{})
	enqueue(t, d, message("alpha", "1"))
	c := consume(t, d, "alpha")
	if _, err := c.Fetch(t.Context(), 0); err == nil {
		t.Error("a limit of 0 is accepted")
	}
	foreign := &driver.Delivery{Queue: "alpha", Claim: "of another driver"}
	if err := c.Begin(t.Context(), foreign); !errors.Is(err, driver.ErrNotHeld) {
		t.Errorf("a foreign claim begins: %v", err)
	}
	got := fetch(t, c, 1)
	other := consume(t, d, "alpha")
	if errs := other.Settle(t.Context(), []driver.Settlement{{Delivery: &got[0]}}); !errors.Is(errors.Join(errs...), driver.ErrNotHeld) {
		t.Errorf("another consumer settles a claim: %v", errs)
	}
	if errs := c.Settle(t.Context(), []driver.Settlement{{Delivery: &got[0], Outcome: 9}}); errs == nil {
		t.Error("outcome 9 is accepted")
	}
	settle(t, c, driver.Settlement{Delivery: &got[0]})
	if s := stats(t, d, "alpha"); s != (driver.Stats{}) {
		t.Errorf("%+v, want nothing", s)
	}
	if s := stats(t, d, "never named"); s != (driver.Stats{}) {
		t.Errorf("%+v, want nothing", s)
	}
}
