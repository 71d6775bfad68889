package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

// insertion is a new row of dramatiq_messages.
type insertion struct {
	queue    string
	priority uint8
	due      int64
	body     []byte
}

// encode makes a row of a message.
func encode(m *driver.Message, now time.Time) (insertion, error) {
	if m.Envelope == nil || m.Encoder == nil {
		return insertion{}, errors.New("the message has no envelope or no encoder")
	}
	body, err := m.Append(nil)
	if err != nil {
		return insertion{}, fmt.Errorf("encode a message for queue %q: %w", m.Envelope.Queue, err)
	}
	return insertion{queue: m.Envelope.Queue, priority: m.Priority, due: dueMillis(m.Due, now), body: body}, nil
}

// dueMillis returns 0 for what is due, and otherwise the time in milliseconds, rounded up so that nothing comes early.
func dueMillis(due, now time.Time) int64 {
	if due.IsZero() || !due.After(now) {
		return 0
	}
	return due.Add(time.Millisecond - 1).UnixMilli()
}

// Enqueue stores the messages, in transactions of up to 512 messages or 1 MiB that concurrent calls share. A message that
// cannot be encoded fails alone. What was not stored when ctx ended has its error; where the commit was under way and gave
// no answer within another second, the error wraps driver.ErrMaybeStored.
func (d *Driver) Enqueue(ctx context.Context, messages []driver.Message) []error {
	if err := ctx.Err(); err != nil {
		return failed(fmt.Errorf("sqlite: enqueue: %w", err), len(messages))
	}
	var errs errorList
	var ops []*op
	var members [][]int // the messages of each operation
	now := time.Now()
	for i := range messages {
		row, err := encode(&messages[i], now)
		if err != nil {
			errs.set(i, len(messages), fmt.Errorf("sqlite: enqueue: %w", err))
			continue
		}
		last := len(ops) - 1
		if last < 0 || ops[last].count >= batchCount || ops[last].size+len(row.body) > batchBytes {
			ops = append(ops, &op{bulk: true, durable: true, wakes: true})
			members = append(members, nil)
			last++
		}
		ops[last].inserts = append(ops[last].inserts, row)
		ops[last].count++
		ops[last].size += len(row.body)
		members[last] = append(members[last], i)
	}
	for _, o := range ops {
		d.writer.submit(o)
	}
	for n, o := range ops {
		if err := d.writer.wait(ctx, o); err != nil {
			err = fmt.Errorf("sqlite: enqueue: %w", err)
			for _, i := range members[n] {
				errs.set(i, len(messages), err)
			}
		}
	}
	return errs
}

// errorList is nil until the first error.
type errorList []error

func (l *errorList) set(i, n int, err error) {
	if *l == nil {
		*l = make([]error, n)
	}
	(*l)[i] = err
}

func failed(err error, n int) []error {
	if n == 0 {
		return nil
	}
	return driver.Failed(err, n)
}

// The sizes of statements that insert many rows: few, because each is prepared, and large, because each call costs.
const (
	insertMany = 50
	insertSome = 8
)

func insertStatement(rows int) string {
	const head = "INSERT INTO dramatiq_messages (queue, priority, due, body) VALUES (?,?,?,?)"
	return head + strings.Repeat(",(?,?,?,?)", rows-1)
}

// insertAll adds the rows in their order.
func insertAll(c *conn, rows []insertion) error {
	var buf [insertMany * 4]any
	for len(rows) > 0 {
		n := 1
		query := c.inserts[0]
		switch {
		case len(rows) >= insertMany:
			n, query = insertMany, c.inserts[2]
		case len(rows) >= insertSome:
			n, query = insertSome, c.inserts[1]
		}
		args := buf[:0]
		for i := range n {
			r := &rows[i]
			args = append(args, r.queue, int64(r.priority), r.due, r.body)
		}
		if _, err := c.exec(query, args...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}
