package drivertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/wire"
)

func enqueueTests() []test {
	return []test{
		{name: "declaring queues twice changes nothing", run: declareTwice},
		{name: "a message arrives as it was sent", run: arrivesAsSent},
		{name: "bodies that only Python understands arrive unchanged", run: oddBodies},
		{name: "a body of one mebibyte arrives", run: largeBody},
		{name: "a body that is no envelope arrives raw and can be rejected", run: rawBodies},
		{name: "an empty batch is accepted", run: emptyBatch},
		{name: "a bad entry of a batch fails only itself", run: badEntry},
		{name: "a batch of a thousand over several queues arrives whole", run: largeBatch},
		{name: "an enqueued envelope is not changed and may be sent again", run: envelopeUnchanged},
		{name: "a cancelled context stores nothing", run: enqueueCancelled},
	}
}

func declareTwice(e *env) {
	d := e.start("alpha", "beta")
	m := e.message("alpha")
	e.enqueue(d, m)
	e.declare(d, "alpha", "beta")
	e.declare(e.open(), "beta", "alpha", "gamma")
	e.declare(d)
	c := e.consume(d, "alpha")
	e.wantBody(e.fetchOne(c), &m)
}

func arrivesAsSent(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	m := e.message("alpha")
	m.Envelope.Kwargs = json.RawMessage(`{"kw":"v"}`)
	m.Envelope.Options.SetInt("retries", 3)
	m.Envelope.Options.SetString("on_failure", "other")
	e.enqueue(d, m)
	got := e.fetchOne(c)
	if got.Queue != "alpha" || got.Redelivered || got.Suspect || got.Crashes != 0 {
		e.Errorf("a new message was delivered as %+v", *got)
	}
	e.wantBody(got, &m)
	e.wantStats(d, "alpha", driver.Stats{Claimed: 1})
	e.begin(c, got)
	e.ack(c, *got)
	e.wantStats(d, "alpha", driver.Stats{})
	e.fetchNothing(c)
}

func oddBodies(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	var messages []driver.Message
	for _, args := range []string{
		`[NaN,Infinity,-Infinity]`,
		`[123456789012345678901234567890,-0.0,1e+20,1.0]`,
		`["\ud800","\udc00 alone","\ud83d\ude00"]`,
		`["\u00e9 \u2028 \u007f </script> & \" \\ / \b\f\n\r\t\u0000"]`,
		"[ \"\u00e9\u2028\U0001f600\" ,\n\t1 ]",
		`[` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `]`,
		`[{"a":1,"a":2}]`,
	} {
		m := e.message("alpha")
		m.Envelope.Args = json.RawMessage(args)
		m.Envelope.Options.Set("free", json.RawMessage(`{"deep":[NaN,"\udfff"]}`))
		messages = append(messages, m)
	}
	e.enqueue(d, messages...)
	sent := make(map[string]*driver.Message)
	for i := range messages {
		sent[entryOf(&messages[i]).key] = &messages[i]
	}
	got := e.fetch(c, len(messages))
	for i := range got {
		e.wantBody(&got[i], sent[key(got[i].Body)])
	}
	e.ack(c, got...)
}

func largeBody(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	m := e.message("alpha")
	m.Envelope.Args = json.RawMessage(`["` + strings.Repeat("0123456789abcdef", 1<<16) + `"]`)
	e.enqueue(d, m)
	got := e.fetchOne(c)
	e.wantBody(got, &m)
	e.ack(c, *got)
}

// raw is an encoder that writes its own bytes, whatever the envelope is.
type raw []byte

func (r raw) Append(dst []byte, _ *wire.Envelope) ([]byte, error) { return append(dst, r...), nil }

func (r raw) Decode([]byte) (*wire.Envelope, error) { return nil, wire.ErrUndecodable }

func rawBodies(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	messages := e.messages("alpha", 2)
	for _, body := range []string{"no json", `{"queue_name":"alpha"}`, "\xff\xfe\x00", "[]", `{"a`} {
		m := e.message("alpha")
		m.Encoder = raw(body)
		messages = append(messages, m)
	}
	e.enqueue(d, messages...)
	want := make(map[string]bool)
	for _, id := range ids(messages) {
		want[id] = true
	}
	got := e.fetch(c, len(messages))
	for i := range got {
		k := key(got[i].Body)
		if !want[k] {
			e.Errorf("received %q twice or changed", got[i].Body)
		}
		delete(want, k)
		s := driver.Settlement{Delivery: &got[i]}
		if strings.HasPrefix(k, "raw: ") {
			s.Outcome = driver.Reject
			s.Death = driver.Death{Reason: "undecodable", Detail: "neither this \xff nor that"}
		}
		e.settle(c, s)
	}
	e.fetchNothing(c)
	e.wantStats(d, "alpha", driver.Stats{Dead: 5})
}

func emptyBatch(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	if errs := d.Enqueue(e.context(), nil); len(errs) != 0 {
		e.Errorf("Enqueue(nil) = %v", errs)
	}
	if errs := c.Settle(e.context(), nil); len(errs) != 0 {
		e.Errorf("Settle(nil) = %v", errs)
	}
}

