package cli_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/cli"
	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/memory"
)

func options(m *dramatiq.Envelope) string {
	var text []string
	for name, value := range m.Options.All() {
		text = append(text, name+"="+string(value))
	}
	return strings.Join(text, " ")
}

func TestEnqueue_storesWhatItIsTold(t *testing.T) {
	t.Parallel()
	d := memory.New(memory.Config{})
	got := run(t.Context(), opening(d), "", "enqueue", "no.such/actor", "--queue", "q",
		"--args", ` [1e2, NaN, "\ud800<é", 123456789012345678901234567890 ]`, "--kwargs", `{"k": {"a" : -Infinity}}`,
		"--option", "a=1.50", "--option", "b=x y=z", "--option", `c="1"`, "--option", "d=NaN",
		"--option", "e=123456789012345678901234567890", "--option", `f={"x":[]}`, "--option", "g=", "--option", "h=01",
		"--option", "i=1}},{", "--option", "j="+strings.Repeat("[", 999)+strings.Repeat("]", 999))
	if got.code != 0 {
		t.Fatalf("got %+v", got)
	}
	m := stored(t, d, 1, "q")[0]
	if got.stdout != m.ID+"\n" {
		t.Errorf("printed %q, want the id %s alone", got.stdout, m.ID)
	}
	if m.Actor != "no.such/actor" || m.Queue != "q" {
		t.Errorf("actor %q on queue %q", m.Actor, m.Queue)
	}
	if args := strings.TrimSpace(string(m.Args)); args != `[1e2, NaN, "\ud800<é", 123456789012345678901234567890 ]` {
		t.Errorf("args are %s", args)
	}
	if string(m.Kwargs) != `{"k": {"a" : -Infinity}}` {
		t.Errorf("kwargs are %s", m.Kwargs)
	}
	deep := `"` + strings.Repeat("[", 999) + strings.Repeat("]", 999) + `"` // too deep for an envelope: text
	want := `a=1.50 b="x y=z" c="1" d=NaN e=123456789012345678901234567890 f={"x":[]} g="" h="01" i="1}},{" j=` + deep
	if got := options(m); got != want {
		t.Errorf("options are\n%s, want\n%s", got, want)
	}
}

func TestEnqueue_queue(t *testing.T) {
	t.Parallel()
	d := memory.New(memory.Config{})
	cfg := opening(d, dramatiq.Declare[int]("known", dramatiq.Queue("own")))
	for _, args := range [][]string{{"known"}, {"known", "--queue", "other"}, {"unknown"}} {
		if got := run(t.Context(), cfg, "", append([]string{"enqueue"}, args...)...); got.code != 0 {
			t.Fatalf("got %+v", got)
		}
	}
	for _, queue := range []string{"own", "other", "default"} {
		stored(t, d, 1, queue)
	}
}

func TestEnqueue_delay(t *testing.T) {
	t.Parallel()
	d := memory.New(memory.Config{})
	for _, delay := range []string{"1h30m", "0"} {
		if got := run(t.Context(), opening(d), "", "enqueue", "a", "--delay", delay); got.code != 0 {
			t.Fatalf("got %+v", got)
		}
	}
	stored(t, d, 1, "default")
	if stats, err := d.Stats(t.Context(), "default"); err != nil || stats.Delayed != 1 {
		t.Errorf("got %+v and %v, want one delayed message", stats, err)
	}
}

// scripted is a driver that counts round trips and refuses some messages.
type scripted struct {
	*memory.Driver
	trips  atomic.Int32
	refuse func(m *dramatiq.Envelope) error
	began  chan struct{} // if not nil, each round trip sends to it and
	goOn   chan struct{} // waits for this
}

func (s *scripted) Enqueue(ctx context.Context, messages []driver.Message) []error {
	s.trips.Add(1)
	if s.began != nil {
		s.began <- struct{}{}
		<-s.goOn
	}
	errs := make([]error, len(messages))
	for i := range messages {
		if s.refuse != nil {
			errs[i] = s.refuse(messages[i].Envelope)
		}
		if errs[i] == nil {
			if e := s.Driver.Enqueue(ctx, messages[i:i+1]); e != nil {
				errs[i] = e[0]
			}
		}
	}
	return errs
}

