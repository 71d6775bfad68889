package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

// engineQuery identifies a build of the SQLite library.
const engineQuery = `SELECT sqlite_source_id() || ' ' ||
	(SELECT group_concat(compile_options, ',') FROM pragma_compile_options)`

// querier is a *sql.DB or a *sql.Tx.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func engineOf(ctx context.Context, q querier) (string, error) {
	var id string
	err := q.QueryRowContext(ctx, engineQuery).Scan(&id)
	return id, err
}

// EnqueueTx returns an Enqueuer that stores messages within tx, a transaction of the caller's own on the same file: they
// are stored if and only if tx commits, and no worker sees them before. Call Wake after the commit to start them at once;
// without it they start within Config.PollInterval.
//
// The caller's *sql.DB must use the same SQLite library as this package, which is that of modernc.org/sqlite, imported for
// its driver "sqlite". Two SQLite libraries in one process do not see each other's locks and release them on each other's
// behalf, which damages the file (https://sqlite.org/howtocorrupt.html, 2.2.1), so the Enqueuer refuses every other with an
// error that wraps driver.ErrMisconfigured. A different process may use any library.
//
// Begin tx as immediate (_txlock=immediate in the data source name), or its first write may fail with SQLITE_BUSY. An
// Enqueuer is no safer for concurrent use than tx is. A failed message leaves tx usable.
func (d *Driver) EnqueueTx(tx *sql.Tx) driver.Enqueuer {
	return &txEnqueuer{d: d, tx: tx}
}

type txEnqueuer struct {
	d       *Driver
	tx      *sql.Tx
	checked bool
}

// Enqueue implements driver.Enqueuer.
func (e *txEnqueuer) Enqueue(ctx context.Context, messages []driver.Message) []error {
	if len(messages) == 0 {
		return nil
	}
	if err := e.check(ctx); err != nil {
		return failed(fmt.Errorf("sqlite: enqueue in a transaction: %w", err), len(messages))
	}
	var errs errorList
	now := time.Now()
	for i := range messages {
		row, err := encode(&messages[i], now)
		if err == nil {
			_, err = e.tx.ExecContext(ctx, "INSERT INTO dramatiq_messages (queue, priority, due, body) VALUES (?, ?, ?, ?)",
				row.queue, int64(row.priority), row.due, row.body)
			err = explain(err)
		}
		if err != nil {
			errs.set(i, len(messages), fmt.Errorf("sqlite: enqueue in a transaction: %w", err))
		}
	}
	return errs
}

// check refuses a transaction of another SQLite library or on another file.
func (e *txEnqueuer) check(ctx context.Context) error {
	if e.checked {
		return nil
	}
	id, err := engineOf(ctx, e.tx)
	if err != nil {
		return err
	}
	if id != e.d.engine {
		return fmt.Errorf("%w: the transaction runs in another SQLite library (%.40s…) than this driver (%.40s…), which "+
			"would damage the file: open it with the driver %q of modernc.org/sqlite",
			driver.ErrMisconfigured, id, e.d.engine, engine)
	}
	var file string
	if err := e.tx.QueryRowContext(ctx, "SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&file); err != nil {
		return err
	}
	if file, err = locate(file); err != nil || file != e.d.path {
		return fmt.Errorf("%w: the transaction is on the file %q and the driver on %q", driver.ErrMisconfigured, file, e.d.path)
	}
	e.checked = true
	return nil
}
