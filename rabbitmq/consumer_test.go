package rabbitmq_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/wire"
)

// TestReject_LandsInPythonsPlace is cases 58 and 59 of the protocol.
func TestReject_LandsInPythonsPlace(t *testing.T) {
	t.Parallel()
	name := queue(t)
	d := open(t, serverURL(t))
	c := consume(t, d, name)
	m := message(name)
	enqueue(t, d, m)
	got := fetch(t, c, 1)
	s := driver.Settlement{Delivery: &got[0], Outcome: driver.Reject, Death: driver.Death{Reason: "retries exhausted"}}
	if errs := c.Settle(within(t), []driver.Settlement{s}); errs != nil {
		t.Fatal(errs)
	}
	dead := newAdmin(t).get(name + ".XQ")
	body, _ := m.Append(nil)
	deaths, _ := dead.Headers["x-death"].([]any)
	if string(dead.Body) != string(body) || len(deaths) != 1 {
		t.Fatalf("dead letter %s with %+v", dead.Body, dead.Headers)
	}
	death, _ := deaths[0].(amqp.Table)
	if death["reason"] != "rejected" || death["queue"] != name || death["count"] != int64(1) {
		t.Errorf("x-death = %+v", death)
	}
}

func TestRequeue_ComesBackMarked(t *testing.T) {
	t.Parallel()
	name := queue(t)
	d := open(t, serverURL(t))
	c := consume(t, d, name)
	enqueue(t, d, message(name))
	got := fetch(t, c, 1)
	if got[0].Redelivered {
		t.Error("a new message is marked as redelivered")
	}
	mustSettle(t, c, driver.Requeue, got...)
	got = fetch(t, c, 1)
	if !got[0].Redelivered {
		t.Error("a requeued message is not marked as redelivered")
	}
	mustSettle(t, c, driver.Ack, got...)
}

// TestClose_HandsBackAtOnce is case 67 of the protocol.
func TestClose_HandsBackAtOnce(t *testing.T) {
	t.Parallel()
	name := queue(t)
	d := open(t, serverURL(t))
	enqueue(t, d, messages(name, 150)...)
	c := consume(t, d, name)
	got := fetch(t, c, 10)
	mustSettle(t, c, driver.Ack, got[:3]...)
	closeConsumer(t, c)
	if n := newAdmin(t).ready(name); n != 147 {
		t.Errorf("%d messages are back in the queue, want 147", n)
	}
	closeConsumer(t, c)
}

func TestFetch_SlowQueueHoldsBackNoOther(t *testing.T) {
	t.Parallel()
	slow, fast := queue(t), queue(t)
	d := open(t, serverURL(t))
	enqueue(t, d, messages(slow, 500)...)
	c := consume(t, d, slow, fast)
	held := fetch(t, c, 16) // all that the slow queue gets
	enqueue(t, d, messages(fast, 10)...)
	for i, got := range fetch(t, c, 10) {
		if got.Queue != fast {
			t.Errorf("delivery %d is from the slow queue", i)
		}
	}
	mustSettle(t, c, driver.Ack, held...)
}

func TestFetch_TakesTurns(t *testing.T) {
	t.Parallel()
	queues := []string{queue(t), queue(t), queue(t)}
	d := open(t, serverURL(t))
	sent := make(map[string][]driver.Message)
	for _, name := range queues {
		sent[name] = messages(name, 16) // as many as are pushed ahead
		enqueue(t, d, sent[name]...)
	}
	a := newAdmin(t)
	c := consume(t, d, queues...)
	for _, name := range queues {
		eventually(t, "the server has pushed everything", func() bool { return a.ready(name) == 0 })
	}
	seen := make(map[string]int)
	for range 4 {
		for _, got := range fetch(t, c, 12) {
			if want := sent[got.Queue][seen[got.Queue]].Envelope.ID; id(t, &got) != want {
				t.Errorf("queue %s is out of order", got.Queue)
			}
			seen[got.Queue]++
		}
	}
	for _, name := range queues {
		if seen[name] != 16 {
			t.Errorf("fetched %d of 16 from %s", seen[name], name)
		}
	}
}

// TestConsume_NotWhatIsPublishedTo is case 66 of the protocol.
func TestConsume_NotWhatIsPublishedTo(t *testing.T) {
	t.Parallel()
	own, foreign := queue(t), queue(t)
	d := open(t, serverURL(t))
	c := consume(t, d, own)
	enqueue(t, d, message(own))
	got := fetch(t, c, 1)
	s := driver.Settlement{Delivery: &got[0], FollowUps: messages(foreign, 1)}
	if errs := c.Settle(within(t), []driver.Settlement{s}); errs != nil {
		t.Fatal(errs)
	}
	q, err := newAdmin(t).QueueDeclarePassive(foreign, true, false, false, false, nil)
	if err != nil || q.Consumers != 0 || q.Messages != 1 {
		t.Errorf("the foreign queue is %+v, %v", q, err)
	}
}

