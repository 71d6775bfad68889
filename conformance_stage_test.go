package dramatiq_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/memory"
	"github.com/dramatiq-go/dramatiq/wire"
)

// The tests of conformance_*_test.go prove the cases of protocol section 7 that need no server. What Python sends is put
// into a memory byte for byte, as testdata/wire has it; a real worker runs it; and what it leaves behind is held against
// what Python has stored in its place. Cases about what Go sends compare that with what Python sends.

// goldenTime is when everything in testdata/wire was captured.
var goldenTime = time.UnixMilli(1767225600000)

// stage is a broker on a memory of its own, in a bubble whose clock stands at goldenTime.
type stage struct {
	t      *testing.T
	broker *dramatiq.Broker
	store  *memory.Driver
}

// onStage runs a test in a bubble, beside other tests.
func onStage(t *testing.T, test func(s *stage), middleware ...dramatiq.Middleware) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(goldenTime))
		b, store := newTestBroker(t, middleware...)
		test(&stage{t, b, store})
	})
}

// verbatim is an encoder that writes the same bytes whatever the envelope.
type verbatim []byte

func (v verbatim) Append(dst []byte, _ *wire.Envelope) ([]byte, error) { return append(dst, v...), nil }

func (v verbatim) Decode([]byte) (*wire.Envelope, error) { panic("nobody asks for this") }

// put stores a body as it is.
func (s *stage) put(queue string, body []byte) {
	s.t.Helper()
	m := driver.Message{Envelope: &wire.Envelope{Queue: queue}, Encoder: verbatim(body)}
	if errs := s.store.Enqueue(s.t.Context(), []driver.Message{m}); errs != nil {
		s.t.Fatal(errs)
	}
}

