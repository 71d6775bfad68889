package sqlite

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

// lockDatabase holds the write lock of a driver's file until the returned function is called.
func lockDatabase(t *testing.T, d *Driver) (unlock func()) {
	t.Helper()
	return lockOut(t, d.path)
}

// pendingOps waits until n operations are before the writer.
func pendingOps(t *testing.T, d *Driver, n int) {
	t.Helper()
	eventually(t, "operations pile up", func() bool {
		d.writer.mu.Lock()
		defer d.writer.mu.Unlock()
		return len(d.writer.urgent)+len(d.writer.bulk) >= n
	})
}

func TestWriter_ConcurrentCallsShareATransaction(t *testing.T) {
	t.Parallel()
	const n = 100
	d := openTest(t, Config{})
	var commits atomic.Int64
	d.writer.wake = func() { commits.Add(1) }
	unlock := lockDatabase(t, d)
	var wg sync.WaitGroup
	for _, m := range newMessages(n) {
		wg.Go(func() { enqueueTest(t, d, m) })
	}
	pendingOps(t, d, n)
	unlock()
	wg.Wait()
	if got := commits.Load(); got != 1 {
		t.Errorf("%d concurrent calls took %d transactions, want 1", n, got)
	}
	wantStats(t, d, "default", driver.Stats{Waiting: n})
}

func TestWriter_CancelledCallFailsAlone(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{})
	unlock := lockDatabase(t, d)
	ctx, cancel := context.WithCancel(testContext(t))
	var wg sync.WaitGroup
	var cancelled []error
	wg.Go(func() { cancelled = d.Enqueue(ctx, newMessages(1)) })
	wg.Go(func() { enqueueTest(t, d, newMessages(1)...) })
	pendingOps(t, d, 2)
	cancel()
	eventually(t, "the cancelled call returns", func() bool { // the other one still waits for the lock
		d.writer.mu.Lock()
		defer d.writer.mu.Unlock()
		return len(d.writer.bulk) == 1
	})
	unlock()
	wg.Wait()
	if len(cancelled) != 1 || !errors.Is(cancelled[0], context.Canceled) || errors.Is(cancelled[0], driver.ErrMaybeStored) {
		t.Errorf("the cancelled call = %v, want that nothing was stored", cancelled)
	}
	wantStats(t, d, "default", driver.Stats{Waiting: 1})
}

func TestWriter_BadEntryFailsAlone(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{})
	unlock := lockDatabase(t, d)
	bad := &op{bulk: true, durable: true, count: 1, run: func(c *conn) error {
		_, err := c.exec("INSERT INTO dramatiq_messages (queue, body) VALUES (NULL, NULL)")
		return err
	}}
	var wg sync.WaitGroup
	for _, m := range newMessages(5) {
		wg.Go(func() { enqueueTest(t, d, m) })
	}
	var err error
	wg.Go(func() { err = d.writer.do(testContext(t), bad) })
	pendingOps(t, d, 6)
	unlock()
	wg.Wait()
	if err == nil || !strings.Contains(err.Error(), "NOT NULL") {
		t.Errorf("the bad entry = %v", err)
	}
	wantStats(t, d, "default", driver.Stats{Waiting: 5})
}

func TestWriter_GivesUpOnALockedDatabase(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{BusyTimeout: 50 * time.Millisecond})
	unlock := lockDatabase(t, d)
	errs := d.Enqueue(testContext(t), newMessages(1))
	if len(errs) != 1 || !errors.Is(errs[0], errLocked) || errors.Is(errs[0], driver.ErrMaybeStored) {
		t.Errorf("Enqueue on a locked database = %v", errs)
	}
	unlock()
	enqueueTest(t, d, newMessages(1)...)
	wantStats(t, d, "default", driver.Stats{Waiting: 1})
}

// setPragma changes a setting of the writer's connection.
func setPragma(t *testing.T, d *Driver, pragma string) {
	t.Helper()
	err := d.writer.do(testContext(t), &op{run: func(c *conn) error { return c.execOnce("PRAGMA " + pragma) }})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWriter_RecoversFromAFullDisk(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{})
	c := consumeTest(t, d, "default")
	enqueueTest(t, d, newMessage("default", "first"))
	got := fetchTest(t, c, 1)
	setPragma(t, d, "max_page_count = 40")
	stored := 1
	var err error
	for err == nil {
		errs := d.Enqueue(testContext(t), newMessages(100))
		if errs == nil {
			stored += 100
		} else {
			err = errs[99]
		}
	}
	if !strings.Contains(err.Error(), "disk is full") || errors.Is(err, driver.ErrMaybeStored) {
		t.Errorf("Enqueue on a full disk = %v", err)
	}
	setPragma(t, d, "max_page_count = 1000000")
	settleTest(t, c, driver.Ack, got...)
	enqueueTest(t, d, newMessages(100)...)
	wantStats(t, d, "default", driver.Stats{Waiting: stored - 1 + 100})
}

func TestWriter_RecoversFromAReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{})
	enqueueTest(t, d, newMessage("default", "first"))
	setPragma(t, d, "query_only = 1")
	errs := d.Enqueue(testContext(t), newMessages(1))
	if len(errs) != 1 || !strings.Contains(errs[0].Error(), "read-only") {
		t.Errorf("Enqueue on a read-only database = %v", errs)
	}
	setPragma(t, d, "query_only = 0")
	enqueueTest(t, d, newMessages(1)...)
	wantStats(t, d, "default", driver.Stats{Waiting: 2})
}

func TestWriter_SaysWhenItDoesNotKnow(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{})
	unlock := lockDatabase(t, d)
	var wg sync.WaitGroup
	var errs []error
	wg.Go(func() { errs = d.Enqueue(testContext(t), newMessages(1)) })
	pendingOps(t, d, 1)
	// The transaction ends before its commit, which then fails without telling whether anything was stored.
	spoiler := &op{durable: true, run: func(c *conn) error { return c.execOnce("COMMIT") }}
	d.writer.submit(spoiler)
	unlock()
	wg.Wait()
	if len(errs) != 1 || !errors.Is(errs[0], driver.ErrMaybeStored) {
		t.Errorf("Enqueue = %v, want that it is unknown", errs)
	}
	if err := d.writer.wait(testContext(t), spoiler); !errors.Is(err, driver.ErrMaybeStored) {
		t.Errorf("the operation beside it = %v", err)
	}
	enqueueTest(t, d, newMessages(1)...)
}

func TestWriter_CloseFailsWhatWaits(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{})
	unlock := lockDatabase(t, d)
	var wg sync.WaitGroup
	var errs []error
	wg.Go(func() { errs = d.Enqueue(testContext(t), newMessages(1)) })
	pendingOps(t, d, 1)
	if err := d.Close(testContext(t)); err != nil {
		t.Error(err)
	}
	wg.Wait()
	unlock()
	if len(errs) != 1 || !errors.Is(errs[0], driver.ErrClosed) {
		t.Errorf("Enqueue = %v, want that the driver is closed", errs)
	}
}

func TestTurn_IsNotHeldForEver(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{})
	if d.writer.turn.lock == nil {
		t.Skip("no file locks on this system")
	}
	other := turn{lock: newTurnLock(d.dir)}
	defer other.close()
	other.ask(hungry)
	if !other.asking {
		t.Fatal("could not ask")
	}
	enqueueTest(t, d, newMessage("default", "a")) // as if a process was stopped while it asked
	enqueueTest(t, d, newMessage("default", "b"))
	wantStats(t, d, "default", driver.Stats{Waiting: 2})
}
