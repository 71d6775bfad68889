package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// The keys of the ledger Redis.
const (
	ledgerKey   = "interop:ledger"
	attemptsKey = "interop:attempts:"
	deathsKey   = "interop:die"
)

// ledger records runs and counts. It writes entries as they are: the arguments in them may hold what package
// faults/ledger, being encoding/json, cannot write, such as NaN.
type ledger interface {
	// push appends an entry, one line of JSON.
	push(ctx context.Context, entry []byte) error
	// increment adds one to a counter and returns its value.
	increment(ctx context.Context, counter string) (int64, error)
	close() error
}

// openLedger opens the ledger at a redis://, unix:// or file:// URL. An empty one means none.
func openLedger(text string) (ledger, error) {
	switch {
	case text == "":
		return noLedger{}, nil
	case strings.HasPrefix(text, "file://"):
		u, err := url.Parse(text)
		if err != nil || u.Host != "" || u.Path == "" {
			return nil, errors.New("a file is written file:///absolute/path")
		}
		return openFileLedger(u.Path)
	default:
		return newRedisLedger(text)
	}
}

// noLedger is no ledger.
type noLedger struct{}

var errNoLedger = errors.New("INTEROP_LEDGER_URL is not set; this needs the ledger")

func (noLedger) push(context.Context, []byte) error { return nil }
func (noLedger) close() error                       { return nil }

func (noLedger) increment(context.Context, string) (int64, error) { return 0, errNoLedger }

// fileLedger is a file with an entry a line. Each counter is a file beside it, as long as the counter's value.
type fileLedger struct {
	path string
	file *os.File
}

func openFileLedger(path string) (*fileLedger, error) {
	file, err := openAppending(path)
	if err != nil {
		return nil, err
	}
	return &fileLedger{path: path, file: file}, nil
}

func openAppending(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
}

// push writes the entry with a single call, so that many processes can share the file and a kill leaves no half line.
func (l *fileLedger) push(_ context.Context, entry []byte) error {
	_, err := l.file.Write(append(entry, '\n'))
	return err
}

func (l *fileLedger) increment(_ context.Context, counter string) (int64, error) {
	file, err := openAppending(l.path + "." + url.QueryEscape(counter))
	if err != nil {
		return 0, err
	}
	defer func() { _ = file.Close() }()
	if _, err := file.Write([]byte{'.'}); err != nil {
		return 0, fmt.Errorf("increment %s: %w", counter, err)
	}
	return file.Seek(0, 1) // where this process's own byte ends, whatever others have appended since
}

func (l *fileLedger) close() error { return l.file.Close() }
