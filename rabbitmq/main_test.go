package rabbitmq_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/rabbitmq"
	"github.com/dramatiq-go/dramatiq/wire"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serverURL returns the URL of the RabbitMQ server that tests use.
func serverURL(tb testing.TB) string {
	tb.Helper()
	url := os.Getenv("DRAMATIQ_TEST_RABBITMQ_URL")
	if url == "" {
		tb.Fatal("DRAMATIQ_TEST_RABBITMQ_URL is not set: run through `make test`, or `tools/with-servers go test …`")
	}
	return url
}

func open(t *testing.T, url string) *rabbitmq.Driver {
	t.Helper()
	d, err := rabbitmq.Open(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(within(t)); err != nil {
			t.Errorf("Driver.Close = %v", err)
		}
	})
	return d
}

func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// admin is a channel beside the driver, which looks at what the driver left on the server.
type admin struct {
	*amqp.Channel
	t testing.TB
}

func newAdmin(tb testing.TB) admin {
	tb.Helper()
	conn, err := amqp.Dial(serverURL(tb))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		tb.Fatal(err)
	}
	return admin{ch, tb}
}

// queue returns a queue name of the test's own, whose queues are deleted when the test has ended.
func queue(t *testing.T) string {
	t.Helper()
	name := "t" + strings.ReplaceAll(wire.NewID(), "-", "")[:12]
	deleteLater(t, name)
	return name
}

func deleteLater(t *testing.T, queues ...string) {
	t.Helper()
	t.Cleanup(func() {
		a := newAdmin(t)
		for _, name := range queues {
			a.delete(name, wire.DelayQueue(name), wire.DeadQueue(name))
		}
	})
}

func (a admin) delete(queues ...string) {
	a.t.Helper()
	for _, name := range queues {
		if _, err := a.QueueDelete(name, false, false, false); err != nil {
			a.t.Errorf("delete queue %q: %v", name, err)
		}
	}
}

// get takes a message from a queue, as soon as there is one.
func (a admin) get(name string) amqp.Delivery {
	a.t.Helper()
	var d amqp.Delivery
	eventually(a.t, "a message in "+name, func() bool {
		got, ok, err := a.Get(name, true)
		if err != nil {
			a.t.Fatalf("get from %q: %v", name, err)
		}
		d = got
		return ok
	})
	return d
}

// ready counts the messages of a queue that no consumer holds.
func (a admin) ready(name string) int {
	a.t.Helper()
	q, err := a.QueueDeclarePassive(name, true, false, false, false, nil)
	if err != nil {
		a.t.Fatalf("inspect queue %q: %v", name, err)
	}
	return q.Messages
}

func (a admin) put(name, body string) {
	a.t.Helper()
	err := a.PublishWithContext(within(a.t), "", name, false, false, amqp.Publishing{DeliveryMode: 2, Body: []byte(body)})
	if err != nil {
		a.t.Fatal(err)
	}
}

// eventually polls for something that has to become true.
func eventually(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	deadline := time.Now().Add(patience)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %v: %s", patience, what)
		}
		<-ticker.C
	}
}

func message(queue string) driver.Message {
	return driver.Message{
		Envelope: &wire.Envelope{
			Queue: queue, Actor: "actor", Args: json.RawMessage("[1]"), ID: wire.NewID(), Timestamp: 1795369744811,
		},
		Encoder: wire.JSON{},
	}
}

func messages(queue string, n int) []driver.Message {
	many := make([]driver.Message, n)
	for i := range many {
		many[i] = message(queue)
	}
	return many
}

func enqueue(t *testing.T, d driver.Enqueuer, messages ...driver.Message) {
	t.Helper()
	if errs := d.Enqueue(within(t), messages); errs != nil {
		t.Fatalf("Enqueue = %v", errors.Join(errs...))
	}
}

func consume(t *testing.T, d driver.Driver, queues ...string) driver.Consumer {
	t.Helper()
	return consumeWith(t, d, 8, queues...)
}

func consumeWith(t *testing.T, d driver.Driver, concurrency int, queues ...string) driver.Consumer {
	t.Helper()
	c, err := d.Consume(within(t), driver.ConsumerConfig{
		Queues: queues, Concurrency: concurrency, Encoder: wire.JSON{}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeConsumer(t, c) })
	return c
}

func closeConsumer(t *testing.T, c driver.Consumer) {
	t.Helper()
	if err := c.Close(within(t)); err != nil {
		t.Errorf("Consumer.Close = %v", err)
	}
}

// fetch collects exactly n deliveries; errors of an interrupted connection are waited out.
func fetch(t *testing.T, c driver.Consumer, n int) []driver.Delivery {
	t.Helper()
	ctx := within(t)
	var all []driver.Delivery
	for len(all) < n {
		got, err := c.Fetch(ctx, n-len(all))
		if err != nil && (ctx.Err() != nil || errors.Is(err, driver.ErrMisconfigured)) {
			t.Fatalf("Fetch after %d of %d = %v", len(all), n, err)
		}
		all = append(all, got...)
	}
	return all
}

// settle settles the deliveries alike and returns the joined errors.
func settle(t *testing.T, c driver.Consumer, outcome driver.Outcome, deliveries ...driver.Delivery) error {
	t.Helper()
	settlements := make([]driver.Settlement, len(deliveries))
	for i := range deliveries {
		settlements[i] = driver.Settlement{Delivery: &deliveries[i], Outcome: outcome}
	}
	return errors.Join(c.Settle(within(t), settlements)...)
}

func mustSettle(t *testing.T, c driver.Consumer, outcome driver.Outcome, deliveries ...driver.Delivery) {
	t.Helper()
	if err := settle(t, c, outcome, deliveries...); err != nil {
		t.Fatalf("Settle = %v", err)
	}
}

func wantError(t *testing.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s = %v, want an error that wraps %q", what, err, target)
	}
}

func decode(t *testing.T, body []byte) *wire.Envelope {
	t.Helper()
	e, err := wire.JSON{}.Decode(body)
	if err != nil {
		t.Fatalf("body %q: %v", body, err)
	}
	return e
}

func id(t *testing.T, d *driver.Delivery) string {
	t.Helper()
	return decode(t, d.Body).ID
}

// wantIDs checks that the deliveries are those messages, in any order.
func wantIDs(t *testing.T, got []driver.Delivery, want []driver.Message) {
	t.Helper()
	missing := make(map[string]bool)
	for i := range want {
		missing[want[i].Envelope.ID] = true
	}
	for i := range got {
		if id := id(t, &got[i]); missing[id] {
			delete(missing, id)
		} else {
			t.Errorf("delivered twice or never sent: %s", got[i].Body)
		}
	}
	if len(missing) > 0 {
		t.Errorf("%d messages are missing", len(missing))
	}
}
