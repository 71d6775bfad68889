package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

const (
	// longestPenalty bounds the delay of a message whose start was followed by the death of its worker.
	longestPenalty  = time.Minute
	shortestPenalty = time.Second
	// sweepAtOnce is how many dead letters one transaction removes.
	sweepAtOnce = 500
	// garbageAge is how old a file of no known worker must be before it is looked at.
	garbageAge = time.Minute
)

// worker is a row of dramatiq_workers.
type worker struct {
	id, heartbeat, lease int64
	name                 string
}

// sighting is when a heartbeat was first seen as it is, by the clock that nobody sets.
type sighting struct {
	heartbeat int64
	since     time.Time
}

// cleaner recovers the messages of dead workers, and expires dead letters. Each process with a worker has one; whoever
// comes first does the work, in a transaction that is fenced by the row of the dead worker.
type cleaner struct {
	d         *Driver
	sightings map[int64]sighting
	looked    time.Time // when the last look began
	thorough  time.Time // when to look for orphans, expired dead letters and garbage next
}

// clean looks every second, and every quarter of a shorter heartbeat timeout, until ctx ends.
func (d *Driver) clean(ctx context.Context) {
	every := d.lookEvery()
	c := &cleaner{d: d, sightings: map[int64]sighting{}}
	timer := time.NewTimer(rand.N(every/4 + 1)) // a new process is often there because an old one died
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if err := c.look(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, driver.ErrClosed) {
			d.logger().WarnContext(ctx, "recovery was put off", slog.Any("error", err))
		}
		timer.Reset(every*3/4 + rand.N(every/4+1))
	}
}

func (d *Driver) lookEvery() time.Duration { return min(recoveryLookEvery, d.cfg.HeartbeatTimeout/4) }

func (c *cleaner) look(ctx context.Context) error {
	workers, err := c.d.workers(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	if !c.looked.IsZero() && now.Sub(c.looked) > 2*c.d.lookEvery() {
		clear(c.sightings) // we were stopped, or kept from writing as the others may have been
	}
	c.looked = now
	seen := make(map[int64]sighting, len(workers))
	for _, w := range workers {
		s, ok := c.sightings[w.id]
		if !ok || s.heartbeat != w.heartbeat {
			s = sighting{heartbeat: w.heartbeat, since: now}
		}
		seen[w.id] = s
		why, lock := c.verdict(w, s, now)
		if why == "" {
			continue
		}
		err := c.recover(ctx, w, why, lock != nil)
		if err == nil {
			lock.remove()
			if lock != nil {
				_ = os.Remove(filepath.Join(c.d.sender.dir, w.name+sockSuffix)) // may be gone
			}
		} else {
			lock.drop()
			return err
		}
	}
	c.sightings = seen
	if now.Before(c.thorough) {
		return nil
	}
	every := c.d.cfg.HeartbeatTimeout / 4
	c.thorough = now.Add(every*3/4 + rand.N(every/4))
	if err := c.orphans(ctx); err != nil {
		return err
	}
	c.garbage(workers)
	return c.sweep(ctx)
}

// verdict says why a worker is dead, or nothing. A worker whose lock can be taken is dead. One that has been silent for its
// lease by the wall clock is dead too if it was seen silent for a third of it: otherwise a clock that was set, or a machine
// that slept, would kill all workers at once. One that was seen silent for its whole lease is dead whatever its clock says.
func (c *cleaner) verdict(w worker, s sighting, now time.Time) (string, *lockFile) {
	if lock := takeLock(filepath.Join(c.d.dir, w.name+lockSuffix)); lock != nil {
		return "its process is gone", lock
	}
	lease := time.Duration(w.lease) * time.Millisecond
	silent := now.Sub(s.since)
	if silent > lease || now.UnixMilli()-w.heartbeat > w.lease && silent >= lease/3 {
		return "its lease ran out", nil
	}
	return "", nil
}

func (d *Driver) workers(ctx context.Context) (workers []worker, err error) {
	rows, err := d.readDB.QueryContext(ctx, "SELECT id, heartbeat, lease, name FROM dramatiq_workers")
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, rows.Close())
	}()
	for rows.Next() {
		var w worker
		if err := rows.Scan(&w.id, &w.heartbeat, &w.lease, &w.name); err != nil {
			return nil, err
		}
		workers = append(workers, w)
	}
	return workers, rows.Err()
}

