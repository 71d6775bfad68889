package proxy

// cut is one reply that is to be cut short.
type cut struct {
	after   int               // bytes still to be forwarded before the reset
	reply   func([]byte) bool // which reply; nil for any
	request func([]byte) bool // the reply to which request; nil for any
	done    chan struct{}     // closed when the cut was made
}

// CutReply cuts the next reply of the target, on whichever connection it comes: its first n bytes are forwarded, then both
// sides are reset. The channel is closed when that has happened. With n = 0 the reply is lost as a whole.
//
// One cut can wait at a time: a new one replaces it, and its channel then stays open.
func (p *Proxy) CutReply(n int) <-chan struct{} {
	return p.arm(&cut{after: n})
}

// CutReplyMatching is [Proxy.CutReply] for the next reply for which match returns true. It sees what one read of the
// connection returned, which for small replies is the whole reply.
func (p *Proxy) CutReplyMatching(n int, match func(reply []byte) bool) <-chan struct{} {
	return p.arm(&cut{after: n, reply: match})
}

// CutReplyTo is [Proxy.CutReply] for the next bytes the target sends on the connection on which a request was forwarded
// for which match returns true. The request itself reaches the target: it is done, and its sender does not learn so.
// On a connection that pipelines requests, the bytes can belong to an earlier one.
func (p *Proxy) CutReplyTo(n int, match func(request []byte) bool) <-chan struct{} {
	return p.arm(&cut{after: n, request: match})
}

func (p *Proxy) arm(c *cut) <-chan struct{} {
	c.done = make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = c
	return c.done
}

// requestSeen binds the waiting cut to the link when the request is the one it waits for.
func (p *Proxy) requestSeen(l *link, request []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.armed; c != nil && c.request != nil && c.request(request) {
		l.cut, p.armed = c, nil
	}
}

// replySeen returns the cut to make in these bytes of a reply, or nil.
func (p *Proxy) replySeen(l *link, reply []byte) *cut {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.armed; l.cut == nil && c != nil && c.request == nil && (c.reply == nil || c.reply(reply)) {
		l.cut, p.armed = c, nil
	}
	return l.cut
}