func (s *scripted) config() cli.Config {
	return cli.Config{Open: func(string) (driver.Driver, error) { return s, nil }}
}

func TestEnqueue_fails(t *testing.T) {
	t.Parallel()
	s := &scripted{Driver: memory.New(memory.Config{}).Share(), refuse: func(*dramatiq.Envelope) error {
		return driver.ErrMaybeStored
	}}
	got := run(t.Context(), s.config(), "", "enqueue", "a")
	if got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, "prog: message ") ||
		!strings.Contains(got.stderr, "may or may not have been stored") {
		t.Errorf("got %+v, want code 1, no id on stdout and the id on stderr", got)
	}
}

func TestEnqueueStdin_goodAndBadLines(t *testing.T) {
	t.Parallel()
	d := memory.New(memory.Config{})
	s := &scripted{Driver: d.Share(), refuse: func(m *dramatiq.Envelope) error {
		if m.Actor == "refused" {
			return errors.New("no room")
		}
		return nil
	}}
	input := strings.Join([]string{
		`{"actor":"a","args":[1, NaN],"kwargs":{"k" :1e5},"options":{"o":1.0,"p":null},"queue":"q"}`,
		`nonsense`,
		``,
		`{"actor":"b","queue":"q","args":null}` + "\r",
		`[]`,
		`{"queue":"q"}`,
		`{"actor":"refused","queue":"q"}`,
		`{"actor":"c","arg":[]}`,
		`{"actor":"d","args":{}}`,
		`{"actor":"e","delay_ms":-1}`,
		`{"actor":"f","delay_ms":"soon"}`,
		`{"actor":"g","queue":"1a"}`,
		`{"actor":"h` + "\xff" + `"}`,
		`{"actor":"later","queue":"q","delay_ms":3600000}`,
		`{"actor":"last","queue":"q","delay_ms":0.5}`, // without an end of line
	}, "\n")
	got := run(t.Context(), s.config(), input, "enqueue", "--stdin")
	if got.code != 1 || !strings.HasSuffix(got.stderr, "prog: 10 of 14 messages were not sent\n") {
		t.Errorf("got %+v, want code 1 and a sum", got)
	}
	for _, want := range []string{
		"prog: line 2: expected a value at offset 0", "prog: line 5: must be a JSON object", "prog: line 6: the member actor",
		"prog: line 7: dramatiq: send to actor \"refused\" on queue \"q\": no room", `prog: line 8: unknown member "arg"`,
		"prog: line 9: the member args must be an array", "prog: line 10: the member delay_ms", "prog: line 11: the member delay_ms",
		"prog: line 12: dramatiq: send", "prog: line 13: invalid UTF-8",
	} {
		if !strings.Contains(got.stderr, want) {
			t.Errorf("%q is missing on stderr:\n%s", want, got.stderr)
		}
	}
	messages := stored(t, d, 3, "q")
	ids := strings.Fields(got.stdout)
	if len(ids) != 4 || ids[0] != messages[0].ID || ids[1] != messages[1].ID || ids[3] != messages[2].ID {
		t.Errorf("printed %q, want the ids of what was accepted, in order", ids)
	}
	if m := messages[0]; string(m.Args) != "[1, NaN]" || string(m.Kwargs) != `{"k" :1e5}` || options(m) != "o=1.0 p=null" {
		t.Errorf("stored %s %s %s", m.Args, m.Kwargs, options(m))
	}
}

