package sqlite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

// dieTest ends a consumer as the death of its process would: nothing is handed back and its lock is free.
func dieTest(t *testing.T, c *consumer) {
	t.Helper()
	c.beat.stop()
	c.d.mu.Lock()
	delete(c.d.consumers, c)
	c.d.mu.Unlock()
	c.sock.close()
	if c.lock == nil {
		t.Skip("no file locks on this system")
	}
	c.lock.drop()
}

func TestRecovery_KeepsTheOrder(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{})
	victim := consumeTest(t, d, "default")
	enqueueTest(t, d, newMessages(10)...)
	fetchTest(t, victim, 5)
	c := consumeTest(t, d, "default")
	dieTest(t, victim)
	eventually(t, "the claims are recovered", func() bool {
		s, err := d.Stats(testContext(t), "default")
		return err == nil && s.Claimed == 0
	})
	got := fetchTest(t, c, 10)
	for i := range got {
		if idOf(t, &got[i]) != fmt.Sprintf("default-%d", i) || got[i].Suspect != (i < 5) || got[i].Crashes != 0 {
			t.Errorf("delivery %d is %s, %+v", i, idOf(t, &got[i]), got[i])
		}
	}
	for _, suffix := range []string{lockSuffix, sockSuffix} {
		eventually(t, "the file "+suffix+" of the dead worker is removed", func() bool { // after the commit that recovers
			_, err := os.Stat(filepath.Join(d.dir, victim.name+suffix))
			return os.IsNotExist(err)
		})
	}
}

func TestRecovery_RowDeletedByHand(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{HeartbeatTimeout: 400 * time.Millisecond})
	enqueueTest(t, d, newMessages(4)...)
	victim := consumeTest(t, d, "default")
	held := fetchTest(t, victim, 2)
	if _, err := openForeign(t, d.path).Exec("DELETE FROM dramatiq_workers"); err != nil {
		t.Fatal(err)
	}
	c := consumeTest(t, d, "default")
	got := fetchTest(t, c, 4)
	settleTest(t, c, driver.Ack, got...)
	for _, err := range victim.Settle(testContext(t), []driver.Settlement{{Delivery: &held[0]}, {Delivery: &held[1]}}) {
		if err == nil {
			t.Error("a worker whose row was deleted settled a message of another")
		}
	}
	enqueueTest(t, d, newMessage("default", "later"))
	settleTest(t, victim, driver.Ack, fetchTest(t, victim, 1)...) // it goes on as a new worker
}

func TestCleaner_Verdict(t *testing.T) {
	t.Parallel()
	c := &cleaner{d: &Driver{dir: t.TempDir()}}
	now := time.Now()
	const lease = 9 * time.Second
	for name, tt := range map[string]struct {
		heartbeat, seen time.Duration // ago
		dead            bool
	}{
		"fresh":                             {time.Second, time.Second, false},
		"expired, but this observer is new": {time.Hour, 0, false},
		"expired and seen so":               {10 * time.Second, 4 * time.Second, true},
		"ahead of the clock":                {-time.Hour, 5 * time.Second, false},
		"ahead of the clock and silent":     {-time.Hour, 10 * time.Second, true},
	} {
		w := worker{id: 1, name: "none", heartbeat: now.Add(-tt.heartbeat).UnixMilli(), lease: lease.Milliseconds()}
		why, _ := c.verdict(w, sighting{heartbeat: w.heartbeat, since: now.Add(-tt.seen)}, now)
		if (why != "") != tt.dead {
			t.Errorf("%s: the verdict is %q", name, why)
		}
	}
}

func TestSweep_RemovesExpiredDeadLetters(t *testing.T) {
	t.Parallel()
	const n = sweepAtOnce + 100
	d := openTest(t, Config{DeadTTL: time.Hour, HeartbeatTimeout: 400 * time.Millisecond})
	c := consumeTest(t, d, "default")
	enqueueTest(t, d, newMessages(n)...)
	settleTest(t, c, driver.Reject, fetchTest(t, c, n)...)
	wantStats(t, d, "default", driver.Stats{Dead: n})
	old := time.Now().Add(-2 * time.Hour).UnixMilli()
	if _, err := openForeign(t, d.path).Exec("UPDATE dramatiq_dead SET died = ? WHERE id < ?", old, n-10); err != nil {
		t.Fatal(err)
	}
	eventually(t, "expired dead letters are removed", func() bool {
		s, err := d.Stats(testContext(t), "default")
		return err == nil && s.Dead == 11
	})
}

func TestCleaner_RemovesGarbage(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{})
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	old, recent := filepath.Join(d.dir, "0123456789abcdef.lock"), filepath.Join(d.dir, "fedcba9876543210.lock")
	for _, path := range []string{old, recent} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-2*garbageAge)); err != nil {
		t.Fatal(err)
	}
	if lock := takeLock(recent); lock == nil {
		t.Skip("no file locks on this system")
	} else {
		lock.drop()
	}
	(&cleaner{d: d}).garbage(nil)
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("the old file is still there: %v", err)
	}
	if _, err := os.Stat(recent); err != nil {
		t.Errorf("the recent file is gone: %v", err)
	}
}

func TestConsumer_LostClaimsOfAnUnansweredCommit(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{})
	c := consumeTest(t, d, "default")
	enqueueTest(t, d, newMessages(3)...)
	first := fetchTest(t, c, 1)
	fetchTest(t, c, 2)
	c.mu.Lock() // as if the second fetch had not been answered
	for id, cl := range c.held {
		if first[0].Claim != cl {
			delete(c.held, id)
		}
	}
	c.unsure = true
	c.mu.Unlock()
	enqueueTest(t, d, newMessage("default", "new"))
	again := fetchTest(t, c, 3)
	settleTest(t, c, driver.Ack, append(again, first...)...)
	wantStats(t, d, "default", driver.Stats{})
	if err := c.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if workers, err := d.workers(testContext(t)); err != nil || len(workers) != 0 {
		t.Errorf("workers are %+v, %v, want none after the close", workers, err)
	}
}
