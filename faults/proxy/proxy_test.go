package proxy_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dramatiq-go/dramatiq/faults/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quiet is how long a test listens to be sure that nothing comes.
const quiet = 100 * time.Millisecond

// newEcho starts a server that answers each line with "echo: " and the line, and returns its address.
func newEcho(t *testing.T, network, address string) string {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for _, conn := range conns {
			_ = conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			running.Go(func() {
				defer func() { _ = conn.Close() }()
				lines := bufio.NewReader(conn)
				for {
					line, err := lines.ReadString('\n')
					if err != nil {
						return
					}
					_, _ = io.WriteString(conn, "echo: "+line)
				}
			})
		}
	})
	return listener.Addr().String()
}

// newTestProxy starts a proxy in front of an echo server.
func newTestProxy(t *testing.T) *proxy.Proxy {
	t.Helper()
	return newProxyTo(t, newEcho(t, "tcp", "127.0.0.1:0"))
}

func newProxyTo(t *testing.T, target string) *proxy.Proxy {
	t.Helper()
	p, err := proxy.New(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return p
}

func set(t *testing.T, p *proxy.Proxy, mode proxy.Mode) {
	t.Helper()
	if err := p.Set(mode); err != nil {
		t.Fatal(err)
	}
}

func dial(t *testing.T, p *proxy.Proxy) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", p.Addr(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

// receive reads as many bytes as want has and compares.
func receive(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	got := make([]byte, len(want))
	if n, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("received %q, %v, want %q", got[:n], err, want)
	}
}

// receiveNothing checks that the connection stays open and silent.
func receiveNothing(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(quiet))
	n, err := conn.Read(make([]byte, 1))
	var timeout net.Error
	if n != 0 || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("received %d bytes, %v, want silence", n, err)
	}
}

// receiveEnd checks that nothing but the end of the connection comes, and returns the error.
func receiveEnd(t *testing.T, conn net.Conn) error {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, err := conn.Read(make([]byte, 1))
	var timeout net.Error
	if n != 0 || err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("received %d bytes, %v, want the end of the connection", n, err)
	}
	return err
}