func TestEnqueueStdin_sharesRoundTrips(t *testing.T) {
	t.Parallel()
	const count = 20_000
	d := memory.New(memory.Config{})
	s := &scripted{Driver: d.Share()}
	var input strings.Builder
	for i := range count {
		fmt.Fprintf(&input, "{\"actor\":\"a\",\"args\":[%d]}\n", i)
	}
	got := run(t.Context(), s.config(), input.String(), "enqueue", "--stdin")
	if got.code != 0 {
		t.Fatalf("code %d: %s", got.code, got.stderr)
	}
	ids := strings.Fields(got.stdout)
	messages := stored(t, d, count, "default")
	for i, m := range messages {
		if want := fmt.Sprintf("[%d]", i); m.ID != ids[i] || string(m.Args) != want {
			t.Fatalf("message %d is %s %s, want %s %s", i, m.ID, m.Args, ids[i], want)
		}
	}
	t.Logf("%d round trips", s.trips.Load())
	if n := s.trips.Load(); n > count/2 {
		t.Errorf("%d round trips for %d messages", n, count)
	}
}

func TestEnqueueStdin_printsEachIDAtOnce(t *testing.T) {
	t.Parallel()
	s := &scripted{Driver: memory.New(memory.Config{}).Share(), began: make(chan struct{}), goOn: make(chan struct{})}
	in, lines := io.Pipe()
	var stdout, stderr buffer
	ended := make(chan int)
	go func() {
		ended <- cli.Run(t.Context(), s.config(), []string{"enqueue", "--stdin"}, in, &stdout, &stderr)
	}()
	send := func(n int) {
		for range n {
			_, _ = io.WriteString(lines, "{\"actor\":\"a\"}\n")
		}
	}
	send(1)
	<-s.began // the first is under way; what comes now gathers
	send(100)
	_, _ = io.WriteString(lines, "\n") // taken by the reader only after the hundredth was put
	if stdout.String() != "" {
		t.Errorf("printed %q before anything was accepted", stdout.String())
	}
	s.goOn <- struct{}{}
	stdout.await(t, "\n")
	<-s.began
	s.goOn <- struct{}{}
	for deadline := time.Now().Add(20 * time.Second); strings.Count(stdout.String(), "\n") < 101; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("ids are missing: %d", strings.Count(stdout.String(), "\n"))
		}
	}
	if n := s.trips.Load(); n != 2 {
		t.Errorf("%d round trips, want 2", n)
	}
	_ = lines.Close()
	if code := <-ended; code != 0 {
		t.Errorf("code %d: %s", code, stderr.String())
	}
}

func TestEnqueueStdin_isInterrupted(t *testing.T) {
	t.Parallel()
	in, lines := io.Pipe()
	defer func() { _ = lines.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	var stdout, stderr buffer
	ended := make(chan int)
	d := memory.New(memory.Config{})
	go func() { ended <- cli.Run(ctx, opening(d), []string{"enqueue", "--stdin"}, in, &stdout, &stderr) }()
	_, _ = io.WriteString(lines, "{\"actor\":\"a\"}\n")
	stdout.await(t, "\n")
	cancel()
	if code := <-ended; code != 1 || !strings.Contains(stderr.String(), "interrupted; 1 messages were sent") {
		t.Errorf("code %d: %s", code, stderr.String())
	}
}

// broken is a stream that fails.
type broken struct{}

func (broken) Read([]byte) (int, error)  { return 0, errors.New("bad cable") }
func (broken) Write([]byte) (int, error) { return 0, errors.New("bad paper") }

func TestEnqueueStdin_brokenStreams(t *testing.T) {
	t.Parallel()
	var stdout, stderr buffer
	cfg := opening(memory.New(memory.Config{}))
	if code := cli.Run(t.Context(), cfg, []string{"enqueue", "--stdin"}, broken{}, &stdout, &stderr); code != 1 ||
		!strings.Contains(stderr.String(), "read standard input: bad cable") {
		t.Errorf("code %d: %s", code, stderr.String())
	}
	lines := strings.NewReader(strings.Repeat("{\"actor\":\"a\"}\n", 5000))
	if code := cli.Run(t.Context(), cfg, []string{"enqueue", "--stdin"}, lines, broken{}, &stderr); code != 1 ||
		!strings.Contains(stderr.String(), "bad paper") {
		t.Errorf("code %d: %s", code, stderr.String())
	}
}
