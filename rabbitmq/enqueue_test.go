package rabbitmq_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/wire"
)

// TestEnqueue_PropertiesArePythons is case 56 of the protocol.
func TestEnqueue_PropertiesArePythons(t *testing.T) {
	t.Parallel()
	name := queue(t)
	d := open(t, serverURL(t))
	m := message(name)
	m.Envelope.ID = "13ed22e2-95d3-40ff-bbb6-275b1abce98a"
	m.Envelope.Actor = "add"
	m.Envelope.Args = []byte("[1,2]")
	enqueue(t, d, m)
	got := newAdmin(t).get(name)
	want := amqp.Delivery{
		Acknowledger: got.Acknowledger, DeliveryMode: amqp.Persistent, DeliveryTag: got.DeliveryTag, RoutingKey: name,
		Body: fmt.Appendf(nil, `{"queue_name":"%s","actor_name":"add","args":[1,2],"kwargs":{},"options":{},`+
			`"message_id":"13ed22e2-95d3-40ff-bbb6-275b1abce98a","message_timestamp":1795369744811}`, name),
	}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("stored %+v\nwant   %+v\nbody %s", got, want, got.Body)
	}
}

func TestEnqueue_DelayedMessageWaitsAsPythonLeavesIt(t *testing.T) {
	t.Parallel()
	name := queue(t)
	d := open(t, serverURL(t))
	m := message(name)
	m.Envelope.Options.SetInt("broker_priority", 7)
	m.Priority = 7
	m.Due = time.Now().Add(time.Hour)
	enqueue(t, d, m)
	got := newAdmin(t).get(name + ".DQ")
	e := decode(t, got.Body)
	eta, _ := e.Options.Int("eta")
	if e.Queue != name+".DQ" || eta < m.Due.UnixMilli() || eta > m.Due.UnixMilli()+1 || got.Priority != 7 ||
		got.DeliveryMode != amqp.Persistent || got.Expiration != "" {
		t.Errorf("stored %s with %+v", got.Body, got)
	}
	if m.Envelope.Queue != name || m.Envelope.Options.Len() != 1 {
		t.Errorf("the envelope was changed to %+v", m.Envelope)
	}
}

func TestEnqueue_PriorityOvertakes(t *testing.T) {
	t.Parallel()
	name := queue(t)
	d := open(t, serverURL(t)+"?max_priority=10")
	for priority := range uint8(10) {
		m := message(name)
		m.Priority = priority
		enqueue(t, d, m)
	}
	a := newAdmin(t)
	for want := 9; want >= 0; want-- {
		if got := a.get(name).Priority; int(got) != want {
			t.Errorf("priority %d comes in place of %d", got, want)
		}
	}
	args := amqp.Table{
		"x-dead-letter-exchange": "", "x-dead-letter-routing-key": name + ".XQ", "x-max-priority": int32(10),
	}
	if _, err := a.QueueDeclare(name, true, false, false, false, args); err != nil {
		t.Errorf("Python's declaration is refused: %v", err)
	}
}

func TestDeclare_MatchesPython(t *testing.T) {
	t.Parallel()
	name := queue(t)
	d := open(t, serverURL(t))
	if err := d.Declare(within(t), []string{name}); err != nil {
		t.Fatal(err)
	}
	a := newAdmin(t)
	args := amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": name + ".XQ"}
	for queue, args := range map[string]amqp.Table{
		name: args, name + ".DQ": args, name + ".XQ": {"x-message-ttl": int32(604800000)},
	} {
		if _, err := a.QueueDeclare(queue, true, false, false, false, args); err != nil {
			t.Fatalf("Python's declaration of %q is refused: %v", queue, err)
		}
	}
	a.delete(name)
	if err := d.Declare(within(t), []string{name}); err != nil {
		t.Fatal(err)
	}
	a.ready(name) // fails if it does not exist
}

func TestDeclare_OtherArgumentsAreMisconfigured(t *testing.T) {
	t.Parallel()
	name, fine := queue(t), queue(t)
	d := open(t, serverURL(t))
	with := open(t, serverURL(t)+"?max_priority=10")
	enqueue(t, with, message(name))

	check := func(what string, err error) {
		t.Helper()
		wantError(t, what, err, driver.ErrMisconfigured)
		for _, part := range []string{"inequivalent arg 'x-max-priority'", name, "max_priority"} {
			if err != nil && !strings.Contains(err.Error(), part) {
				t.Errorf("%s = %v, which does not mention %q", what, err, part)
			}
		}
	}
	check("Declare", d.Declare(within(t), []string{fine, name}))
	errs := d.Enqueue(within(t), []driver.Message{message(fine), message(name), message(fine)})
	if len(errs) != 3 || errs[0] != nil || errs[2] != nil {
		t.Fatalf("Enqueue = %v, want one error", errs)
	}
	check("Enqueue", errs[1])
	c := consume(t, d, fine, name)
	_, err := c.Fetch(within(t), 1)
	for ; err == nil; _, err = c.Fetch(within(t), 1) { // what came before the refusal
	}
	check("Fetch", err)
}

func TestEnqueue_DeletedQueueIsDeclaredAnew(t *testing.T) {
	t.Parallel()
	name, other := queue(t), queue(t)
	d := open(t, serverURL(t))
	enqueue(t, d, message(name), message(other))
	a := newAdmin(t)
	a.delete(name, name+".DQ", name+".XQ")
	late := message(name)
	late.Due = time.Now().Add(time.Hour)
	var batch []driver.Message
	for range 200 {
		batch = append(batch, message(name), message(other))
	}
	enqueue(t, d, append(batch, late)...)
	if got := []int{a.ready(name), a.ready(other), a.ready(name + ".DQ"), a.ready(name + ".XQ")}; got[0] != 200 ||
		got[1] != 201 || got[2] != 1 || got[3] != 0 {
		t.Errorf("stored in the queue, the other queue, the delay queue, the dead-letter queue: %v", got)
	}
}

