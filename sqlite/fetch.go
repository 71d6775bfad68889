package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

const (
	// promoteAtOnce is how many messages of a queue one claim moves from delayed to ready.
	promoteAtOnce = 1000
	// longestNap bounds the wait for a delayed message, for clocks that were set while we slept.
	longestNap = 10 * time.Second
	// never is the due time of a message that does not exist.
	never = int64(1) << 62
)

// Fetch claims up to limit messages. While nothing is due it sleeps until a commit or the time of the next delayed message.
func (c *consumer) Fetch(ctx context.Context, limit int) ([]driver.Delivery, error) {
	if limit <= 0 {
		return nil, nil
	}
	timer := time.NewTimer(longestNap)
	defer timer.Stop()
	for {
		if err := ctx.Err(); err != nil {
			c.signal() // for another Fetch, if we took its signal
			return nil, fmt.Errorf("sqlite: fetch: %w", err)
		}
		if c.isClosed() {
			return nil, errClosed
		}
		ready, next, err := c.d.read.peek(ctx, c.asJSON)
		if err != nil {
			return nil, fmt.Errorf("sqlite: fetch: %w", explain(err))
		}
		now := time.Now().UnixMilli()
		if ready || next <= now {
			deliveries, err := c.claimSome(ctx, limit, next <= now)
			if err != nil {
				c.signal()
				return nil, fmt.Errorf("sqlite: fetch: %w", err)
			}
			if len(deliveries) == limit {
				c.signal() // there may be more for another Fetch
			}
			if len(deliveries) > 0 {
				return deliveries, nil
			}
			continue // others were faster
		}
		timer.Reset(min(longestNap, time.Duration(min(next-now, longestNap.Milliseconds()))*time.Millisecond))
		select {
		case <-ctx.Done():
		case <-c.done:
		case <-c.wake:
		case <-timer.C:
		}
	}
}

// claimed is a row that was claimed.
type claimed struct {
	id, place, number, priority, crashes int64
	suspect                              bool
	queue                                string
	body                                 []byte
}

// claimSome claims what is ready, after making ready what has become due if promote is set.
func (c *consumer) claimSome(ctx context.Context, limit int, promote bool) ([]driver.Delivery, error) {
	var rows []claimed
	var owner, before int64
	var deliveries []driver.Delivery
	c.mu.Lock()
	c.tried = true
	c.mu.Unlock()
	now := time.Now().UnixMilli()
	o := &op{count: min(limit, batchCount)}
	o.claim = func(tx *conn) (err error) {
		rows = rows[:0]
		if owner, before, err = c.ownerFor(tx, now); err != nil {
			return err
		}
		if promote {
			if err := c.promote(tx, now); err != nil {
				return err
			}
		}
		rows, err = c.claimRows(tx, owner, limit)
		return err
	}
	o.after = func() {
		if before != owner && before != 0 {
			c.renewedAt(before, now, false)
		}
		deliveries = c.hold(owner, now, rows)
	}
	err := c.d.writer.do(ctx, o)
	if errors.Is(err, driver.ErrMaybeStored) {
		c.mu.Lock()
		c.unsure = true
		c.mu.Unlock()
	}
	return deliveries, err
}

// ownerFor returns the row that claims belong to: ours, or a new one when we have none any more. It also hands back what
// we hold without knowing.
func (c *consumer) ownerFor(tx *conn, now int64) (owner, before int64, err error) {
	c.mu.Lock()
	before = c.owner
	closed, unsure := c.closed, c.unsure
	age := now - c.renewed
	known := slices.Collect(maps.Keys(c.held))
	c.mu.Unlock()
	if closed {
		return 0, before, driver.ErrClosed
	}
	if before != 0 {
		var alive bool
		if eighth := c.d.cfg.HeartbeatTimeout.Milliseconds() / 8; age < 0 || age > eighth {
			alive, err = renew(tx, before, now)
		} else {
			err = tx.row("SELECT EXISTS (SELECT 1 FROM dramatiq_workers WHERE id = ?)", []any{before}, &alive)
		}
		if err != nil {
			return 0, before, err
		}
		if alive {
			if unsure {
				err = c.handBackUnknown(tx, before, known)
			}
			return before, before, err
		}
	}
	owner, err = c.register(tx, now)
	return owner, before, err
}

// handBackUnknown unclaims what a commit without an answer may have claimed.
func (c *consumer) handBackUnknown(tx *conn, owner int64, known []int64) error {
	list, err := json.Marshal(append([]int64{}, known...))
	if err != nil {
		return err
	}
	_, err = tx.exec(`UPDATE dramatiq_messages SET owner = NULL
		WHERE owner = ? AND id NOT IN (SELECT value FROM json_each(?))`, owner, string(list))
	return err
}

