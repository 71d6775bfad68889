package dramatiqtest

import (
	"io"
	"log/slog"
	"sync"
	"testing"
)

// Logger returns a logger to the test's log, which go test shows if the test fails, or always with -v. What is logged
// after the end of the test is dropped.
func Logger(tb testing.TB) *slog.Logger {
	tb.Helper()
	w := &output{w: tb.Output()}
	tb.Cleanup(w.close)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// output writes to a test's log until the test ends.
type output struct {
	mu sync.Mutex // guards below
	w  io.Writer
}

func (o *output) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(line)
}

func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.w = io.Discard
}
