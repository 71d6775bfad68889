package rabbitmq_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

// TestFault_CutConnection is case 62 of the protocol: deliveries of a lost session can be settled neither on it nor on
// the next one, whose deliveries have the same numbers.
func TestFault_CutConnection(t *testing.T) {
	t.Parallel()
	name := queue(t)
	p, url := newProxy(t)
	d := open(t, url)
	sent := messages(name, 20)
	enqueue(t, d, sent...)
	c := consumeWith(t, d, 20, name)
	old := fetch(t, c, 20)
	p.cut()
	again := fetch(t, c, 20) // from the next session; nothing is settled yet
	wantIDs(t, again, sent)
	for i := range old {
		wantError(t, "Begin after the cut", c.Begin(within(t), &old[i]), driver.ErrNotHeld)
	}
	followed := queue(t)
	errs := c.Settle(within(t), []driver.Settlement{
		{Delivery: &old[0], FollowUps: messages(followed, 1)},
		{Delivery: &old[1], Outcome: driver.Reject},
		{Delivery: &again[2]},
		{Delivery: &old[2], Outcome: driver.Requeue},
	})
	if len(errs) != 4 || errs[2] != nil {
		t.Fatalf("Settle = %v", errs)
	}
	for _, i := range []int{0, 1, 3} {
		wantError(t, "Settle after the cut", errs[i], driver.ErrNotHeld)
	}
	closeConsumer(t, c)
	a := newAdmin(t)
	if n := a.ready(name); n != 19 {
		t.Errorf("%d messages are back, want all but the one that was settled", n)
	}
	if err := d.Declare(within(t), []string{followed}); err != nil {
		t.Fatal(err)
	}
	if n := a.ready(followed); n != 0 {
		t.Errorf("%d follow-ups of lost deliveries are stored", n)
	}
}

// TestFault_CutWhileSettling cuts the connections over and over while a worker runs messages with follow-ups. Every
// message must be acknowledged at least once, and each follow-up of an acknowledged message must exist.
func TestFault_CutWhileSettling(t *testing.T) {
	t.Parallel()
	const n = 600
	name, next := queue(t), queue(t)
	p, url := newProxy(t)
	d := open(t, url)
	sent := messages(name, n)
	enqueue(t, d, sent...)
	c := consume(t, d, name)

	stop := make(chan struct{})
	var cuts sync.WaitGroup
	cuts.Go(func() {
		ticker := time.NewTicker(150 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				p.cut()
			case <-stop:
				return
			}
		}
	})
	acked := make(map[string]bool)
	deadline := time.Now().Add(patience)
	for len(acked) < n && time.Now().Before(deadline) {
		got, err := c.Fetch(within(t), 7)
		if err != nil {
			continue
		}
		settlements := make([]driver.Settlement, len(got))
		for i := range got {
			follow := message(next)
			follow.Envelope.ID = id(t, &got[i]) + "-next"
			settlements[i] = driver.Settlement{Delivery: &got[i], FollowUps: []driver.Message{follow}}
		}
		errs := c.Settle(within(t), settlements)
		for i := range got {
			if errs == nil || errs[i] == nil {
				acked[id(t, &got[i])] = true
			}
		}
	}
	close(stop)
	cuts.Wait()
	closeConsumer(t, c)
	if len(acked) != n {
		t.Errorf("%d of %d messages were settled", len(acked), n)
	}
	a := newAdmin(t)
	stored := make(map[string]bool)
	for a.ready(next) > 0 {
		stored[decode(t, a.get(next).Body).ID] = true
	}
	for i := range sent {
		if id := sent[i].Envelope.ID; !stored[id+"-next"] {
			t.Errorf("message %s was settled and its follow-up is lost", id)
		}
	}
}

func TestFault_OutageIsReportedAndSurvived(t *testing.T) {
	t.Parallel()
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprintf("silent=%v", silent), func(t *testing.T) {
			t.Parallel()
			name := queue(t)
			p, url := newProxy(t)
			d := open(t, url)
			c := consume(t, d, name)
			enqueue(t, d, message(name))
			mustSettle(t, c, driver.Ack, fetch(t, c, 1)...)
			p.set(!silent, silent)
			began := time.Now()
			if got, err := c.Fetch(within(t), 1); err == nil {
				t.Fatalf("Fetch without a connection = %v", got)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("the loss was reported after %v", took)
			}
			began = time.Now()
			if _, err := c.Fetch(within(t), 1); err == nil || time.Since(began) < 900*time.Millisecond {
				t.Errorf("Fetch = %v after %v, want an error after about a second", err, time.Since(began))
			}
			p.set(false, false)
			began = time.Now()
			// Another way in, so that only the consumer's recovery is measured.
			enqueue(t, open(t, serverURL(t)), message(name))
			mustSettle(t, c, driver.Ack, fetch(t, c, 1)...)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("consuming resumed after %v", took)
			}
		})
	}
}

// TestFault_FollowUpsFailDuringAnOutage of the publishing connection alone: the message stays and is settled later.
func TestFault_FollowUpsFailDuringAnOutage(t *testing.T) {
	t.Parallel()
	name, next := queue(t), queue(t)
	p, url := newProxy(t)
	d := open(t, url)
	enqueue(t, d, message(name))
	c := consume(t, d, name)
	got := fetch(t, c, 1)
	p.set(true, false)
	s := driver.Settlement{Delivery: &got[0], FollowUps: messages(next, 1)}
	if errs := c.Settle(within(t), []driver.Settlement{s}); errs == nil {
		t.Fatal("Settle without a connection = nil")
	}
	p.set(false, false)
	got = fetch(t, c, 1)
	s.Delivery = &got[0]
	eventually(t, "the settlement", func() bool {
		errs := c.Settle(within(t), []driver.Settlement{s})
		if errs != nil && errors.Is(errs[0], driver.ErrNotHeld) {
			t.Fatal(errs)
		}
		return errs == nil
	})
	if n := newAdmin(t).ready(next); n != 1 {
		t.Errorf("%d follow-ups are stored, want 1", n)
	}
}

func TestFault_DelayedMessagesSurvive(t *testing.T) {
	t.Parallel()
	name := queue(t)
	p, url := newProxy(t)
	d := open(t, url)
	c := consume(t, d, name)
	sent := messages(name, 50)
	for i := range sent {
		sent[i].Due = time.Now().Add(400 * time.Millisecond)
	}
	enqueue(t, d, sent...)
	a := newAdmin(t)
	eventually(t, "the consumer holds them", func() bool { return a.ready(name+".DQ") == 0 })
	p.cut()
	seen := make(map[string]bool)
	for len(seen) < len(sent) {
		got := fetch(t, c, 1)
		seen[id(t, &got[0])] = true
		_ = settle(t, c, driver.Ack, got...)
	}
}