// dialToTheEnd makes a connection that the proxy ends at once, perhaps before the dialling is over, and returns how.
func dialToTheEnd(t *testing.T, p *proxy.Proxy) error {
	t.Helper()
	conn, err := net.DialTimeout("tcp", p.Addr(), 5*time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return receiveEnd(t, conn)
}

func TestProxy_passesBothWaysAndCounts(t *testing.T) {
	t.Parallel()
	p := newTestProxy(t)
	a, b := dial(t, p), dial(t, p)
	send(t, a, "one\n")
	send(t, b, "two\n")
	receive(t, a, "echo: one\n")
	receive(t, b, "echo: two\n")
	want := proxy.Stats{Accepted: 2, Open: 2, BytesUp: 8, BytesDown: 20}
	if got := p.Stats(); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
}

func TestProxy_passesHalfClose(t *testing.T) {
	t.Parallel()
	p := newTestProxy(t)
	conn := dial(t, p)
	send(t, conn, "last\n")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	receive(t, conn, "echo: last\n")
	if err := receiveEnd(t, conn); !errors.Is(err, io.EOF) {
		t.Errorf("ended with %v, want EOF", err)
	}
}

func TestProxy_unixTarget(t *testing.T) {
	t.Parallel()
	path := newEcho(t, "unix", filepath.Join(t.TempDir(), "s"))
	for _, target := range []string{path, "unix:" + path} {
		conn := dial(t, newProxyTo(t, target))
		send(t, conn, "hello\n")
		receive(t, conn, "echo: hello\n")
	}
}

func TestProxy_refuse(t *testing.T) {
	t.Parallel()
	p := newTestProxy(t)
	conn := dial(t, p)
	send(t, conn, "one\n")
	receive(t, conn, "echo: one\n")
	set(t, p, proxy.Refuse)
	_ = receiveEnd(t, conn)
	if refused, err := net.DialTimeout("tcp", p.Addr(), 5*time.Second); err == nil {
		_ = refused.Close()
		t.Fatal("a new connection was not refused")
	}
	set(t, p, proxy.Refuse) // twice is fine
	set(t, p, proxy.Pass)
	conn = dial(t, p)
	send(t, conn, "two\n")
	receive(t, conn, "echo: two\n")
}

func TestProxy_reset(t *testing.T) {
	t.Parallel()
	p := newTestProxy(t)
	conn := dial(t, p)
	send(t, conn, "one\n")
	receive(t, conn, "echo: one\n")
	set(t, p, proxy.Reset)
	if err := receiveEnd(t, conn); errors.Is(err, io.EOF) {
		t.Errorf("ended with %v, want a reset", err)
	}
	if err := dialToTheEnd(t, p); errors.Is(err, io.EOF) {
		t.Errorf("a new connection ended with %v, want a reset", err)
	}
	set(t, p, proxy.Pass)
	conn = dial(t, p)
	send(t, conn, "two\n")
	receive(t, conn, "echo: two\n")
}

func TestProxy_dropIsSilentThenDelivers(t *testing.T) {
	t.Parallel()
	p := newTestProxy(t)
	conn := dial(t, p)
	send(t, conn, "one\n")
	receive(t, conn, "echo: one\n")
	set(t, p, proxy.Drop)
	before := p.Stats()
	send(t, conn, "two\n")
	fresh := dial(t, p)
	send(t, fresh, "three\n")
	receiveNothing(t, conn)
	receiveNothing(t, fresh)
	if got := p.Stats(); got.BytesUp != before.BytesUp || got.BytesDown != before.BytesDown {
		t.Errorf("bytes passed while dropping: %+v, before %+v", got, before)
	}
	set(t, p, proxy.Pass)
	receive(t, conn, "echo: two\n")
	receive(t, fresh, "echo: three\n")
}

func TestProxy_dropHidesTheEndOfTheTarget(t *testing.T) {
	t.Parallel()
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() })
	p := newProxyTo(t, target.Addr().String())
	conn := dial(t, p)
	server, err := target.Accept()
	if err != nil {
		t.Fatal(err)
	}
	set(t, p, proxy.Drop)
	_ = server.Close()
	receiveNothing(t, conn)
	set(t, p, proxy.Pass)
	_ = receiveEnd(t, conn)
}

