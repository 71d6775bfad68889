package process

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
)

// keptLines is how many lines of output are kept at least; twice as many at most.
const keptLines = 10_000

// output splits what a child writes into lines, passes them on with a prefix, and keeps the last ones.
type output struct {
	prefix string
	to     io.Writer

	mu      sync.Mutex // guards below
	partial []byte
	lines   []string
	dropped int           // lines that are no longer kept
	more    chan struct{} // closed and replaced at every line, closed for good at the end
	ended   bool
}

func newOutput(name string, to io.Writer) *output {
	return &output{prefix: name + ": ", to: to, more: make(chan struct{})}
}

// Write takes output of the child. It never fails, so that a child is not disturbed by its observer.
func (o *output) Write(data []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.partial = append(o.partial, data...)
	for {
		end := bytes.IndexByte(o.partial, '\n')
		if end < 0 {
			return len(data), nil
		}
		o.addLocked(string(bytes.TrimSuffix(o.partial[:end], []byte("\r"))))
		o.partial = o.partial[end+1:]
	}
}

// end completes the last line and tells those who wait that no more will come.
func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.partial) > 0 {
		o.addLocked(string(o.partial))
		o.partial = nil
	}
	o.ended = true
	close(o.more)
}

func (o *output) addLocked(line string) {
	if len(o.lines) >= 2*keptLines {
		o.lines = slices.Clone(o.lines[keptLines:])
		o.dropped += keptLines
	}
	o.lines = append(o.lines, line)
	_, _ = fmt.Fprintf(o.to, "%s%s\n", o.prefix, line)
	close(o.more)
	o.more = make(chan struct{})
}

// since returns the lines after the first n, how many there are in all, a channel that is closed when there are more, and
// whether there will be no more.
func (o *output) since(n int) (lines []string, total int, more <-chan struct{}, ended bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	from := max(0, n-o.dropped)
	return slices.Clone(o.lines[from:]), o.dropped + len(o.lines), o.more, o.ended
}

// testLog writes each line to the log of a test.
type testLog struct{ tb testing.TB }

func (l testLog) Write(line []byte) (int, error) {
	l.tb.Helper()
	l.tb.Log(string(bytes.TrimSuffix(line, []byte("\n"))))
	return len(line), nil
}
