package dramatiq_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/memory"
)

func mustSend[In any](t *testing.T, b dramatiq.Sender, a *dramatiq.Actor[In], in In, opts ...dramatiq.SendOption) string {
	t.Helper()
	m, err := a.Send(t.Context(), b, in, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return m.ID()
}

func wantStats(t *testing.T, store *memory.Driver, queue string, want [4]int) {
	t.Helper()
	waiting, delayed, claimed, dead := stats(t, store, queue)
	if got := [4]int{waiting, delayed, claimed, dead}; got != want {
		t.Errorf("queue %q has %v waiting, delayed, claimed, dead; want %v", queue, got, want)
	}
}

func wantDeath(t *testing.T, store *memory.Driver, queue, reason string) {
	t.Helper()
	dead, err := store.DeadLetters(t.Context(), queue, "", 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(dead) != 1 || dead[0].Death.Reason != reason {
		t.Errorf("dead letters of %q: %+v; want one with the reason %q", queue, dead, reason)
	}
}

func TestWorker_StuckHandlerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, store := newTestBroker(t)
		release := make(chan struct{})
		var quick atomic.Int32
		stuck := dramatiq.NewActor("stuck", func(context.Context, dramatiq.None) error {
			<-release // ignores its context
			return nil
		}, dramatiq.TimeLimit(time.Minute), dramatiq.MaxRetries(0))
		ok := dramatiq.NewActor("ok", func(context.Context, dramatiq.None) error {
			quick.Add(1)
			return nil
		})
		w := startWorker(t, b, dramatiq.WorkerConfig{Concurrency: 2, MaxStuck: 2}, stuck, ok)
		for range 4 { // two are replaced; the other two block both slots
			mustSend(t, b, stuck, dramatiq.None{})
		}
		time.Sleep(time.Minute + 29*time.Second)
		synctest.Wait()
		if w.Stuck() != 0 {
			t.Errorf("%d stuck within the grace time", w.Stuck())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if w.Stuck() != 2 {
			t.Errorf("%d stuck after the grace time, want 2", w.Stuck())
		}
		wantStats(t, store, "default", [4]int{0, 0, 2, 2})
		time.Sleep(2 * time.Minute)
		mustSend(t, b, ok, dramatiq.None{})
		synctest.Wait()
		if w.Stuck() != 4 || quick.Load() != 0 {
			t.Errorf("%d stuck, %d quick ones ran; want 4 and 0, as no slot is left", w.Stuck(), quick.Load())
		}
		close(release)
		synctest.Wait()
		if w.Stuck() != 0 || quick.Load() != 1 {
			t.Errorf("%d stuck, %d quick ones ran; want 0 and 1, as the slots are back", w.Stuck(), quick.Load())
		}
		wantStats(t, store, "default", [4]int{0, 0, 0, 4})
	})
}

func TestWorker_StuckHandlersDoNotKeepAWorkerFromStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newTestBroker(t)
		release := make(chan struct{})
		defer close(release)
		stuck := dramatiq.NewActor("stuck", func(context.Context, dramatiq.None) error {
			<-release
			return nil
		}, dramatiq.TimeLimit(time.Second), dramatiq.MaxRetries(0))
		w := startWorker(t, b, dramatiq.WorkerConfig{Concurrency: 1, MaxStuck: 1}, stuck)
		mustSend(t, b, stuck, dramatiq.None{})
		mustSend(t, b, stuck, dramatiq.None{})
		time.Sleep(2 * time.Minute)
		begin := time.Now()
		if err := w.Drain(t.Context()); err != nil || time.Since(begin) > 0 {
			t.Errorf("drain took %v: %v", time.Since(begin), err)
		}
	})
}

func TestWorker_SurvivesPanicsAndGoexit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, store := newTestBroker(t)
		var runs atomic.Int32
		bad := dramatiq.NewActor("bad", func(_ context.Context, how string) error {
			if runs.Add(1) > 10 {
				return nil
			}
			if how == "goexit" {
				runtime.Goexit()
			}
			panic("boom")
		})
		startWorker(t, b, dramatiq.WorkerConfig{Concurrency: 1}, bad)
		for range 5 {
			mustSend(t, b, bad, "panic")
			mustSend(t, b, bad, "goexit")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if runs.Load() != 20 {
			t.Errorf("%d runs, want 10 failures and 10 successes", runs.Load())
		}
		wantStats(t, store, "default", [4]int{})
	})
}