func TestProxy_slowLatency(t *testing.T) {
	t.Parallel()
	p := newTestProxy(t)
	conn := dial(t, p)
	if err := p.SetSlow(proxy.Slowness{Latency: 50 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	send(t, conn, "one\n")
	receive(t, conn, "echo: one\n")
	if took := time.Since(start); took < 100*time.Millisecond {
		t.Errorf("a round trip took %v, want two latencies of 50ms", took)
	}
}

func TestProxy_slowBandwidth(t *testing.T) {
	t.Parallel()
	p := newTestProxy(t)
	conn := dial(t, p)
	if err := p.SetSlow(proxy.Slowness{BytesPerSecond: 100_000}); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	line := strings.Repeat("x", 9_999) + "\n" // 0.1 s in each direction
	send(t, conn, line)
	receive(t, conn, "echo: "+line)
	if took := time.Since(start); took < 180*time.Millisecond {
		t.Errorf("20 kB at 100 kB/s took %v, want about 200ms", took)
	}
}

func TestProxy_modeChangeEndsAWait(t *testing.T) {
	t.Parallel()
	p := newTestProxy(t)
	conn := dial(t, p)
	if err := p.SetSlow(proxy.Slowness{Latency: time.Hour}); err != nil {
		t.Fatal(err)
	}
	send(t, conn, "one\n")
	receiveNothing(t, conn)
	set(t, p, proxy.Pass)
	receive(t, conn, "echo: one\n")
}

func TestProxy_cutReply(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 7} {
		p := newTestProxy(t)
		conn := dial(t, p)
		send(t, conn, "one\n")
		receive(t, conn, "echo: one\n")
		cut := p.CutReply(n)
		send(t, conn, "two\n")
		receive(t, conn, "echo: two\n"[:n])
		if err := receiveEnd(t, conn); errors.Is(err, io.EOF) {
			t.Errorf("n=%d: ended with %v, want a reset", n, err)
		}
		awaitCut(t, cut)
		if got := p.Stats().Cuts; got != 1 {
			t.Errorf("n=%d: %d cuts, want 1", n, got)
		}
		conn = dial(t, p) // one cut cuts once
		send(t, conn, "three\n")
		receive(t, conn, "echo: three\n")
	}
}

func TestProxy_cutReplyMatching(t *testing.T) {
	t.Parallel()
	p := newTestProxy(t)
	a, b := dial(t, p), dial(t, p)
	cut := p.CutReplyMatching(4, func(reply []byte) bool { return bytes.Contains(reply, []byte("fetch")) })
	send(t, a, "ping\n")
	receive(t, a, "echo: ping\n")
	send(t, b, "fetch\n")
	receive(t, b, "echo")
	_ = receiveEnd(t, b)
	awaitCut(t, cut)
	send(t, a, "fetch\n")
	receive(t, a, "echo: fetch\n")
}

func TestProxy_cutReplyTo(t *testing.T) {
	t.Parallel()
	p := newTestProxy(t)
	a, b := dial(t, p), dial(t, p)
	cut := p.CutReplyTo(0, func(request []byte) bool { return bytes.HasPrefix(request, []byte("ack")) })
	send(t, a, "fetch\n")
	receive(t, a, "echo: fetch\n")
	send(t, b, "ack\n")
	_ = receiveEnd(t, b)
	awaitCut(t, cut)
	send(t, a, "more\n")
	receive(t, a, "echo: more\n")
}

func awaitCut(t *testing.T, cut <-chan struct{}) {
	t.Helper()
	select {
	case <-cut:
	case <-time.After(5 * time.Second):
		t.Fatal("the cut was not made")
	}
}

func TestProxy_targetDownEndsTheConnection(t *testing.T) {
	t.Parallel()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	if err := dialToTheEnd(t, newProxyTo(t, gone.Addr().String())); errors.Is(err, io.EOF) {
		t.Errorf("ended with %v, want a reset", err)
	}
}

func TestProxy_closeInEveryMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []proxy.Mode{proxy.Pass, proxy.Refuse, proxy.Reset, proxy.Drop, proxy.Slow} {
		p := newTestProxy(t)
		conn := dial(t, p)
		send(t, conn, "one\n")
		set(t, p, mode)
		for range 2 {
			if err := p.Close(); err != nil {
				t.Errorf("%v: close: %v", mode, err)
			}
		}
		if got := p.Stats().Open; got != 0 {
			t.Errorf("%v: %d connections open after Close", mode, got)
		}
		if err := p.Set(proxy.Pass); !errors.Is(err, proxy.ErrClosed) {
			t.Errorf("%v: switching a closed proxy: %v, want ErrClosed", mode, err)
		}
	}
}

func TestProxy_switchingUnderLoad(t *testing.T) {
	t.Parallel()
	p := newTestProxy(t)
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		clients.Go(func() { pingUntil(stop, p.Addr()) })
	}
	for range 20 {
		for _, mode := range []proxy.Mode{proxy.Pass, proxy.Drop, proxy.Slow, proxy.Reset, proxy.Refuse} {
			set(t, p, mode)
			p.CutReply(3)
		}
	}
	set(t, p, proxy.Pass)
	close(stop)
	clients.Wait()
	p.CutReplyTo(0, func([]byte) bool { return false }) // disarms the last cut
	conn := dial(t, p)
	send(t, conn, "still here\n")
	receive(t, conn, "echo: still here\n")
}

// pingUntil makes connections and round trips, whatever becomes of them.
func pingUntil(stop <-chan struct{}, addr string) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			continue
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Millisecond))
		_, _ = io.WriteString(conn, "ping\n")
		_, _ = conn.Read(make([]byte, 16))
		_ = conn.Close()
	}
}

func TestMode_String(t *testing.T) {
	t.Parallel()
	for mode, want := range map[proxy.Mode]string{
		proxy.Pass: "pass", proxy.Refuse: "refuse", proxy.Reset: "reset", proxy.Drop: "drop", proxy.Slow: "slow", 9: "Mode(9)",
	} {
		if got := mode.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if err := newTestProxy(t).Set(9); err == nil {
		t.Error("an unknown mode was accepted")
	}
}
