package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

// Stats counts what is stored in a queue. It reads one index entry a message: some 10 ms for a million.
func (d *Driver) Stats(ctx context.Context, queue string) (driver.Stats, error) {
	var s driver.Stats
	if d.isClosed() {
		return s, errClosed
	}
	err := d.readDB.QueryRowContext(ctx, `SELECT
		(SELECT count(*) FROM dramatiq_messages WHERE queue = ?1 AND owner IS NULL AND due = 0) +
		(SELECT count(*) FROM dramatiq_messages WHERE queue = ?1 AND owner IS NULL AND due > 0 AND due <= ?2),
		(SELECT count(*) FROM dramatiq_messages WHERE queue = ?1 AND owner IS NULL AND due > ?2 AND due > 0),
		(SELECT count(*) FROM dramatiq_messages WHERE queue = ?1 AND owner IS NOT NULL),
		(SELECT count(*) FROM dramatiq_dead WHERE queue = ?1)`,
		queue, time.Now().UnixMilli()).Scan(&s.Waiting, &s.Delayed, &s.Claimed, &s.Dead)
	if err != nil {
		return driver.Stats{}, fmt.Errorf("sqlite: count queue %q: %w", queue, explain(err))
	}
	return s, nil
}

// DeadLetters returns dead letters in the order in which they died.
func (d *Driver) DeadLetters(ctx context.Context, queue, after string, limit int) (letters []driver.DeadLetter, err error) {
	if d.isClosed() {
		return nil, errClosed
	}
	var from int64
	if after != "" {
		if from, err = strconv.ParseInt(after, 10, 64); err != nil {
			return nil, fmt.Errorf("sqlite: list dead letters: %q is not the id of one", after)
		}
	}
	if limit <= 0 {
		return nil, nil
	}
	rows, err := d.readDB.QueryContext(ctx, `SELECT id, died, reason, detail, body FROM dramatiq_dead
		WHERE queue = ? AND id > ? ORDER BY id LIMIT ?`, queue, from, limit)
	if err != nil {
		return nil, fmt.Errorf("sqlite: list dead letters: %w", explain(err))
	}
	defer func() {
		err = errors.Join(err, rows.Close())
	}()
	for rows.Next() {
		var id, died int64
		l := driver.DeadLetter{Queue: queue}
		if err := rows.Scan(&id, &died, &l.Death.Reason, &l.Death.Detail, &l.Body); err != nil {
			return nil, fmt.Errorf("sqlite: list dead letters: %w", err)
		}
		l.ID = strconv.FormatInt(id, 10)
		l.Died = time.UnixMilli(died)
		letters = append(letters, l)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("sqlite: list dead letters: %w", explain(err))
	}
	return letters, nil
}

func (d *Driver) isClosed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed
}