func TestWorker_GracefulDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, store := newTestBroker(t)
		var started, ended atomic.Int32
		slow := dramatiq.NewActor("slow", func(ctx context.Context, _ dramatiq.None) error {
			started.Add(1)
			time.Sleep(10 * time.Second)
			ended.Add(1)
			return ctx.Err()
		})
		w := startWorker(t, b, dramatiq.WorkerConfig{Concurrency: 3}, slow)
		for range 10 {
			mustSend(t, b, slow, dramatiq.None{})
		}
		synctest.Wait()
		begin := time.Now()
		if err := w.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("drain took %v, want 10s", took)
		}
		if started.Load() != 3 || ended.Load() != 3 {
			t.Errorf("%d started and %d ended, want 3 and 3", started.Load(), ended.Load())
		}
		wantStats(t, store, "default", [4]int{7, 0, 0, 0})
	})
}

func TestWorker_RunEndsHardAfterTheShutdownTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, store := newTestBroker(t)
		var cause error
		obedient := dramatiq.NewActor("obedient", func(ctx context.Context, _ dramatiq.None) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return ctx.Err()
		})
		w, err := dramatiq.NewWorker(b, dramatiq.Actors{obedient}, dramatiq.WorkerConfig{ShutdownTimeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		id := mustSend(t, b, obedient, dramatiq.None{})
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		time.AfterFunc(time.Second, cancel)
		if err := w.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
		if took := time.Since(begin); took != time.Minute+time.Second {
			t.Errorf("it took %v, want 1m1s", took)
		}
		if !errors.Is(cause, dramatiq.ErrShutdown) {
			t.Errorf("the cause was %v", cause)
		}
		wantStats(t, store, "default", [4]int{1, 0, 0, 0}) // handed back, not counted as a failure
		_ = id
	})
}

func TestWorker_CrashLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New(memory.Config{LeaseTimeout: time.Minute})
		var runs, neighbours atomic.Int32
		crash := dramatiq.NewActor("crash", func(ctx context.Context, _ dramatiq.None) error {
			runs.Add(1)
			<-ctx.Done()
			return ctx.Err()
		}, dramatiq.TimeLimit(dramatiq.NoLimit))
		neighbour := dramatiq.NewActor("neighbour", func(ctx context.Context, _ dramatiq.None) error {
			select {
			case <-time.After(5 * time.Second):
				neighbours.Add(1)
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		sender, err := dramatiq.NewBroker(store, dramatiq.BrokerConfig{})
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			mustSend(t, sender, neighbour, dramatiq.None{})
		}
		mustSend(t, sender, crash, dramatiq.None{})
		for range 20 {
			process := store.Share()
			b, err := dramatiq.NewBroker(process, dramatiq.BrokerConfig{})
			if err != nil {
				t.Fatal(err)
			}
			w, err := dramatiq.NewWorker(b, dramatiq.Actors{crash, neighbour}, dramatiq.WorkerConfig{Concurrency: 4})
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			for before := runs.Load(); runs.Load() == before; {
				if s, _ := store.Stats(t.Context(), "default"); s.Dead > 0 {
					break
				}
				time.Sleep(time.Second)
			}
			process.Kill() // like SIGKILL: the handlers of this process are cut off below
			stopped, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			_ = w.Stop(stopped)
			cancel()
			if s, _ := store.Stats(t.Context(), "default"); s.Dead > 0 {
				break
			}
		}
		if n := runs.Load(); n != 1+dramatiq.DefaultCrashLimit {
			t.Errorf("the crashing message ran %d times, want once and then %d times as a suspect", n, dramatiq.DefaultCrashLimit)
		}
		wantDeath(t, store, "default", dramatiq.ReasonCrashed)
		b, err := dramatiq.NewBroker(store.Share(), dramatiq.BrokerConfig{})
		if err != nil {
			t.Fatal(err)
		}
		startWorker(t, b, dramatiq.WorkerConfig{}, crash, neighbour)
		time.Sleep(10 * time.Minute)
		wantStats(t, store, "default", [4]int{0, 0, 0, 1})
		if neighbours.Load() < 10 {
			t.Errorf("%d of 10 neighbours ran", neighbours.Load())
		}
	})
}

