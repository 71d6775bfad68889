package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"time"
)

// conn is one physical connection with its prepared statements. It is not safe for concurrent use. Its calls take no
// context: they last as long as SQLite needs, and a context that can be cancelled would cost a goroutine each.
type conn struct {
	ctx     context.Context // is never cancelled
	c       *sql.Conn
	stmts   map[string]*sql.Stmt
	inserts [3]string // for 1, insertSome and insertMany rows
}

func newConn(ctx context.Context, db *sql.DB) (*conn, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{
		ctx:     context.WithoutCancel(ctx),
		c:       c,
		stmts:   map[string]*sql.Stmt{},
		inserts: [3]string{insertStatement(1), insertStatement(insertSome), insertStatement(insertMany)},
	}, nil
}

func (c *conn) stmt(query string) (*sql.Stmt, error) {
	if s := c.stmts[query]; s != nil {
		return s, nil
	}
	s, err := c.c.PrepareContext(c.ctx, query)
	if err != nil {
		return nil, err
	}
	c.stmts[query] = s
	return s, nil
}

// exec runs a statement that is prepared once, and returns how many rows it changed.
func (c *conn) exec(query string, args ...any) (int64, error) {
	s, err := c.stmt(query) //nolint:sqlclosecheck // it is kept for the next time
	if err != nil {
		return 0, err
	}
	r, err := s.ExecContext(c.ctx, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// execOnce runs a statement without preparing it for later, as some pragmas need.
func (c *conn) execOnce(query string) error {
	_, err := c.c.ExecContext(c.ctx, query)
	return err
}

// query calls scan for every row.
func (c *conn) query(query string, scan func(*sql.Rows) error, args ...any) (err error) {
	s, err := c.stmt(query) //nolint:sqlclosecheck // it is kept for the next time
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(c.ctx, args...)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, rows.Close())
	}()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// row scans the first row; it returns sql.ErrNoRows when there is none.
func (c *conn) row(query string, args []any, dest ...any) error {
	s, err := c.stmt(query) //nolint:sqlclosecheck // it is kept for the next time
	if err != nil {
		return err
	}
	return s.QueryRowContext(c.ctx, args...).Scan(dest...)
}

// discard closes the connection for good instead of returning it to its pool.
func (c *conn) discard() {
	for _, s := range c.stmts {
		_ = s.Close() // the connection goes with it
	}
	_ = c.c.Raw(func(any) error { return driver.ErrBadConn })
	_ = c.c.Close()
}

// dsn returns the name under which package modernc.org/sqlite opens path. SQLite's own wait for locks is off: it sleeps in
// steps of up to 100 ms, which starves a worker beside a busy producer for half a second.
func dsn(path string, pragmas ...string) string {
	slashed := filepath.ToSlash(path)
	if slashed[0] != '/' {
		slashed = "/" + slashed // C:/x
	}
	query := url.Values{"_pragma": append([]string{"busy_timeout(0)"}, pragmas...), "_txlock": {"immediate"}}
	u := url.URL{Scheme: "file", Path: slashed, RawQuery: query.Encode()}
	return u.String()
}

// pause returns how long to wait before the n-th retry on a locked database: at first briefly, as most transactions are
// brief, then 1 to 5 ms. It is random, so that two processes do not stay in step.
func pause(n int) time.Duration {
	if n < 3 {
		return 100*time.Microsecond + rand.N(400*time.Microsecond)
	}
	return time.Millisecond + rand.N(4*time.Millisecond)
}

// retryBusy repeats f while the database is locked, until ctx is done or wait has passed.
func retryBusy(ctx context.Context, wait time.Duration, f func() error) error {
	deadline := time.Now().Add(wait)
	for n := 0; ; n++ {
		err := f()
		if code(err) != codeBusy || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(pause(n)):
		}
	}
}
