package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// readPatience bounds the retries of a read: readers wait for nobody in WAL mode, except for a process that repairs the
// file after a crash.
const readPatience = 5 * time.Second

// readStmts are the prepared statements of the readers' pool. They run to their end, as those of conn do.
type readStmts struct {
	peekStmt *sql.Stmt
}

// peekQuery tells whether a message is ready in one of the queues of a JSON array, and when the next delayed one is due.
// The indexes are named here and where messages are claimed, lest an ANALYZE at a bad time talks SQLite into reading a
// million delayed messages.
const peekQuery = `SELECT
	coalesce(max(EXISTS (SELECT 1 FROM dramatiq_messages INDEXED BY dramatiq_ready
		WHERE queue = q.value AND owner IS NULL AND due = 0)), 0),
	min((SELECT min(due) FROM dramatiq_messages INDEXED BY dramatiq_delayed
		WHERE queue = q.value AND owner IS NULL AND due > 0))
	FROM json_each(?) AS q`

func prepareReads(ctx context.Context, db *sql.DB) (*readStmts, error) {
	peek, err := db.PrepareContext(ctx, peekQuery)
	if err != nil {
		return nil, err
	}
	return &readStmts{peekStmt: peek}, nil
}

func (r *readStmts) close() error {
	return r.peekStmt.Close()
}

// peek returns whether something is ready, and when the next delayed message is due, or never.
func (r *readStmts) peek(ctx context.Context, queues string) (ready bool, next int64, err error) {
	ctx = context.WithoutCancel(ctx)
	var due sql.NullInt64
	err = retryBusy(ctx, readPatience, func() error {
		return r.peekStmt.QueryRowContext(ctx, queues).Scan(&ready, &due)
	})
	if !due.Valid {
		return ready, never, err
	}
	return ready, due.Int64, err
}

// watch wakes the workers of this process when data_version says that another connection has committed. It is read on a
// connection of its own, because it means something only in comparison with an earlier value on the same one.
func (d *Driver) watch(ctx context.Context) {
	every := d.cfg.PollInterval
	if every == 0 {
		every = defaultPoll
		if !d.hears() {
			every = defaultPollDeaf
		}
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var c *conn
	defer func() {
		if c != nil {
			c.discard()
		}
	}()
	seen := int64(-1)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		version, err := dataVersion(ctx, &c, d.readDB)
		switch {
		case errors.Is(err, sql.ErrConnDone), code(err) == codeIO, code(err) == codeCorrupt, code(err) == codeNotADB:
			c.discard()
			c = nil
		case err == nil && version != seen:
			seen = version
			d.wakeLocal()
		}
	}
}

func dataVersion(ctx context.Context, c **conn, db *sql.DB) (version int64, err error) {
	if *c == nil {
		if *c, err = newConn(ctx, db); err != nil {
			return 0, err
		}
	}
	err = (*c).row("PRAGMA data_version", nil, &version)
	return version, err
}

// hears reports whether all consumers of this process have sockets, so that others can wake them.
func (d *Driver) hears() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.consumers {
		if c.sock == nil {
			return false
		}
	}
	return true
}
