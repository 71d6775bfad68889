// Package proxy is a TCP proxy that injects faults between a broker and its clients. Its mode can be switched while it
// runs, for the connections that are open as well as for new ones.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Mode is what a proxy does to its connections.
type Mode int

const (
	// Pass forwards everything. It is the mode of a new proxy.
	Pass Mode = iota
	// Refuse closes the listener, so that new connections are refused, and closes the open ones: a broker that went down.
	Refuse
	// Reset resets the open connections at once and new ones right after they were accepted.
	Reset
	// Drop keeps all connections open and accepts new ones, but no byte and no end of a connection passes in either
	// direction: a cable that was pulled. What was held back is forwarded when the mode changes, as TCP would.
	Drop
	// Slow forwards with the latency and bandwidth of [Slowness].
	Slow
)

// String returns the mode's name.
func (m Mode) String() string {
	switch m {
	case Pass:
		return "pass"
	case Refuse:
		return "refuse"
	case Reset:
		return "reset"
	case Drop:
		return "drop"
	case Slow:
		return "slow"
	default:
		return fmt.Sprintf("Mode(%d)", int(m))
	}
}

// Slowness says how slow [Slow] is, in each direction and per connection.
type Slowness struct {
	// Latency is how long each byte is under way. It does not limit how many bytes are.
	Latency time.Duration
	// BytesPerSecond limits the bandwidth; 0 is no limit.
	BytesPerSecond int
}

// Stats counts what passed through a proxy since it was made.
type Stats struct {
	Accepted  int64 // connections that were accepted, whatever became of them
	Open      int   // connections that are open now
	BytesUp   int64 // bytes forwarded to the target
	BytesDown int64 // bytes forwarded to the clients
	Cuts      int64 // replies that were cut
}

// ErrClosed is returned when a closed proxy is switched.
var ErrClosed = errors.New("proxy: closed")

// Proxy forwards connections from a loopback port to its target. It is safe for concurrent use.
type Proxy struct {
	network, target string // what to dial
	addr            string // where the proxy listens
	ctx             context.Context
	cancel          context.CancelFunc
	running         sync.WaitGroup

	accepted, bytesUp, bytesDown, cuts atomic.Int64

	mu       sync.Mutex // guards below
	mode     Mode
	slowness Slowness
	changed  chan struct{} // closed and replaced when the mode changes
	listener net.Listener  // nil in mode Refuse
	links    map[*link]struct{}
	armed    *cut // the cut that waits for its reply
	closed   bool
}

// New starts a proxy on a free loopback port in front of the target, which is a host:port or, for a Unix socket, its
// absolute path (with or without "unix:" before it). The target is dialled anew for each connection.
func New(target string) (*Proxy, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(target, "unix:"); ok || strings.HasPrefix(target, "/") {
		network, target = "unix", path
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Proxy{
		network: network,
		target:  target,
		addr:    "127.0.0.1:0",
		ctx:     ctx,
		cancel:  cancel,
		changed: make(chan struct{}),
		links:   make(map[*link]struct{}),
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.listenLocked(); err != nil {
		cancel()
		return nil, err
	}
	p.addr = p.listener.Addr().String()
	return p, nil
}

// Addr returns the host:port at which the proxy listens. It stays the same in all modes.
func (p *Proxy) Addr() string { return p.addr }

// Mode returns the current mode.
func (p *Proxy) Mode() Mode {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode
}

// Set switches to a mode. It returns when open connections are closed or reset where the mode says so; bytes whose
// forwarding had begun may still arrive. It fails when the proxy is closed, or when the port was taken while the mode was
// Refuse.
func (p *Proxy) Set(mode Mode) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.setLocked(mode, p.slowness)
}

// SetSlow switches to the mode Slow with the given slowness.
func (p *Proxy) SetSlow(s Slowness) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.setLocked(Slow, s)
}

// Stats returns the counters.
func (p *Proxy) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{
		Accepted:  p.accepted.Load(),
		Open:      len(p.links),
		BytesUp:   p.bytesUp.Load(),
		BytesDown: p.bytesDown.Load(),
		Cuts:      p.cuts.Load(),
	}
}

// Close closes the listener and all connections, and waits until nothing of the proxy runs any more.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.cancel()
	err := p.closeListenerLocked()
	p.endLinksLocked(false)
	p.mu.Unlock()
	p.running.Wait()
	return err
}

func (p *Proxy) setLocked(mode Mode, s Slowness) error {
	if p.closed {
		return ErrClosed
	}
	switch mode {
	case Pass, Drop, Slow, Reset:
		if p.listener == nil {
			if err := p.listenLocked(); err != nil {
				return err
			}
		}
	case Refuse:
		if err := p.closeListenerLocked(); err != nil {
			return err
		}
	default:
		return fmt.Errorf("proxy: unknown mode %v", mode)
	}
	p.mode, p.slowness = mode, s
	close(p.changed)
	p.changed = make(chan struct{})
	if mode == Refuse || mode == Reset {
		p.endLinksLocked(mode == Reset)
	}
	return nil
}

func (p *Proxy) listenLocked() error {
	var config net.ListenConfig
	listener, err := config.Listen(p.ctx, "tcp", p.addr)
	if err != nil {
		return fmt.Errorf("proxy: listen: %w", err)
	}
	p.listener = listener
	p.running.Go(func() { p.accept(listener) })
	return nil
}

func (p *Proxy) closeListenerLocked() error {
	if p.listener == nil {
		return nil
	}
	err := p.listener.Close()
	p.listener = nil
	if err != nil {
		return fmt.Errorf("proxy: close: %w", err)
	}
	return nil
}

func (p *Proxy) endLinksLocked(reset bool) {
	for l := range p.links {
		l.end(reset)
		delete(p.links, l)
	}
}

// accept takes connections until the listener is closed.
func (p *Proxy) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the client gave up before it was accepted
		}
		p.accepted.Add(1)
		p.admit(conn)
	}
}

// admit starts forwarding for a new connection where the mode allows it.
func (p *Proxy) admit(client net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := &link{proxy: p, client: client, ended: make(chan struct{})}
	switch {
	case p.closed || p.mode == Refuse:
		l.end(false)
	case p.mode == Reset:
		l.end(true)
	default:
		p.links[l] = struct{}{}
		p.running.Go(l.run)
	}
}

// remove forgets a connection that ended by itself.
func (p *Proxy) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// state returns the mode, its slowness, and a channel that is closed when they change.
func (p *Proxy) state() (Mode, Slowness, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode, p.slowness, p.changed
}
