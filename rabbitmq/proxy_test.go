package rabbitmq_test

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"
)

// proxy stands between a driver and the server and does what networks do.
type proxy struct {
	listener net.Listener
	server   string
	running  sync.WaitGroup

	mu     sync.Mutex // guards below
	pairs  map[*pair]bool
	refuse bool
	silent bool // bytes vanish while connections stay open
}

type pair struct{ client, server net.Conn }

// newProxy returns a proxy and the URL by which a driver gets to the server through it.
func newProxy(tb testing.TB) (*proxy, string) {
	tb.Helper()
	u, err := url.Parse(serverURL(tb))
	if err != nil {
		tb.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &proxy{listener: listener, server: u.Host, pairs: make(map[*pair]bool)}
	p.running.Go(p.accept)
	tb.Cleanup(func() {
		_ = listener.Close()
		p.set(true, false)
		p.running.Wait()
	})
	u.Host = listener.Addr().String()
	return p, u.String()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		p.mu.Lock()
		if err != nil || p.refuse {
			_ = client.Close()
			if server != nil {
				_ = server.Close()
			}
			p.mu.Unlock()
			continue
		}
		both := &pair{client, server}
		p.pairs[both] = true
		p.running.Go(func() { p.pipe(both, client, server) })
		p.running.Go(func() { p.pipe(both, server, client) })
		p.mu.Unlock()
	}
}

func (p *proxy) pipe(both *pair, from io.Reader, to io.Writer) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err == nil && !p.swallows() {
			_, err = to.Write(buf[:n])
		}
		if err != nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.cutOne(both)
			return
		}
	}
}

func (p *proxy) swallows() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.silent
}

func (p *proxy) cutOne(both *pair) {
	_ = both.client.Close()
	_ = both.server.Close()
	delete(p.pairs, both)
}

// cut closes all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for both := range p.pairs {
		p.cutOne(both)
	}
}

// set changes what happens to new connections or to all bytes; refusing also closes the connections there are.
func (p *proxy) set(refuse, silent bool) {
	p.mu.Lock()
	p.refuse, p.silent = refuse, silent
	p.mu.Unlock()
	if refuse {
		p.cut()
	}
}

// stalledServer is a proxy that can stop reading from the first connection, whose socket then fills up.
type stalledServer struct {
	url    string
	stop   chan struct{} // closed when the first connection is to stall
	ended  chan struct{} // closed when the test has ended
	server string
}

func newStalledServer(t *testing.T) *stalledServer {
	t.Helper()
	u, err := url.Parse(serverURL(t))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &stalledServer{stop: make(chan struct{}), ended: make(chan struct{}), server: u.Host}
	u.Host = listener.Addr().String()
	s.url = u.String()
	var running sync.WaitGroup
	running.Go(func() {
		for first := true; ; first = false {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			stop := s.stop
			if !first {
				stop = make(chan struct{})
			}
			running.Go(func() { s.serve(client, stop) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		close(s.ended)
		running.Wait()
	})
	return s
}

func (s *stalledServer) stall() { close(s.stop) }

func (s *stalledServer) serve(client net.Conn, stop <-chan struct{}) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", s.server)
	if err != nil {
		return
	}
	var running sync.WaitGroup
	defer running.Wait()
	defer func() { _ = server.Close() }()
	running.Go(func() { _, _ = io.Copy(server, client) })
	back := make(chan struct{})
	running.Go(func() {
		defer close(back)
		_, _ = io.Copy(client, server)
	})
	select {
	case <-back:
		return
	case <-s.ended:
		return
	case <-stop:
	}
	// Reading from the client ends with a deadline, and nothing answers any more; the socket stays open.
	_ = client.SetReadDeadline(time.Now())
	_ = server.Close()
	<-s.ended
}