// TestConsume_DeletedQueue is case 60 of the protocol, with deliveries in flight.
func TestConsume_DeletedQueue(t *testing.T) {
	t.Parallel()
	name := queue(t)
	d := open(t, serverURL(t))
	c := consume(t, d, name)
	enqueue(t, d, messages(name, 3)...)
	held := fetch(t, c, 3)
	a := newAdmin(t)
	a.delete(name, name+".DQ", name+".XQ")
	next := message(name)
	enqueue(t, d, next)
	got := fetch(t, c, 1)
	wantIDs(t, got, []driver.Message{next})
	// What was held stays held: its follow-ups are not lost with the queue.
	s := driver.Settlement{Delivery: &held[0], FollowUps: messages(name, 1)}
	if errs := c.Settle(within(t), []driver.Settlement{s}); errs != nil {
		t.Errorf("Settle of a delivery from the deleted queue = %v", errors.Join(errs...))
	}
	wantIDs(t, fetch(t, c, 1), s.FollowUps)
	mustSettle(t, c, driver.Ack, got...)
}

// TestSettle_InAnyOrder settles on the server what is settled here, whatever is acknowledged together.
func TestSettle_InAnyOrder(t *testing.T) {
	t.Parallel()
	name := queue(t)
	d := open(t, serverURL(t))
	sent := messages(name, 60)
	enqueue(t, d, sent...)
	c := consumeWith(t, d, 30, name)
	got := fetch(t, c, 60)
	var kept []driver.Message
	var batches [3][]driver.Delivery
	for i := range got {
		if i%7 == 3 {
			kept = append(kept, sent[i])
			continue
		}
		n := (i * 5) % 3
		batches[n] = append(batches[n], got[i])
	}
	mustSettle(t, c, driver.Ack, batches[1]...)
	mustSettle(t, c, driver.Reject, batches[2]...)
	mustSettle(t, c, driver.Ack, batches[0]...)
	closeConsumer(t, c)
	again := fetch(t, consume(t, d, name), len(kept))
	wantIDs(t, again, kept)
	a := newAdmin(t)
	eventually(t, "the dead letters", func() bool { return a.ready(name+".XQ") == len(batches[2]) })
}

func TestSettle_FollowUpsGoFirst(t *testing.T) {
	t.Parallel()
	name, next := queue(t), queue(t)
	d := open(t, serverURL(t))
	// A queue that refuses what is too much for it makes the follow-up fail.
	if err := d.Declare(within(t), []string{name, next}); err != nil {
		t.Fatal(err)
	}
	a := newAdmin(t)
	a.delete(next)
	full := amqp.Table{"x-max-length": int32(1), "x-overflow": "reject-publish"}
	if _, err := a.QueueDeclare(next, true, false, false, false, full); err != nil {
		t.Fatal(err)
	}
	c := consume(t, d, name)
	enqueue(t, d, messages(name, 2)...)
	got := fetch(t, c, 2)
	settlements := []driver.Settlement{
		{Delivery: &got[0], FollowUps: append(messages(next, 2), message(name))},
		{Delivery: &got[1]},
	}
	errs := c.Settle(within(t), settlements)
	if len(errs) != 2 || errs[0] == nil || errs[1] != nil || errors.Is(errs[0], driver.ErrNotHeld) {
		t.Fatalf("Settle with a full queue = %v", errs)
	}
	if err := c.Begin(within(t), &got[0]); err != nil {
		t.Errorf("the claim is gone: %v", err)
	}
	a.get(next)
	if errs := c.Settle(within(t), settlements[:1]); errs != nil {
		t.Fatalf("Settle, tried again = %v", errors.Join(errs...))
	}
	// Nothing was stored twice: one follow-up here, the others in the full queue.
	wantIDs(t, fetch(t, c, 1), settlements[0].FollowUps[2:])
	if n := a.ready(next); n != 1 {
		t.Errorf("%d follow-ups wait, want 1", n)
	}
	closeConsumer(t, c)
	if n := a.ready(name); n != 1 {
		t.Errorf("%d messages are back, want the unsettled follow-up alone", n)
	}
}

func TestSettle_ForeignClaims(t *testing.T) {
	t.Parallel()
	name := queue(t)
	d := open(t, serverURL(t))
	c, other := consume(t, d, name), consume(t, d, queue(t))
	enqueue(t, d, message(name))
	got := fetch(t, c, 1)
	wantError(t, "Settle of another consumer's delivery", settle(t, other, driver.Ack, got...), driver.ErrNotHeld)
	wantError(t, "Begin of another consumer's delivery", other.Begin(within(t), &got[0]), driver.ErrNotHeld)
	wantError(t, "Settle of no delivery", settle(t, c, driver.Ack, driver.Delivery{}), driver.ErrNotHeld)
	if settle(t, c, driver.Outcome(9), got...) == nil {
		t.Error("Settle with an unknown outcome = nil")
	}
	mustSettle(t, c, driver.Ack, got...)
}