// unencodable is an encoder that fails.
type unencodable struct{ wire.JSON }

var errUnencodable = errors.New("drivertest: cannot be encoded")

func (unencodable) Append([]byte, *wire.Envelope) ([]byte, error) { return nil, errUnencodable }

func badEntry(e *env) {
	d := e.start("alpha", "beta")
	c := e.consume(d, "alpha", "beta")
	messages := append(e.messages("alpha", 3), e.messages("beta", 3)...)
	const bad = 2
	messages[bad].Encoder = unencodable{}
	errs := d.Enqueue(e.context(), messages)
	if len(errs) != len(messages) {
		e.Fatalf("Enqueue with a bad entry returned %d errors for %d messages", len(errs), len(messages))
	}
	for i, err := range errs {
		if i == bad {
			e.wantError("the bad entry's error", err, errUnencodable)
		} else if err != nil {
			e.Errorf("entry %d failed beside a bad one: %v", i, err)
		} else {
			e.ledger.stored(messages[i])
		}
	}
	e.ack(c, e.fetch(c, len(messages)-1)...)
}

func largeBatch(e *env) {
	queues := []string{"alpha", "beta", "gamma", "delta", "epsilon"}
	d := e.start(queues...)
	c := e.consume(d, queues...)
	var messages []driver.Message
	want := make(map[entry]bool)
	for i := range 1000 {
		m := e.message(queues[i*7%len(queues)])
		messages = append(messages, m)
		want[entryOf(&m)] = true
	}
	e.enqueue(d, messages...)
	for len(want) > 0 {
		got := e.fetch(c, min(len(want), concurrency))
		for i := range got {
			at := entry{got[i].Queue, key(got[i].Body)}
			if !want[at] {
				e.Errorf("%v was delivered twice or never sent", at)
			}
			delete(want, at)
		}
		e.ack(c, got...)
	}
}

func envelopeUnchanged(e *env) {
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	m := e.message("alpha")
	m.Envelope.Options.SetInt("retries", 1)
	m.Priority = 5
	before, err := m.Append(nil)
	if err != nil {
		e.Fatal(err)
	}
	// The same envelope from many goroutines: under the race detector a driver that writes to it fails.
	const times = 8
	var wg sync.WaitGroup
	for range times {
		wg.Go(func() {
			if errs := d.Enqueue(e.context(), []driver.Message{m}); errs != nil {
				e.Errorf("Enqueue = %v", errs)
				return
			}
			e.ledger.stored(m)
		})
	}
	wg.Wait()
	if after, _ := m.Append(nil); !bytes.Equal(before, after) {
		e.Errorf("Enqueue changed the envelope\nfrom %s\nto   %s", before, after)
	}
	e.ack(c, e.fetch(c, times)...)
}

func enqueueCancelled(e *env) {
	d := e.start("alpha")
	ctx, cancel := context.WithCancel(e.context())
	cancel()
	messages := e.messages("alpha", 2)
	errs := d.Enqueue(ctx, messages)
	e.wantErrors("Enqueue with a cancelled context", errs, len(messages), context.Canceled)
	for i, err := range errs {
		if errors.Is(err, driver.ErrMaybeStored) {
			e.ledger.maybeStored(messages[i])
		}
	}
	if _, err := d.Consume(ctx, consumerConfig(1, []string{"alpha"})); err == nil {
		return // registering need not touch the broker
	} else {
		e.wantError("Consume with a cancelled context", err, context.Canceled)
	}
}

// wantBody checks a delivery's body: the very bytes, or for drivers that add options everything but those.
func (e *env) wantBody(got *driver.Delivery, want *driver.Message) {
	e.Helper()
	if want == nil {
		e.Errorf("delivered what was never sent: %q", got.Body)
		return
	}
	body, err := want.Append(nil)
	if err != nil {
		e.Fatal(err)
	}
	if bytes.Equal(got.Body, body) {
		return
	}
	if e.features.Verbatim {
		e.Errorf("body changed\nfrom %s\nto   %s", body, got.Body)
		return
	}
	if err := sameEnvelope(got.Body, want.Envelope); err != nil {
		e.Errorf("envelope changed: %v\nfrom %s\nto   %s", err, body, got.Body)
	}
}

func sameEnvelope(body []byte, want *wire.Envelope) error {
	got, err := wire.JSON{}.Decode(body)
	if err != nil {
		return err
	}
	if got.Queue != want.Queue || got.Actor != want.Actor || got.ID != want.ID || got.Timestamp != want.Timestamp {
		return fmt.Errorf("queue, actor, id or timestamp differ")
	}
	if !bytes.Equal(got.Args, want.Args) || !bytes.Equal(orEmpty(got.Kwargs), orEmpty(want.Kwargs)) {
		return fmt.Errorf("arguments differ")
	}
	for name, value := range want.Options.All() {
		if v, ok := got.Options.Get(name); !ok || !bytes.Equal(v, value) {
			return fmt.Errorf("option %q differs", name)
		}
	}
	return nil
}

func orEmpty(kwargs json.RawMessage) json.RawMessage {
	if len(kwargs) == 0 {
		return json.RawMessage("{}")
	}
	return kwargs
}