// recover unclaims everything that a dead worker held, if its heartbeat is still the one that was judged. When somebody has
// kept the file from being written meanwhile, a worker that is not gone for sure gets the time to renew its lease.
func (c *cleaner) recover(ctx context.Context, w worker, why string, sure bool) error {
	var messages int64
	judged := time.Now()
	err := c.d.writer.do(ctx, &op{count: 1, durable: true, wakes: true, run: func(tx *conn) error {
		messages = 0
		if !sure && time.Since(judged) > c.d.lookEvery() {
			return nil
		}
		n, err := tx.exec("DELETE FROM dramatiq_workers WHERE id = ? AND heartbeat = ?", w.id, w.heartbeat)
		if err != nil || n == 0 {
			return err
		}
		messages, err = c.unclaim(tx, w.id)
		return err
	}})
	if err == nil && messages > 0 {
		c.d.logger().WarnContext(ctx, "recovered the messages of a dead worker", slog.String("reason", why),
			slog.Int64("messages", messages), slog.String("worker", w.name))
	}
	return err
}

// unclaim gives back what a dead worker held, to its place. Everything becomes a suspect; what had a recorded start has
// crashed its worker once more, and comes back after a delay that doubles each time.
func (c *cleaner) unclaim(tx *conn, owner int64) (int64, error) {
	now := time.Now().UnixMilli()
	longest := min(longestPenalty, c.d.cfg.HeartbeatTimeout).Milliseconds()
	first := min(shortestPenalty.Milliseconds(), longest)
	return tx.exec(`UPDATE dramatiq_messages SET
			owner = NULL, suspect = 1, started = 0, crashes = crashes + started,
			due = CASE WHEN started THEN ?1 + min(?2 << min(crashes, 16), ?3) ELSE due END
		WHERE owner = ?4`, now, first, longest, owner)
}

// orphans recovers what is claimed by workers without a row, which somebody deleted.
func (c *cleaner) orphans(ctx context.Context) error {
	const find = `SELECT DISTINCT owner FROM dramatiq_messages
		WHERE owner IS NOT NULL AND owner NOT IN (SELECT id FROM dramatiq_workers)`
	var found bool
	err := c.d.readDB.QueryRowContext(ctx, "SELECT EXISTS ("+find+")").Scan(&found)
	if err != nil || !found {
		return err
	}
	return c.d.writer.do(ctx, &op{count: 1, durable: true, wakes: true, run: func(tx *conn) error {
		var owners []int64
		err := tx.query(find, func(rows *sql.Rows) error {
			var id int64
			err := rows.Scan(&id)
			owners = append(owners, id)
			return err
		})
		for _, id := range owners {
			if err == nil {
				_, err = c.unclaim(tx, id)
			}
		}
		return err
	}})
}

// sweep removes expired dead letters, a batch at a time.
func (c *cleaner) sweep(ctx context.Context) error {
	before := time.Now().Add(-c.d.cfg.DeadTTL).UnixMilli()
	for {
		var found bool
		err := c.d.readDB.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM dramatiq_dead WHERE died < ?)", before).Scan(&found)
		if err != nil || !found {
			return err
		}
		err = c.d.writer.do(ctx, &op{bulk: true, count: sweepAtOnce, run: func(tx *conn) error {
			_, err := tx.exec(`DELETE FROM dramatiq_dead WHERE id IN (
				SELECT id FROM dramatiq_dead WHERE died < ? ORDER BY died LIMIT ?)`, before, sweepAtOnce)
			return err
		}})
		if err != nil {
			return err
		}
	}
}

// garbage removes the files of processes that died before they had a row, or whose row is gone.
func (c *cleaner) garbage(workers []worker) {
	known := make(map[string]bool, len(workers))
	for _, w := range workers {
		known[w.name] = true
	}
	entries, err := os.ReadDir(c.d.dir)
	if err != nil {
		return // there is none
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), lockSuffix)
		info, err := e.Info()
		if !ok || known[name] || err != nil || time.Since(info.ModTime()) < garbageAge {
			continue
		}
		if lock := takeLock(filepath.Join(c.d.dir, e.Name())); lock != nil {
			lock.remove()
			_ = os.Remove(filepath.Join(c.d.sender.dir, name+sockSuffix)) // may be gone
		}
	}
}
