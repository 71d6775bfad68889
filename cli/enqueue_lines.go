package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/wire"
)

// What waits to be sent while a round trip is under way.
const (
	maxWaitingLines = 1000
	maxWaitingBytes = 4 << 20
)

// line is a message read from the standard input.
type line struct {
	number int
	size   int
	out    dramatiq.Outgoing
	err    error // why it cannot be sent
}

// enqueueLines runs the enqueue command with --stdin.
func (p *program) enqueueLines(ctx context.Context) (err error) {
	app, err := p.setup(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, app.close(ctx)) }()

	waiting := newInbox()
	defer context.AfterFunc(ctx, waiting.stop)()
	go readLines(p.stdin, queuesOf(app.Actors), waiting)
	sent, failed := 0, 0
	for {
		lines := waiting.take()
		if len(lines) == 0 {
			break
		}
		accepted, err := p.sendLines(ctx, app.Broker, lines)
		sent, failed = sent+accepted, failed+len(lines)-accepted
		if err != nil {
			waiting.stop()
			return fmt.Errorf("print ids: %w", err)
		}
	}
	if err := waiting.failure(); err != nil {
		return fmt.Errorf("read standard input: %w", err)
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted; %d messages were sent", sent)
	case failed > 0:
		return fmt.Errorf("%d of %d messages were not sent", failed, sent+failed)
	}
	return nil
}

// sendLines sends what has gathered, prints the ids of what was accepted, and reports the rest. It returns how many were
// accepted.
func (p *program) sendLines(ctx context.Context, broker *dramatiq.Broker, lines []line) (accepted int, err error) {
	outs := make([]dramatiq.Outgoing, 0, len(lines))
	places := make([]int, 0, len(lines))
	for i := range lines {
		if lines[i].err == nil {
			outs, places = append(outs, lines[i].out), append(places, i)
		}
	}
	if len(outs) > 0 {
		for j, err := range each(broker.Enqueue(ctx, outs...), len(outs)) {
			if err != nil {
				lines[places[j]].err = failure(&outs[j], err)
			}
		}
	}
	var ids, failures bytes.Buffer
	for i := range lines {
		if l := &lines[i]; l.err != nil {
			fmt.Fprintf(&failures, "%s: line %d: %v\n", p.cfg.Name, l.number, l.err)
		} else {
			accepted++
			fmt.Fprintln(&ids, l.out.Message.ID)
		}
	}
	_, err = p.stdout.Write(ids.Bytes())
	_, _ = p.stderr.Write(failures.Bytes())
	return accepted, err
}

// each returns the errors of the n messages of one Enqueue.
func each(err error, n int) []error {
	if s := (*dramatiq.SendError)(nil); errors.As(err, &s) && len(s.Errs) == n {
		return s.Errs
	}
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// readLines reads messages until the end of r or of the inbox.
func readLines(r io.Reader, queues map[string]string, to *inbox) {
	in := bufio.NewReaderSize(r, 64<<10)
	for number := 1; ; number++ {
		text, err := in.ReadBytes('\n')
		if len(bytes.TrimSpace(text)) > 0 {
			l := line{number: number, size: len(text)}
			if l.out, l.err = parseLine(text); l.err == nil {
				setQueue(&l.out, queues)
			}
			if !to.put(l) {
				return
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			to.end(err)
			return
		}
	}
}

// parseLine reads one message. Its arguments stay as they are, byte for byte.
func parseLine(text []byte) (dramatiq.Outgoing, error) {
	var none dramatiq.Outgoing
	if err := wire.Check(text); err != nil {
		return none, plain(err)
	}
	members, err := wire.SplitObject(text)
	if err != nil {
		return none, errors.New("must be a JSON object with the member actor")
	}
	var fields messageFields
	for _, m := range members {
		if wire.IsNull(m.Value) {
			continue
		}
		if err := fields.set(m); err != nil {
			return none, err
		}
	}
	if fields.actor == "" {
		return none, errors.New("the member actor is missing or empty")
	}
	return fields.outgoing(), nil
}

// set takes over one member of a line.
func (m *messageFields) set(member wire.Member) error {
	wrong := func(want string) error { return fmt.Errorf("the member %s must be %s", member.Name, want) }
	value := member.Value
	switch member.Name {
	case "actor", "queue":
		var text string
		if json.Unmarshal(value, &text) != nil {
			return wrong("a string")
		}
		if member.Name == "actor" {
			m.actor = text
		} else {
			m.queue = text
		}
	case "args":
		if value[0] != '[' {
			return wrong("an array")
		}
		m.args = value
	case "kwargs":
		if value[0] != '{' {
			return wrong("an object")
		}
		m.kwargs = value
	case "options":
		options, err := wire.SplitObject(value)
		if err != nil {
			return wrong("an object")
		}
		for _, o := range options {
			m.options.Set(o.Name, o.Value)
		}
	case "delay_ms":
		ms, ok := wire.ParseNumber(value)
		if !ok || !(ms >= 0 && ms < math.MaxInt64/float64(time.Millisecond)) {
			return wrong("a number of milliseconds, not below zero")
		}
		m.delay, m.delayed = time.Duration(ms*float64(time.Millisecond)), true
	default:
		return fmt.Errorf("unknown member %q; there are actor, queue, args, kwargs, options and delay_ms", member.Name)
	}
	return nil
}

// inbox hands lines from their reader to their sender: while a round trip is under way they gather, within limits.
type inbox struct {
	mu      sync.Mutex // guards below
	changed *sync.Cond
	lines   []line
	bytes   int
	ended   bool  // no more will be put
	stopped bool  // no more will be taken
	err     error // why the reader has ended, nil at the end of its input
}

func newInbox() *inbox {
	b := &inbox{}
	b.changed = sync.NewCond(&b.mu)
	return b
}

// put adds a line when there is room. It reports false when nobody will take it.
func (b *inbox) put(l line) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.stopped && (len(b.lines) >= maxWaitingLines || b.bytes >= maxWaitingBytes) {
		b.changed.Wait()
	}
	b.lines, b.bytes = append(b.lines, l), b.bytes+l.size
	b.changed.Broadcast()
	return !b.stopped
}

// take waits for lines and returns all there are; none means that there will be no more.
func (b *inbox) take() []line {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.stopped && !b.ended && len(b.lines) == 0 {
		b.changed.Wait()
	}
	if b.stopped {
		return nil
	}
	lines := b.lines
	b.lines, b.bytes = nil, 0
	b.changed.Broadcast()
	return lines
}

// end is called by the reader after its last line.
func (b *inbox) end(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended, b.err = true, err
	b.changed.Broadcast()
}

// failure returns why the reader has ended too early, if it has.
func (b *inbox) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// stop lets go of both sides.
func (b *inbox) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	b.changed.Broadcast()
}
