package sqlite

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

// doubtful reports whether the lease may have run out without our noticing. It goes by the wall clock, because the
// monotonic one stands still while a machine sleeps. The caller holds c.mu.
func (c *consumer) doubtful(now int64) bool {
	age := now - c.renewed
	return age < 0 || age > c.d.cfg.HeartbeatTimeout.Milliseconds()/3
}

// renew extends a worker's lease; false means that the worker has been taken for dead.
func renew(tx *conn, owner, now int64) (bool, error) {
	n, err := tx.exec("UPDATE dramatiq_workers SET heartbeat = ? WHERE id = ?", now, owner)
	return n == 1, err
}

// register gives the consumer a row.
func (c *consumer) register(tx *conn, now int64) (owner int64, err error) {
	host, _ := os.Hostname() // for people, who can do without
	err = tx.row(`INSERT INTO dramatiq_workers (name, heartbeat, lease, pid, host) VALUES (?, ?, ?, ?, ?) RETURNING id`,
		[]any{c.name, now, c.d.cfg.HeartbeatTimeout.Milliseconds(), int64(os.Getpid()), host}, &owner)
	return owner, err
}

// renewedAt notes the outcome of a renewal: another lease, or the loss of all claims.
func (c *consumer) renewedAt(owner, now int64, alive bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.owner != owner {
		return
	}
	if alive {
		c.renewed = now
		return
	}
	lost := len(c.held)
	c.owner = 0
	clear(c.held)
	c.log.Warn("this worker was taken for dead and has lost its claims", slog.Int("claims", lost),
		slog.Duration("silent", time.Duration(now-c.renewed)*time.Millisecond))
}

// heartbeat renews the lease until the consumer is closed, whether or not anybody calls it.
func (c *consumer) heartbeat(ctx context.Context) {
	every := c.d.cfg.HeartbeatTimeout / 4
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := c.renewOnce(ctx)
		next := every*3/4 + rand.N(every/4)
		if err != nil && ctx.Err() == nil {
			if errors.Is(err, driver.ErrClosed) {
				return
			}
			c.log.WarnContext(ctx, "the lease could not be renewed", slog.Any("error", err))
			next = min(next, max(every/4, 50*time.Millisecond))
		}
		timer.Reset(next)
	}
}

func (c *consumer) renewOnce(ctx context.Context) error {
	c.mu.Lock()
	owner := c.owner
	c.mu.Unlock()
	if owner == 0 {
		return nil
	}
	var alive bool
	now := time.Now().UnixMilli()
	return c.d.writer.do(ctx, &op{
		count: 1,
		run: func(tx *conn) (err error) {
			alive, err = renew(tx, owner, now)
			return err
		},
		after: func() { c.renewedAt(owner, now, alive) },
	})
}
