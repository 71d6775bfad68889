package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

// claim is the Claim of a driver.Delivery: owner and number together are valid only while the row has them.
type claim struct {
	consumer *consumer
	id       int64 // of the message
	owner    int64 // the worker's row
	number   int64 // how often the message had been claimed
	suspect  bool
	begun    bool // guarded by consumer.mu
}

// settling is one settlement on its way into a transaction.
type settling struct {
	claim     *claim
	outcome   driver.Outcome
	followUps []insertion
	death     driver.Death
	err       error
}

// Settle ends claims, each together with its follow-ups, in transactions that concurrent calls share.
func (c *consumer) Settle(ctx context.Context, settlements []driver.Settlement) []error {
	if err := ctx.Err(); err != nil {
		return failed(fmt.Errorf("sqlite: settle: %w", err), len(settlements))
	}
	if c.isClosed() {
		return failed(errClosed, len(settlements))
	}
	var errs errorList
	var ops []*op
	var members [][]int
	now := time.Now()
	for i := range settlements {
		s, size, err := c.settling(&settlements[i], now)
		if err != nil {
			errs.set(i, len(settlements), err)
			continue
		}
		count := 1 + len(s.followUps)
		last := len(ops) - 1
		if last < 0 || ops[last].count+count > batchCount || ops[last].size+size > batchBytes {
			ops = append(ops, &op{durable: true})
			members = append(members, nil)
			last++
		}
		o := ops[last]
		o.settles = append(o.settles, s)
		o.count += count
		o.size += size
		o.wakes = o.wakes || len(s.followUps) > 0 || s.outcome == driver.Requeue
		members[last] = append(members[last], i)
	}
	for _, o := range ops {
		o.after = func() { forgetAll(o.settles) }
		c.d.writer.submit(o)
	}
	for n, o := range ops {
		err := c.d.writer.wait(ctx, o)
		for k, i := range members[n] {
			each := err
			if each == nil {
				each = o.settles[k].err
			}
			if each != nil {
				errs.set(i, len(settlements), fmt.Errorf("sqlite: settle: %w", each))
			}
		}
	}
	return errs
}

func (c *consumer) settling(s *driver.Settlement, now time.Time) (*settling, int, error) {
	if s.Delivery == nil {
		return nil, 0, fmt.Errorf("sqlite: settle: no delivery")
	}
	cl, ok := s.Delivery.Claim.(*claim)
	if !ok || cl.consumer != c {
		return nil, 0, fmt.Errorf("sqlite: settle: the delivery is not one of this consumer")
	}
	if s.Outcome > driver.Requeue {
		return nil, 0, fmt.Errorf("sqlite: settle: unknown outcome %d", s.Outcome)
	}
	out := &settling{claim: cl, outcome: s.Outcome, death: s.Death}
	size := len(s.Death.Body)
	for i := range s.FollowUps {
		row, err := encode(&s.FollowUps[i], now)
		if err != nil {
			return nil, 0, fmt.Errorf("sqlite: settle: follow-up %d: %w", i+1, err)
		}
		size += len(row.body)
		out.followUps = append(out.followUps, row)
	}
	return out, size, nil
}

// forgetAll drops settled and lost claims from what their consumers hold.
func forgetAll(settles []*settling) {
	for _, s := range settles {
		c := s.claim.consumer
		c.mu.Lock()
		if c.held[s.claim.id] == s.claim {
			delete(c.held, s.claim.id)
		}
		c.mu.Unlock()
	}
}

// settleAll settles what is still held and marks the rest with ErrNotHeld.
func settleAll(c *conn, settles []*settling) error {
	if len(settles) == 0 {
		return nil
	}
	if err := checkHeld(c, settles); err != nil {
		return err
	}
	var gone, back idList
	now := time.Now().UnixMilli()
	for _, s := range settles {
		if s.err != nil {
			continue
		}
		switch s.outcome {
		case driver.Requeue:
			back.add(s.claim.id)
		case driver.Reject:
			if err := bury(c, s, now); err != nil {
				return err
			}
			gone.add(s.claim.id)
		default:
			gone.add(s.claim.id)
		}
	}
	if gone.n > 0 {
		if err := gone.exec(c, "DELETE FROM dramatiq_messages WHERE id "); err != nil {
			return err
		}
	}
	if back.n > 0 {
		return back.exec(c, "UPDATE dramatiq_messages SET owner = NULL, started = 0 WHERE id ")
	}
	return nil
}

// checkHeld sets the err of each settlement: nil for the first one of a claim that its worker holds.
func checkHeld(c *conn, settles []*settling) error {
	type key struct{ owner, number int64 }
	held := make(map[int64]key, len(settles))
	var ids idList
	for _, s := range settles {
		ids.add(s.claim.id)
	}
	query, arg := ids.where("SELECT id, owner, claim FROM dramatiq_messages WHERE owner IS NOT NULL AND id ")
	err := c.query(query, func(rows *sql.Rows) error {
		var id int64
		var k key
		if err := rows.Scan(&id, &k.owner, &k.number); err != nil {
			return err
		}
		held[id] = k
		return nil
	}, arg)
	if err != nil {
		return err
	}
	for _, s := range settles {
		s.err = nil
		if k, ok := held[s.claim.id]; !ok || k.owner != s.claim.owner || k.number != s.claim.number {
			s.err = driver.ErrNotHeld
			continue
		}
		delete(held, s.claim.id) // a second settlement of the same claim comes too late
	}
	return nil
}

// bury copies a message to the dead letters.
func bury(c *conn, s *settling, now int64) error {
	var body any
	if s.death.Body != nil {
		body = s.death.Body
	}
	_, err := c.exec(`INSERT INTO dramatiq_dead (queue, died, reason, detail, body)
		SELECT queue, ?, ?, ?, coalesce(?, body) FROM dramatiq_messages WHERE id = ?`,
		now, s.death.Reason, s.death.Detail, body, s.claim.id)
	return err
}

// idList collects message ids for one statement.
type idList struct {
	n     int
	first int64
	json  []byte
}

func (l *idList) add(id int64) {
	if l.n == 0 {
		l.first = id
		l.json = append(l.json, '[')
	} else {
		l.json = append(l.json, ',')
	}
	l.json = strconv.AppendInt(l.json, id, 10)
	l.n++
}

// where completes a statement that ends in "WHERE id " and returns its argument.
func (l *idList) where(query string) (string, any) {
	if l.n == 1 {
		return query + "= ?", l.first
	}
	return query + "IN (SELECT value FROM json_each(?))", string(l.json) + "]"
}

func (l *idList) exec(c *conn, query string) error {
	query, arg := l.where(query)
	_, err := c.exec(query, arg)
	return err
}
