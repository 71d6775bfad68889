package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

const (
	chunkSize  = 16 << 10
	chunkQueue = 64 // chunks under way per direction: enough for 1 MiB within a latency
	// slices is into how many pieces a second of limited bandwidth is cut.
	slices = 50
)

// direction is the way bytes go through a link.
type direction int

const (
	up   direction = iota // from the client to the target
	down                  // from the target to the client
)

// chunk is what one read returned, or the error that ended the reading.
type chunk struct {
	data []byte
	at   time.Time
	err  error
}

// link is one connection of a client together with its connection to the target.
type link struct {
	proxy  *Proxy
	client net.Conn
	ended  chan struct{}
	cut    *cut // the cut being made here; guarded by proxy.mu

	mu     sync.Mutex // guards below
	server net.Conn   // nil until dialled
	over   bool
}

// run dials the target and forwards until both directions are at their end.
func (l *link) run() {
	defer l.proxy.remove(l)
	defer l.end(false)
	if _, ok := l.pass(time.Now()); !ok {
		return
	}
	var dialer net.Dialer
	server, err := dialer.DialContext(l.proxy.ctx, l.proxy.network, l.proxy.target)
	if err != nil {
		l.end(true)
		return
	}
	if !l.attach(server) {
		return
	}
	var forwarding sync.WaitGroup
	forwarding.Go(func() { l.forward(l.client, server, up) })
	forwarding.Go(func() { l.forward(server, l.client, down) })
	forwarding.Wait()
}

// attach keeps the connection to the target, or closes it when the link is over already.
func (l *link) attach(server net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		_ = server.Close()
		return false
	}
	l.server = server
	return true
}

// end closes both connections, with a reset where that is possible. Only the first call counts.
func (l *link) end(reset bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.over = true
	close(l.ended)
	for _, conn := range []net.Conn{l.client, l.server} {
		if conn == nil {
			continue
		}
		if tcp, ok := conn.(*net.TCPConn); ok && reset {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
}

// forward carries one direction: a reader runs ahead so that latency does not limit the bandwidth.
func (l *link) forward(from, to net.Conn, d direction) {
	chunks := make(chan chunk, chunkQueue)
	var reading sync.WaitGroup
	defer reading.Wait()
	reading.Go(func() { l.read(from, chunks) })
	for {
		select {
		case <-l.ended:
			return
		case c := <-chunks:
			if !l.deliver(to, c, d) {
				return
			}
		}
	}
}

// read fills the channel until the connection ends; the last chunk carries the error.
func (l *link) read(from net.Conn, chunks chan<- chunk) {
	for {
		buf := make([]byte, chunkSize)
		n, err := from.Read(buf)
		if n > 0 && !l.put(chunks, chunk{data: buf[:n], at: time.Now()}) {
			return
		}
		if err != nil {
			l.put(chunks, chunk{err: err, at: time.Now()})
			return
		}
	}
}

func (l *link) put(chunks chan<- chunk, c chunk) bool {
	select {
	case chunks <- c:
		return true
	case <-l.ended:
		return false
	}
}

// deliver forwards one chunk when the mode lets it through. It reports whether more may follow.
func (l *link) deliver(to net.Conn, c chunk, d direction) bool {
	if _, ok := l.pass(c.at); !ok {
		return false
	}
	if c.err != nil {
		l.propagate(to, c.err)
		return false
	}
	if d == up {
		l.proxy.requestSeen(l, c.data)
		return l.write(to, c, d)
	}
	made := l.proxy.replySeen(l, c.data)
	if made == nil {
		return l.write(to, c, d)
	}
	n := min(made.after, len(c.data))
	made.after -= n
	if !l.write(to, chunk{data: c.data[:n], at: c.at}, d) {
		return false
	}
	if made.after > 0 {
		return true
	}
	l.end(true)
	l.proxy.cuts.Add(1)
	close(made.done)
	return false
}

// propagate passes the end of one connection on to the other: a half-close as such, anything else as a reset.
func (l *link) propagate(to net.Conn, err error) {
	half, ok := to.(interface{ CloseWrite() error })
	if ok && errors.Is(err, io.EOF) {
		_ = half.CloseWrite()
		return
	}
	l.end(true)
}

// write sends a chunk, in pieces when the bandwidth is limited.
func (l *link) write(to net.Conn, c chunk, d direction) bool {
	counter := &l.proxy.bytesDown
	if d == up {
		counter = &l.proxy.bytesUp
	}
	for data := c.data; len(data) > 0; {
		rate, ok := l.pass(c.at)
		if !ok {
			return false
		}
		piece := len(data)
		if rate > 0 {
			piece = min(piece, max(1, rate/slices))
		}
		counter.Add(int64(piece)) // before the write: whoever has seen the bytes finds them counted
		if n, err := to.Write(data[:piece]); err != nil {
			counter.Add(int64(n - piece))
			l.end(true)
			return false
		}
		data = data[piece:]
		if rate > 0 && !l.pause(time.Duration(piece)*time.Second/time.Duration(rate)) {
			return false
		}
	}
	return true
}

// pass waits until bytes that arrived at the given time may be forwarded, and returns the bandwidth, 0 for unlimited.
// It returns false when the link ended meanwhile.
func (l *link) pass(arrived time.Time) (bytesPerSecond int, ok bool) {
	for {
		mode, slowness, changed := l.proxy.state()
		var due <-chan time.Time
		switch mode {
		case Pass:
			return 0, !l.isOver()
		case Slow:
			wait := time.Until(arrived.Add(slowness.Latency))
			if wait <= 0 {
				return slowness.BytesPerSecond, !l.isOver()
			}
			due = time.After(wait)
		default: // Drop holds everything back; Refuse and Reset end the link
		}
		select {
		case <-l.ended:
			return 0, false
		case <-changed:
		case <-due:
		}
	}
}

// pause waits; it is cut short by a change of the mode, and returns false when the link ended.
func (l *link) pause(d time.Duration) bool {
	_, _, changed := l.proxy.state()
	select {
	case <-l.ended:
		return false
	case <-changed:
		return true
	case <-time.After(d):
		return true
	}
}

func (l *link) isOver() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}