// TestEnqueue_ConcurrentlyOverADeletedQueue has many callers hit returned messages at once.
func TestEnqueue_ConcurrentlyOverADeletedQueue(t *testing.T) {
	t.Parallel()
	name := queue(t)
	d := open(t, serverURL(t))
	enqueue(t, d, message(name))
	a := newAdmin(t)
	a.delete(name)
	var wg sync.WaitGroup
	same := message(name) // the very same bytes from all of them
	for range 16 {
		wg.Go(func() {
			for range 20 {
				if errs := d.Enqueue(within(t), []driver.Message{same}); errs != nil {
					t.Errorf("Enqueue = %v", errs)
				}
			}
		})
	}
	wg.Wait()
	if n := a.ready(name); n != 320 {
		t.Errorf("%d messages are stored, want 320", n)
	}
}

func TestEnqueue_BadQueueNameFailsOnlyItself(t *testing.T) {
	t.Parallel()
	name := queue(t)
	d := open(t, serverURL(t))
	bad := message(strings.Repeat("x", 253))
	errs := d.Enqueue(within(t), []driver.Message{message(name), bad, message("a b"), message(name)})
	if len(errs) != 4 || errs[0] != nil || errs[1] == nil || errs[2] == nil || errs[3] != nil {
		t.Errorf("Enqueue = %v", errs)
	}
	if n := newAdmin(t).ready(name); n != 2 {
		t.Errorf("%d messages are stored, want 2", n)
	}
}

// TestEnqueue_RefusedMessage fills a queue that refuses what is too much for it.
func TestEnqueue_RefusedMessage(t *testing.T) {
	t.Parallel()
	name := queue(t)
	d := open(t, serverURL(t))
	a := newAdmin(t)
	args := amqp.Table{"x-max-length": int32(1), "x-overflow": "reject-publish"}
	if err := d.Declare(within(t), []string{name}); err != nil {
		t.Fatal(err)
	}
	a.delete(name)
	if _, err := a.QueueDeclare(name, true, false, false, false, args); err != nil {
		t.Fatal(err)
	}
	enqueue(t, d, message(name))
	errs := d.Enqueue(within(t), messages(name, 1))
	if errs == nil || errors.Is(errs[0], driver.ErrMaybeStored) {
		t.Errorf("Enqueue to a full queue = %v, want a plain error", errs)
	}
}

func TestEnqueue_LostConnectionMayHaveStored(t *testing.T) {
	t.Parallel()
	for _, silent := range []bool{false, true} {
		name := queue(t)
		p, url := newProxy(t)
		d := open(t, url)
		enqueue(t, d, message(name))
		p.set(false, true) // the message or its confirmation vanishes
		answer := make(chan []error, 1)
		began := time.Now()
		go func() { answer <- d.Enqueue(within(t), messages(name, 3)) }()
		if !silent {
			<-time.After(50 * time.Millisecond) // most likely it waits for confirmations now
			p.set(true, false)
		}
		for _, err := range <-answer {
			if !errors.Is(err, driver.ErrMaybeStored) && silent {
				t.Errorf("Enqueue = %v, want that it may have been stored", err)
			}
			if err == nil {
				t.Error("Enqueue = nil without a confirmation")
			}
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("the loss was noticed after %v", took)
		}
		p.set(false, false)
		enqueue(t, d, message(name))
	}
}

func TestEnqueue_ContextEndsWhileWaitingForConfirmations(t *testing.T) {
	t.Parallel()
	name := queue(t)
	p, url := newProxy(t)
	d := open(t, url)
	enqueue(t, d, message(name))
	p.set(false, true)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for _, err := range d.Enqueue(ctx, messages(name, 3)) {
		wantError(t, "Enqueue", err, context.DeadlineExceeded)
		wantError(t, "Enqueue", err, driver.ErrMaybeStored)
	}
}

// TestEnqueue_ContextEndsWhileTheSocketIsFull and the connection is given up in spite of the write that hangs in it.
func TestEnqueue_ContextEndsWhileTheSocketIsFull(t *testing.T) {
	t.Parallel()
	name := queue(t)
	stalled := newStalledServer(t)
	d := open(t, stalled.url)
	enqueue(t, d, message(name))
	stalled.stall()
	large := make([]driver.Message, 64)
	for i := range large {
		large[i] = message(name)
		large[i].Envelope.Args = []byte(`["` + strings.Repeat("x", 1<<20) + `"]`)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	for _, err := range d.Enqueue(ctx, large) {
		wantError(t, "Enqueue", err, context.DeadlineExceeded)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("Enqueue came back after %v", took)
	}
	// The write still hangs. The silence is noticed, and a new connection takes over.
	eventually(t, "another connection", func() bool {
		return d.Enqueue(within(t), messages(name, 1)) == nil
	})
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("another connection was used after %v", took)
	}
}

func TestEnqueue_DelayNameOfDerivedQueues(t *testing.T) {
	t.Parallel()
	d := open(t, serverURL(t))
	for _, name := range []string{"a.DQ", "a.XQ", ""} {
		if errs := d.Enqueue(within(t), []driver.Message{message(name)}); errs == nil {
			t.Errorf("Enqueue to %q = nil, want an error", wire.CanonicalQueue(name))
		}
	}
}