func TestDelay_PromotedWhenDue(t *testing.T) {
	t.Parallel()
	name := queue(t)
	d := open(t, serverURL(t))
	c := consumeWith(t, d, 20, name)
	var sent []driver.Message
	for i := range 20 {
		m := message(name)
		m.Envelope.Options.SetInt("retries", 1)
		m.Due = time.Now().Add(time.Duration(20-i) * 20 * time.Millisecond)
		sent = append(sent, m)
	}
	enqueue(t, d, sent...)
	for i, got := range fetch(t, c, 20) {
		e := decode(t, got.Body)
		if _, delayed := e.Options.Get("eta"); delayed || e.Queue != name || got.Queue != name || e.Options.Len() != 1 {
			t.Errorf("promoted %s from %q", got.Body, got.Queue)
		}
		m := sent[19-i]
		if e.ID != m.Envelope.ID {
			t.Errorf("delivery %d is out of order", i)
		}
		if late := time.Since(m.Due); late < 0 {
			t.Errorf("delivery %d is early by %v", i, -late)
		}
		mustSettle(t, c, driver.Ack, got)
	}
	closeConsumer(t, c)
	a := newAdmin(t)
	if n, m := a.ready(name), a.ready(name+".DQ"); n != 0 || m != 0 {
		t.Errorf("%d messages and %d delayed ones are left", n, m)
	}
}

// TestDelay_WhatPythonMayLeave is in the delay queue with odd contents.
func TestDelay_WhatPythonMayLeave(t *testing.T) {
	t.Parallel()
	name := queue(t)
	d := open(t, serverURL(t))
	if err := d.Declare(within(t), []string{name}); err != nil {
		t.Fatal(err)
	}
	a := newAdmin(t)
	const form = `{"queue_name":"%[1]s.DQ","actor_name":"add","args":[NaN],"kwargs":{},"options":%[2]s,` +
		`"message_id":"%[3]s","message_timestamp":1795369743806}`
	options := []string{
		`{"eta":null}`, `{"eta":"soon"}`, `{}`, `{"eta":NaN}`, `{"eta":-5}`, `{"eta":1e3}`, `{"eta":12.5,"broker_priority":3}`,
	}
	for i, o := range options {
		a.put(name+".DQ", fmt.Sprintf(form, name, o, fmt.Sprint("id", i)))
	}
	for i, o := range []string{`{"eta":Infinity}`, `{"eta":1e300}`, `{"eta":99999999999999}`} {
		a.put(name+".DQ", fmt.Sprintf(form, name, o, fmt.Sprint("far", i)))
	}
	for _, body := range []string{"no json", `{"queue_name":"x"}`, fmt.Sprintf(form, name, "null", "x")} {
		a.put(name+".DQ", body)
	}
	c := consume(t, d, name)
	raw, promoted := 0, 0
	for _, got := range fetch(t, c, len(options)+3) {
		e, err := wire.JSON{}.Decode(got.Body)
		switch {
		case err != nil:
			raw++
			mustSettle(t, c, driver.Reject, got)
		case e.Queue == name && string(e.Args) == "[NaN]":
			promoted++
			mustSettle(t, c, driver.Ack, got)
		default:
			t.Errorf("delivered %s", got.Body)
		}
		if got.Queue != name {
			t.Errorf("delivered from %q", got.Queue)
		}
	}
	if raw != 3 || promoted != len(options) {
		t.Errorf("%d raw and %d promoted messages, want 3 and %d", raw, promoted, len(options))
	}
	closeConsumer(t, c)
	eventually(t, "the dead letters", func() bool { return a.ready(name+".XQ") == 3 })
	if n := a.ready(name + ".DQ"); n != 3 {
		t.Errorf("%d messages wait for ever, want 3", n)
	}
}

func TestFetch_ObeysItsContext(t *testing.T) {
	t.Parallel()
	name := queue(t)
	d := open(t, serverURL(t))
	c := consume(t, d, name)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := c.Fetch(ctx, 1)
	wantError(t, "Fetch", err, context.DeadlineExceeded)
	if _, err := c.Fetch(within(t), 0); err == nil {
		t.Error("Fetch with a limit of 0 = nil")
	}
}

func TestConsume_RefusesBadQueues(t *testing.T) {
	t.Parallel()
	d := open(t, serverURL(t))
	for _, queues := range [][]string{nil, {"a.DQ"}, {"a", ""}} {
		if _, err := d.Consume(within(t), driver.ConsumerConfig{Queues: queues}); err == nil {
			t.Errorf("Consume(%q) = nil, want an error", queues)
		}
	}
}
