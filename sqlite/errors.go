package sqlite

import (
	"errors"
	"fmt"

	"github.com/dramatiq-go/dramatiq/driver"
)

// Primary result codes of SQLite (https://sqlite.org/rescode.html) that are treated specially.
const (
	codeBusy     = 5
	codeProtocol = 15 // a lock that could not be had after many tries
	codeReadOnly = 8
	codeIO       = 10
	codeCorrupt  = 11
	codeFull     = 13
	codeCantOpen = 14
	codeNotADB   = 26
)

var (
	errLocked = errors.New("another connection holds the write lock of the database")
	errClosed = fmt.Errorf("sqlite: %w", driver.ErrClosed)
)

// code returns the primary result code of an SQLite error, or 0. SQLITE_PROTOCOL is a kind of SQLITE_BUSY.
func code(err error) int {
	type coded interface {
		error
		Code() int
	}
	e, ok := errors.AsType[coded](err)
	if !ok {
		return 0
	}
	if c := e.Code() & 0xff; c != codeProtocol {
		return c
	}
	return codeBusy // the same to us: somebody holds the locks, possibly a process that was stopped
}

// explain adds what can be done about err, if we know it.
func explain(err error) error {
	switch code(err) {
	case codeBusy:
		return fmt.Errorf("%w: %w", errLocked, err)
	case codeFull:
		return fmt.Errorf("the disk is full; nothing was stored and work goes on when there is room: %w", err)
	case codeReadOnly:
		return fmt.Errorf("the database is read-only; check the permissions of the file, its directory and the mount: %w", err)
	case codeIO:
		return fmt.Errorf("the disk reports an error: %w", err)
	case codeCorrupt:
		return fmt.Errorf("the database is damaged; recover it with the .recover command of the sqlite3 shell: %w", err)
	case codeCantOpen:
		return fmt.Errorf("the file cannot be opened; check that its directory exists and is writable: %w", err)
	case codeNotADB:
		return fmt.Errorf("the file exists and is not an SQLite database; choose another path: %w", err)
	default:
		return err
	}
}

// shared reports whether err would meet every statement and not only the one that ran into it.
func shared(err error) bool {
	switch code(err) {
	case codeBusy, codeReadOnly, codeIO, codeCorrupt, codeFull, codeCantOpen, codeNotADB:
		return true
	default:
		return errors.Is(err, driver.ErrMaybeStored)
	}
}
