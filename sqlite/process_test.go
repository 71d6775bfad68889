//go:build unix

package sqlite

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

func TestProcess_StoppedWorkerLosesItsClaims(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{HeartbeatTimeout: 400 * time.Millisecond})
	enqueueTest(t, d, newMessages(3)...)
	p := startChild(t, "puppet", "sqlite://"+d.path+"?heartbeat_timeout=400ms")
	p.say("fetch 3")
	p.want("fetch: <nil>")
	p.say("begin 0")
	p.want("begin: <nil>")
	p.signal(syscall.SIGSTOP)

	c := consumeTest(t, d, "default")
	taken := fetchTest(t, c, 3)
	for i := range taken {
		if !taken[i].Suspect || !taken[i].Redelivered || taken[i].Crashes != 0 || idOf(t, &taken[i]) != fmt.Sprintf("default-%d", i) {
			t.Errorf("delivery %d is %+v", i, taken[i])
		}
	}
	p.signal(syscall.SIGCONT)
	for _, command := range []string{"settle 0", "begin 1", "settle 1"} {
		p.say(command)
		if got := p.hear(); !strings.Contains(got, driver.ErrNotHeld.Error()) {
			t.Errorf("%s of the stopped worker: %s", command, got)
		}
	}
	wantStats(t, d, "done", driver.Stats{}) // no follow-ups
	settleTest(t, c, driver.Requeue, taken...)
	p.say("fetch 1") // it is a new worker now
	p.want("fetch: <nil>")
	p.say("begin 0")
	p.want("begin: <nil>")
	p.say("settle 0")
	p.want("settle: <nil>")
}

func TestProcess_KilledWorkerIsNoticedBeforeItsLeaseEnds(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{HeartbeatTimeout: time.Hour})
	c := consumeTest(t, d, "default")
	p := startChild(t, "puppet", "sqlite://"+d.path+"?heartbeat_timeout=1h")
	enqueueTest(t, d, newMessages(3)...)
	p.say("fetch 2")
	p.want("fetch: <nil>")
	p.say("begin 0")
	p.want("begin: <nil>")
	p.kill()
	killed := time.Now()
	got := fetchTest(t, c, 3)
	t.Logf("recovered after %v", time.Since(killed))
	suspects := 0
	for i := range got {
		if got[i].Suspect {
			suspects++
		}
	}
	if suspects != 2 {
		t.Errorf("%d suspects, want the 2 that were claimed", suspects)
	}
	settleTest(t, c, driver.Ack, got...)
}

func TestProcess_ClosedWorkerHandsBack(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{})
	enqueueTest(t, d, newMessages(4)...)
	p := startChild(t, "puppet", "sqlite://"+d.path)
	p.say("fetch 4")
	p.want("fetch: <nil>")
	p.say("begin 2")
	p.want("begin: <nil>")
	p.say("close")
	p.want("close: <nil>")
	wantStats(t, d, "default", driver.Stats{Waiting: 3, Claimed: 1})
	p.kill()
	if workers, err := d.workers(testContext(t)); err != nil || len(workers) != 1 {
		t.Errorf("workers are %+v, %v, want the one that left work behind", workers, err)
	}
}

// Two workers are killed again and again. Settling is atomic, so that each message has exactly one follow-up, however
// often it ran.
func TestProcess_KilledWorkersLoseAndDoubleNothing(t *testing.T) {
	t.Parallel()
	const n, kills = 400, 8
	d := openTest(t, Config{HeartbeatTimeout: time.Second})
	url := "sqlite://" + d.path + "?heartbeat_timeout=1s"
	workers := []*child{startChild(t, "worker", url), startChild(t, "worker", url)}
	messages := newMessages(n)
	ran := map[string]int{}
	note := func(c *child) {
		for line := range c.lines {
			ran[strings.TrimPrefix(line, "ran ")]++
		}
	}
	for i := range kills {
		enqueueTest(t, d, messages[i*n/kills:(i+1)*n/kills]...)
		<-time.After(rand.N(40 * time.Millisecond)) // a kill at any moment is a good one
		victim := i % len(workers)
		if err := workers[victim].cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		note(workers[victim])
		workers[victim].kill()
		workers[victim] = startChild(t, "worker", url)
	}
	c := consumeTest(t, d, "done")
	done := map[string]int{}
	for _, got := range fetchTest(t, c, n) {
		done[idOf(t, &got)]++
	}
	wantStats(t, d, "default", driver.Stats{})
	wantStats(t, d, "done", driver.Stats{Claimed: n})
	for _, w := range workers {
		if err := w.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		note(w)
		w.kill()
	}
	again := 0
	for _, m := range messages {
		id := m.Envelope.ID
		if done[id] != 1 || ran[id] < 1 {
			t.Errorf("%s ran %d times and has %d follow-ups", id, ran[id], done[id])
		}
		again += ran[id] - 1
	}
	if again > kills*8 {
		t.Errorf("%d runs too many, more than %d kills of workers with 8 claims explain", again, kills)
	}
	t.Logf("%d kills, %d runs repeated", kills, again)
}

// One message kills every worker that runs it. Its neighbours must not be taken for guilty.
func TestProcess_CrashLoopEnds(t *testing.T) {
	t.Parallel()
	const n = 40
	d := openTest(t, Config{HeartbeatTimeout: 400 * time.Millisecond})
	url := "sqlite://" + d.path + "?heartbeat_timeout=400ms"
	messages := newMessages(n)
	messages[n/2].Envelope.ID = "poison"
	enqueueTest(t, d, messages...)
	poisoned := 0
	deadline := time.Now().Add(testPatience)
	for {
		s, err := d.Stats(testContext(t), "default")
		if err != nil {
			t.Fatal(err)
		}
		if s.Dead == 1 && s.Waiting+s.Delayed+s.Claimed == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %+v, and the poison ran %d times", testPatience, s, poisoned)
		}
		w := startChild(t, "worker", url)
		stop := time.AfterFunc(2*time.Second, func() { _ = w.cmd.Process.Kill() }) // when nothing is left to kill it
		for line := range w.lines {
			if line == "ran poison" {
				poisoned++
			}
		}
		stop.Stop()
		w.kill()
	}
	if poisoned != 4 {
		t.Errorf("the poison ran %d times, want once and 3 times after it was suspected", poisoned)
	}
	wantStats(t, d, "done", driver.Stats{Waiting: n - 1})
	dead, err := d.DeadLetters(testContext(t), "default", "", 10)
	if err != nil || len(dead) != 1 || dead[0].Death.Reason != "crashed its workers" {
		t.Errorf("dead letters are %+v, %v", dead, err)
	}
}