// run has a worker run messages one by one, for a while or until nothing more happens without the clock moving, and drains
// it.
func (s *stage) run(d time.Duration, actors ...dramatiq.AnyActor) {
	s.t.Helper()
	w, err := dramatiq.NewWorker(s.broker, actors, dramatiq.WorkerConfig{Concurrency: 1})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := w.Start(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	if d > 0 {
		time.Sleep(d)
	}
	synctest.Wait()
	if err := w.Drain(context.Background()); err != nil {
		s.t.Fatal(err)
	}
}

// stored is a message that was taken from a queue.
type stored struct {
	body []byte
	wait time.Duration // how long it was not to be had
}

func (m stored) String() string { return fmt.Sprintf("%s after %v", m.body, m.wait) }

// take empties a queue as another worker would, waiting for what is delayed.
func (s *stage) take(queue string) []stored {
	s.t.Helper()
	c, err := s.store.Consume(s.t.Context(), driver.ConsumerConfig{
		Queues: []string{queue}, Concurrency: 1, Encoder: wire.JSON{}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() {
		if err := c.Close(context.Background()); err != nil {
			s.t.Error(err)
		}
	}()
	var all []stored
	for start := time.Now(); ; {
		if waiting, delayed, _, _ := stats(s.t, s.store, queue); waiting+delayed == 0 {
			return all
		}
		deliveries, err := c.Fetch(s.t.Context(), 100)
		if err != nil {
			s.t.Fatal(err)
		}
		for i := range deliveries {
			all = append(all, stored{deliveries[i].Body, time.Since(start)})
			if errs := c.Settle(s.t.Context(), []driver.Settlement{{Delivery: &deliveries[i]}}); errs != nil {
				s.t.Fatal(errs)
			}
		}
	}
}

// takeOne is take for a queue that must hold one message.
func (s *stage) takeOne(queue string) stored {
	s.t.Helper()
	all := s.take(queue)
	if len(all) != 1 {
		s.t.Fatalf("queue %s holds %d messages, want 1: %v", queue, len(all), all)
	}
	return all[0]
}

// wantDead checks what is in a dead-letter queue: the reason and, unless it is nil, the body of each letter.
func (s *stage) wantDead(queue, reason string, bodies ...[]byte) {
	s.t.Helper()
	letters, err := s.store.DeadLetters(s.t.Context(), queue, "", 1000)
	if err != nil {
		s.t.Fatal(err)
	}
	if len(letters) != len(bodies) {
		s.t.Fatalf("%d dead letters, want %d: %+v", len(letters), len(bodies), letters)
	}
	for i, l := range letters {
		if l.Death.Reason != reason {
			s.t.Errorf("dead letter %d died of %q (%s), want %q", i, l.Death.Reason, l.Death.Detail, reason)
		}
		if bodies[i] != nil && string(l.Body) != string(bodies[i]) {
			s.t.Errorf("dead letter %d is\n%.300q\nwant\n%.300q", i, l.Body, bodies[i])
		}
	}
}

// wantEmpty checks that queues hold nothing but dead letters.
func (s *stage) wantEmpty(queues ...string) {
	s.t.Helper()
	for _, q := range queues {
		if waiting, delayed, claimed, _ := stats(s.t, s.store, q); waiting+delayed+claimed != 0 {
			s.t.Errorf("queue %s holds %d waiting, %d delayed, %d claimed; want none", q, waiting, delayed, claimed)
		}
	}
}

// seen collects what actors were given.
type seen struct {
	mu   sync.Mutex
	runs []run
}

// run is one attempt, as its handler has seen it.
type run struct {
	args dramatiq.RawArgs
	body []byte // the message
	at   time.Time
}

func (s *seen) add(ctx context.Context, args dramatiq.RawArgs) {
	body, err := wire.JSON{}.Append(nil, dramatiq.CurrentMessage(ctx))
	if err != nil {
		panic(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs = append(s.runs, run{args, body, time.Now()})
}

// all returns what there is, which must be n runs.
func (s *seen) all(t *testing.T, n int) []run {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.runs) != n {
		t.Fatalf("%d runs, want %d: %v", len(s.runs), n, s.runs)
	}
	return s.runs
}

// actor returns an actor on queue w that notes its runs and returns what outcome says.
func (s *seen) actor(name string, outcome func() error, opts ...dramatiq.ActorOption) *dramatiq.Actor[dramatiq.RawArgs] {
	return dramatiq.NewActor(name, func(ctx context.Context, in dramatiq.RawArgs) error {
		s.add(ctx, in)
		return outcome()
	}, append(opts, dramatiq.Queue("w"))...)
}

func succeed() error { return nil }

// runtimeError is what the actors of the golden files fail with.
type runtimeError string

func (e runtimeError) Error() string   { return string(e) }
func (runtimeError) ErrorType() string { return "RuntimeError" }

func kaboom() error { return runtimeError("kaboom é") }

// addArgs are the arguments of the golden add.
type addArgs struct {
	X int `json:"x"`
	Y int `json:"y,omitempty"`
}

// addActor is the golden add: its second argument is 0 by default.
func (s *seen) addActor(opts ...dramatiq.ActorOption) *dramatiq.Func[addArgs, int] {
	return dramatiq.NewFunc("add", func(ctx context.Context, in addArgs) (int, error) {
		s.add(ctx, dramatiq.RawArgs{})
		return in.X + in.Y, nil
	}, append(opts, dramatiq.Queue("w"))...)
}

// trace is middleware that notes which hooks were called after it.
type trace struct {
	mu     sync.Mutex
	events []string
	errs   []error
	result json.RawMessage // of the last skipped attempt
}

func (m *trace) note(event string, a *dramatiq.Attempt) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = append(m.events, event)
	m.errs = append(m.errs, a.Err())
	m.result = a.Result()
}

func (m *trace) BeforeProcess(_ context.Context, a *dramatiq.Attempt) error {
	m.note("before process", a)
	return nil
}
func (m *trace) AfterProcess(_ context.Context, a *dramatiq.Attempt) { m.note("after process", a) }
func (m *trace) AfterSkip(_ context.Context, a *dramatiq.Attempt)    { m.note("after skip", a) }
func (m *trace) BeforeAck(_ context.Context, a *dramatiq.Attempt)    { m.note("before ack", a) }
func (m *trace) AfterAck(_ context.Context, a *dramatiq.Attempt)     { m.note("after ack", a) }
func (m *trace) BeforeNack(_ context.Context, a *dramatiq.Attempt)   { m.note("before nack", a) }
func (m *trace) AfterNack(_ context.Context, a *dramatiq.Attempt)    { m.note("after nack", a) }

func (m *trace) want(t *testing.T, events ...string) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Equal(m.events, events) {
		t.Errorf("hooks called: %q, want %q", m.events, events)
	}
}

// golden returns the bytes of one file of testdata/wire.
func golden(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "wire", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// object, quoted and number are JSON as it is compared here: members in any order, numbers digit by digit, texts without
// regard to how they are escaped.
type (
	object map[string]any
	quoted string // a text that Go cannot hold
	number string
)

// parse takes JSON apart.
func parse(t *testing.T, raw json.RawMessage) any {
	t.Helper()
	raw = json.RawMessage(strings.TrimSpace(string(raw)))
	if err := wire.Check(raw); err != nil {
		t.Fatalf("%v: %.200s", err, raw)
	}
	switch raw[0] {
	case '{':
		members, err := wire.SplitObject(raw)
		if err != nil {
			t.Fatal(err)
		}
		o := object{}
		for _, m := range members {
			o[m.Name] = parse(t, m.Value)
		}
		return o
	case '[':
		elements, err := wire.SplitArray(raw)
		if err != nil {
			t.Fatal(err)
		}
		a := make([]any, len(elements))
		for i, e := range elements {
			a[i] = parse(t, e)
		}
		return a
	case '"':
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, "\ufffd") {
			return quoted(raw)
		}
		return text
	default:
		return number(raw)
	}
}

// envelope takes an envelope apart.
func envelope(t *testing.T, body []byte) object {
	t.Helper()
	o, ok := parse(t, body).(object)
	if !ok || len(o) != 7 {
		t.Fatalf("no envelope of seven members: %s", body)
	}
	if _, ok := o["options"].(object); !ok {
		t.Fatalf("no options: %s", body)
	}
	return o
}

// write puts JSON together again, members in the order of their names.
func write(v any) []byte {
	switch v := v.(type) {
	case object:
		out := []byte{'{'}
		for i, name := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(append(wire.AppendString(out, name), ':'), write(v[name])...)
		}
		return append(out, '}')
	case []any:
		out := []byte{'['}
		for i, e := range v {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(out, write(e)...)
		}
		return append(out, ']')
	case string:
		return wire.AppendString(nil, v)
	case quoted:
		return []byte(v)
	case number:
		return []byte(v)
	default:
		panic(v)
	}
}

func (o object) options() object { return o["options"].(object) }

// without removes options.
func (o object) without(names ...string) object {
	for _, name := range names {
		delete(o.options(), name)
	}
	return o
}

// wantSame compares two values, down to the last digit.
func wantSame(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := string(write(got)), string(write(want)); g != w {
		t.Errorf("%s is\n%.1000s\nwant\n%.1000s", what, g, w)
	}
}

var uuid4 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// fresh checks the id and the timestamp of a message that was built at a certain time, and replaces them with those of
// another message, so that the rest can be compared.
func fresh(t *testing.T, got, want object, at time.Time) {
	t.Helper()
	if id, _ := got["message_id"].(string); !uuid4.MatchString(id) || id == want["message_id"] {
		t.Errorf("the message id is %v", got["message_id"])
	}
	if got["message_timestamp"] != millis(at) {
		t.Errorf("the timestamp is %v, want %v", got["message_timestamp"], millis(at))
	}
	got["message_id"], got["message_timestamp"] = want["message_id"], want["message_timestamp"]
}

func millis(t time.Time) number { return number(strconv.FormatInt(t.UnixMilli(), 10)) }

// failedAt checks what a failure has written into a message, and replaces what must differ with what is in another.
func failedAt(t *testing.T, got, want object, at time.Time) {
	t.Helper()
	if text, _ := got.options()["traceback"].(string); !strings.Contains(text, "RuntimeError: kaboom é\n") {
		t.Errorf("the traceback is %v", got.options()["traceback"])
	}
	if got.options()["requeue_timestamp"] != millis(at) {
		t.Errorf("requeue_timestamp is %v, want %v", got.options()["requeue_timestamp"], millis(at))
	}
	for _, name := range []string{"traceback", "requeue_timestamp"} {
		got.options()[name] = want.options()[name]
	}
}