func TestWorker_PriorityWithinAWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newTestBroker(t)
		var mu sync.Mutex
		var order []string
		record := func(_ context.Context, name string) error {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, name)
			return nil
		}
		low := dramatiq.NewActor("low", record, dramatiq.Priority(10), dramatiq.Queue("a"))
		high := dramatiq.NewActor("high", record, dramatiq.Priority(-1), dramatiq.Queue("b"))
		block := dramatiq.NewActor("block", func(context.Context, dramatiq.None) error {
			time.Sleep(900 * time.Millisecond)
			return nil
		}, dramatiq.Queue("a"))
		for i := range 20 { // makes the worker fast, so that it looks ahead
			mustSend(t, b, low, fmt.Sprint("warm", i))
		}
		startWorker(t, b, dramatiq.WorkerConfig{Concurrency: 1}, low, high, block)
		synctest.Wait()
		order = nil
		mustSend(t, b, block, dramatiq.None{})
		synctest.Wait()
		for i := range 3 {
			mustSend(t, b, low, fmt.Sprint("low", i))
		}
		for i := range 3 {
			mustSend(t, b, high, fmt.Sprint("high", i))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		want := []string{"high0", "high1", "high2", "low0", "low1", "low2"}
		if !slices.Equal(order, want) {
			t.Errorf("order %v, want %v", order, want)
		}
	})
}

func TestWorker_DoesNotHoard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, store := newTestBroker(t)
		var slow atomic.Bool
		work := dramatiq.NewActor("work", func(context.Context, int) error {
			if slow.Load() {
				time.Sleep(time.Hour)
			}
			return nil
		}, dramatiq.TimeLimit(dramatiq.NoLimit))
		startWorker(t, b, dramatiq.WorkerConfig{Concurrency: 2}, work)
		for i := range 1000 {
			mustSend(t, b, work, i)
		}
		synctest.Wait()
		slow.Store(true)
		for i := range 1000 {
			mustSend(t, b, work, i)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if _, _, claimed, _ := stats(t, store, "default"); claimed != 2 {
			t.Errorf("a worker with 2 slots for hours to come holds %d messages", claimed)
		}
		slow.Store(false)
		time.Sleep(2 * time.Hour)
		wantStats(t, store, "default", [4]int{})
	})
}

func TestWorker_UnknownAndUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, store := newTestBroker(t)
		var ran atomic.Int32
		known := dramatiq.NewActor("known", func(context.Context, dramatiq.None) error {
			ran.Add(1)
			return nil
		})
		startWorker(t, b, dramatiq.WorkerConfig{Queues: []string{"default", "extra"}}, known)
		if err := b.Enqueue(t.Context(), dramatiq.NewOutgoing("default", "nobody", nil, nil),
			dramatiq.NewOutgoing("extra", "known", nil, nil)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantDeath(t, store, "default", dramatiq.ReasonUnknownActor)
		if ran.Load() != 1 {
			t.Errorf("an actor from a queue that it was not declared on ran %d times", ran.Load())
		}
	})
}

func TestFollowUps_AreStoredWithTheAcknowledgement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, store := newTestBroker(t)
		child := dramatiq.Declare[int]("child", dramatiq.Queue("children"))
		var runs atomic.Int32
		parent := dramatiq.NewActor("parent", func(ctx context.Context, _ dramatiq.None) error {
			if _, err := child.SendMany(ctx, dramatiq.FollowUps(ctx), []int{1, 2, 3}); err != nil {
				return err
			}
			if waiting, _, _, _ := stats(t, store, "children"); waiting != 0 {
				t.Errorf("%d follow-ups were stored before the acknowledgement", waiting)
			}
			if runs.Add(1) < 3 {
				return errors.New("not yet")
			}
			return nil
		})
		startWorker(t, b, dramatiq.WorkerConfig{}, parent)
		mustSend(t, b, parent, dramatiq.None{})
		time.Sleep(time.Hour)
		wantStats(t, store, "children", [4]int{3, 0, 0, 0}) // of the third run; the failed ones sent none
	})
}
