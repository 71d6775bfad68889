package sqlite

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	// The engine, registered with database/sql as "sqlite".
	_ "modernc.org/sqlite"

	"github.com/dramatiq-go/dramatiq/driver"
)

//go:embed schema.sql
var schemaSQL string

const (
	schemaVersion = 1
	engine        = "sqlite"
	readers       = 4
	// walLimit is what is kept of the -wal file after a burst, in bytes.
	walLimit = 64 << 20
)

// locate returns the absolute path of the database without symbolic links, so that all processes agree on the names of
// the files beside it.
func locate(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	} else {
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return "", fmt.Errorf("the directory of the database must exist: %w", err)
		}
		path = filepath.Join(dir, filepath.Base(path))
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return "", errors.New("it is no regular file")
	}
	return path, nil
}

// openDB opens the pool of one writer and the pool of readers, and brings the file into the form that we need.
func openDB(ctx context.Context, cfg Config, path string) (write, read *sql.DB, err error) {
	write, err = sql.Open(engine, dsn(path, fmt.Sprintf("journal_size_limit(%d)", walLimit)))
	if err != nil {
		return nil, nil, err
	}
	write.SetMaxOpenConns(1)
	read, err = sql.Open(engine, dsn(path, "query_only(1)"))
	if err != nil {
		return nil, nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	if err := prepareFile(ctx, cfg, write); err != nil {
		return nil, nil, errors.Join(err, read.Close(), write.Close())
	}
	return write, read, nil
}

func prepareFile(ctx context.Context, cfg Config, db *sql.DB) error {
	var mode string
	err := retryBusy(ctx, cfg.BusyTimeout, func() error {
		return db.QueryRowContext(ctx, "PRAGMA journal_mode=WAL").Scan(&mode)
	})
	if err != nil {
		return explain(err)
	}
	if !strings.EqualFold(mode, "wal") {
		return fmt.Errorf("%w: WAL mode is not to be had here, the journal mode stays %q: put the file on a local disk",
			driver.ErrMisconfigured, mode)
	}
	found, err := version(ctx, db)
	if err == nil && found == 0 {
		err = retryBusy(ctx, cfg.BusyTimeout, func() error { return createSchema(ctx, db) })
		if err == nil {
			found, err = version(ctx, db)
		}
	}
	if err != nil {
		return explain(err)
	}
	if found > schemaVersion {
		return fmt.Errorf("%w: the tables are of version %d and this program knows version %d: update the program",
			driver.ErrMisconfigured, found, schemaVersion)
	}
	return nil
}

// version returns the version of our tables, and 0 when there are none.
func version(ctx context.Context, db *sql.DB) (int, error) {
	var n int
	err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE type='table' AND name='dramatiq_meta'").Scan(&n)
	if err != nil || n == 0 {
		return 0, err
	}
	var text string
	if err := db.QueryRowContext(ctx, "SELECT value FROM dramatiq_meta WHERE name='version'").Scan(&text); err != nil {
		return 0, fmt.Errorf("read the version of the tables: %w", err)
	}
	v, err := strconv.Atoi(text)
	if err != nil || v < 1 {
		return 0, fmt.Errorf("the version of the tables is %q, which is no number above zero", text)
	}
	return v, nil
}

// createSchema creates all tables, unless another process was faster.
func createSchema(ctx context.Context, db *sql.DB) (err error) {
	tx, err := db.BeginTx(ctx, nil) // immediate, see dsn
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = tx.Rollback()
		}
	}()
	var n int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE name='dramatiq_meta'").Scan(&n); err != nil {
		return err
	}
	if n == 0 {
		if _, err := tx.ExecContext(ctx, schemaSQL); err != nil {
			return err
		}
	}
	return tx.Commit()
}