// promote makes ready what has become due: in the order of the due times, behind what is ready already.
func (c *consumer) promote(tx *conn, now int64) error {
	for _, queue := range c.queues {
		n, err := tx.exec(`UPDATE dramatiq_messages
			SET due = 0, place = d.rank + (SELECT seq FROM sqlite_sequence WHERE name = 'dramatiq_messages')
			FROM (SELECT id, row_number() OVER (ORDER BY due, ifnull(place, id)) AS rank FROM (
				SELECT id, due, place FROM dramatiq_messages INDEXED BY dramatiq_delayed
				WHERE queue = ? AND owner IS NULL AND due > 0 AND due <= ? ORDER BY due LIMIT ?)) AS d
			WHERE dramatiq_messages.id = d.id`, queue, now, promoteAtOnce)
		if err != nil {
			return err
		}
		if n > 0 {
			_, err := tx.exec("UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'dramatiq_messages'", n)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// claimRows claims up to limit messages: in rounds over the queues, an equal share of what is left from each, until all
// are empty. Each call starts with another queue. The result alternates between the queues.
func (c *consumer) claimRows(tx *conn, owner int64, limit int) ([]claimed, error) {
	perQueue := make([][]claimed, len(c.queues))
	active := make([]int, 0, len(c.queues))
	for i := range c.queues {
		active = append(active, (i+c.turn)%len(c.queues))
	}
	c.turn = (c.turn + 1) % len(c.queues) // the writer's goroutine alone gets here
	for left := limit; left > 0 && len(active) > 0; {
		share := max(1, left/len(active))
		still := active[:0]
		for _, q := range active {
			want := min(share, left)
			if want == 0 {
				break
			}
			n := len(perQueue[q])
			rows, err := claimQueue(tx, owner, c.queues[q], want, perQueue[q])
			if err != nil {
				return nil, err
			}
			perQueue[q] = rows
			got := len(rows) - n
			left -= got
			if got == want {
				still = append(still, q)
			}
		}
		active = still
	}
	return alternate(perQueue), nil
}

// claimQueue appends up to n newly claimed messages of a queue, in its order.
func claimQueue(tx *conn, owner int64, queue string, n int, rows []claimed) ([]claimed, error) {
	first := len(rows)
	err := tx.query(`UPDATE dramatiq_messages SET owner = ?, claim = claim + 1 WHERE id IN (
		SELECT id FROM dramatiq_messages INDEXED BY dramatiq_ready WHERE queue = ? AND owner IS NULL AND due = 0
		ORDER BY priority DESC, ifnull(place, id) LIMIT ?)
		RETURNING id, ifnull(place, id), claim, priority, suspect, crashes, body`, func(r *sql.Rows) error {
		row := claimed{queue: queue}
		rows = append(rows, row)
		last := &rows[len(rows)-1]
		return r.Scan(&last.id, &last.place, &last.number, &last.priority, &last.suspect, &last.crashes, &last.body)
	}, owner, queue, n)
	slices.SortFunc(rows[first:], func(a, b claimed) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.place, b.place))
	})
	return rows, err
}

// alternate merges the lists, taking one of each in turn.
func alternate(lists [][]claimed) []claimed {
	if len(lists) == 1 {
		return lists[0]
	}
	var out []claimed
	for i := 0; ; i++ {
		before := len(out)
		for _, l := range lists {
			if i < len(l) {
				out = append(out, l[i])
			}
		}
		if len(out) == before {
			return out
		}
	}
}

// hold notes new claims and turns them into deliveries.
func (c *consumer) hold(owner, now int64, rows []claimed) []driver.Delivery {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.owner != owner { // registered in this transaction
		c.owner, c.renewed = owner, now
	}
	if age := now - c.renewed; age < 0 || age > c.d.cfg.HeartbeatTimeout.Milliseconds()/8 {
		c.renewed = now // by ownerFor
	}
	c.unsure = false
	deliveries := make([]driver.Delivery, 0, len(rows))
	for i := range rows {
		r := &rows[i]
		cl := &claim{consumer: c, id: r.id, owner: owner, number: r.number, suspect: r.suspect}
		c.held[r.id] = cl
		deliveries = append(deliveries, driver.Delivery{
			Queue: r.queue, Body: r.body, Redelivered: r.number > 1, Suspect: r.suspect, Crashes: int(r.crashes), Claim: cl,
		})
	}
	return deliveries
}
