package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/wire"
)

const testPatience = 30 * time.Second

func newMessage(queue, id string) driver.Message {
	return driver.Message{
		Envelope: &wire.Envelope{
			Queue: queue, Actor: "actor", Args: json.RawMessage("[1]"), ID: id, Timestamp: time.Now().UnixMilli(),
		},
		Encoder: wire.JSON{},
	}
}

func newMessages(n int) []driver.Message {
	messages := make([]driver.Message, n)
	for i := range messages {
		messages[i] = newMessage("default", fmt.Sprintf("default-%d", i))
	}
	return messages
}

// idOf returns the id of a delivery's message.
func idOf(tb testing.TB, d *driver.Delivery) string {
	tb.Helper()
	e, err := wire.JSON{}.Decode(d.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return e.ID
}

func testContext(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	tb.Cleanup(cancel)
	return ctx
}

// openTest opens a driver that is closed when the test ends. An empty path stands for a new file.
func openTest(tb testing.TB, cfg Config) *Driver {
	tb.Helper()
	if cfg.Path == "" {
		cfg.Path = filepath.Join(tb.TempDir(), "test.db")
	}
	d, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return d
}

func consumeTest(tb testing.TB, d *Driver, queues ...string) *consumer {
	tb.Helper()
	got, err := d.Consume(context.Background(), driver.ConsumerConfig{
		Queues: queues, Concurrency: 8, Encoder: wire.JSON{},
		Logger: slog.New(slog.NewTextHandler(testWriter{tb}, nil)),
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := got.Close(context.Background()); err != nil && !errors.Is(err, driver.ErrClosed) {
			tb.Error(err)
		}
	})
	return got.(*consumer)
}

type testWriter struct{ tb testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.tb.Log(string(bytes.TrimSpace(p)))
	return len(p), nil
}

func enqueueTest(tb testing.TB, e driver.Enqueuer, messages ...driver.Message) {
	tb.Helper()
	if errs := e.Enqueue(testContext(tb), messages); errs != nil {
		tb.Fatal(errors.Join(errs...))
	}
}

func fetchTest(tb testing.TB, c driver.Consumer, n int) []driver.Delivery {
	tb.Helper()
	ctx := testContext(tb)
	var all []driver.Delivery
	for len(all) < n {
		got, err := c.Fetch(ctx, n-len(all))
		if err != nil {
			tb.Fatalf("after %d of %d deliveries: %v", len(all), n, err)
		}
		all = append(all, got...)
	}
	return all
}

func settleTest(tb testing.TB, c driver.Consumer, outcome driver.Outcome, deliveries ...driver.Delivery) {
	tb.Helper()
	settlements := make([]driver.Settlement, len(deliveries))
	for i := range deliveries {
		settlements[i] = driver.Settlement{Delivery: &deliveries[i], Outcome: outcome}
	}
	if errs := c.Settle(testContext(tb), settlements); errs != nil {
		tb.Fatal(errors.Join(errs...))
	}
}

func wantStats(tb testing.TB, d *Driver, queue string, want driver.Stats) {
	tb.Helper()
	got, err := d.Stats(testContext(tb), queue)
	if err != nil || got != want {
		tb.Errorf("Stats(%q) = %+v, %v, want %+v", queue, got, err, want)
	}
}

// openForeign opens a file as a user's own program does.
func openForeign(tb testing.TB, path string) *sql.DB {
	tb.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(10000)")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db
}

// eventually waits until f is true.
func eventually(tb testing.TB, what string, f func() bool) {
	tb.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(testPatience)
	for !f() {
		select {
		case <-ticker.C:
		case <-deadline:
			tb.Fatalf("%s: not within %v", what, testPatience)
		}
	}
}
