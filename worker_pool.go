package dramatiq

import (
	"bytes"
	"context"
	"runtime"
	"slices"
	"sync"
	"time"
)

// pool runs attempts in slots. It is where a worker decides how much to fetch: what its slots can run now, and about
// lookaheadTime of work besides, so that a fast worker never waits for the broker and a slow one never hoards.
type pool struct {
	limit    int // slots
	maxStuck int
	run      func(s *slot, a *Attempt)
	room     chan struct{} // has a token when there may be room for more

	mu       sync.Mutex // guards below
	work     *sync.Cond // signalled when there is something to run, or nothing ever will be
	ready    readyQueue
	suspects []*Attempt // have crashed workers; one is under way at a time, so that no other is blamed for it
	suspect  *Attempt   // the one of them that runs, or whose end is not stored yet
	slots    int        // goroutines that run attempts, stuck ones left out once replaced
	idle     int
	running  int // attempts that are not given up
	stuck    int // attempts that were given up and whose handlers have not returned
	blocked  int // those of them whose slot was not replaced
	duration time.Duration
	progress time.Time // when an attempt last got a slot
	closed   bool
	empty    chan struct{} // closed when closed and nothing runs
}

const (
	lookaheadTime = 50 * time.Millisecond
	maxLookahead  = 512
	hoardTime     = time.Second
)

// slot is a goroutine that runs attempts, one after the other.
type slot struct {
	goroutine string // how its stack starts in a dump
	replaced  bool   // while its handler did not return
}

// givenUp is what has become of the slot of an attempt whose handler does not return.
type givenUp uint8

const (
	notGivenUp givenUp = iota
	slotReplaced
	slotBlocked
)

func newPool(concurrency, maxStuck int, run func(*slot, *Attempt)) *pool {
	p := &pool{
		limit: concurrency, maxStuck: maxStuck, run: run,
		room: make(chan struct{}, 1), empty: make(chan struct{}),
	}
	p.work = sync.NewCond(&p.mu)
	return p
}

// demand waits until there is room and returns for how many messages; 0 when ctx has ended. Attempts that have waited for
// a slot for too long while no other got one are handed back meanwhile, for other workers to run.
func (p *pool) demand(ctx context.Context, handBack func([]*Attempt)) int {
	for {
		if ctx.Err() != nil {
			return 0
		}
		p.mu.Lock()
		waiting := p.ready.len() + len(p.suspects)
		lookahead := p.lookahead()
		n := p.limit + lookahead - p.running - p.blocked - waiting
		hoarding := p.ready.len() > 0
		p.mu.Unlock()
		if n > 0 && (waiting <= lookahead/2 || waiting == 0) {
			return n
		}
		patience := time.NewTimer(hoardTime)
		if !hoarding {
			patience.Stop()
		}
		select {
		case <-p.room:
		case <-patience.C:
			handBack(p.hoarded())
		case <-ctx.Done():
		}
		patience.Stop()
	}
}

// hoarded returns all that waits for a slot, if nothing has got one for hoardTime.
func (p *pool) hoarded() []*Attempt {
	p.mu.Lock()
	defer p.mu.Unlock()
	since := time.Since(p.progress)
	if since < hoardTime {
		return nil
	}
	p.duration = max(p.duration, since) // slots are slower than they seemed: look ahead less
	var left []*Attempt
	for a := p.ready.pop(); a != nil; a = p.ready.pop() {
		left = append(left, a)
	}
	return left
}

// lookahead returns how many messages make lookaheadTime of work. p.mu must be held.
func (p *pool) lookahead() int {
	if p.duration <= 0 {
		return 0 // nothing is known yet
	}
	return int(min(lookaheadTime*time.Duration(p.limit)/p.duration, maxLookahead))
}

// push hands attempts to slots. It reports false when the pool is closed and the attempts are the caller's again.
func (p *pool) push(attempts []*Attempt) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	for _, a := range attempts {
		if a.alone {
			p.suspects = append(p.suspects, a)
		} else {
			p.ready.push(a)
		}
	}
	for range attempts {
		p.wake()
	}
	return true
}

// wake has one more slot look for work: an idle one or, while there are fewer than the limit, a new one. p.mu must be held.
func (p *pool) wake() {
	switch {
	case p.idle > 0:
		p.idle-- // here and not by the slot, which takes a while to wake
		p.work.Signal()
	case p.slots < p.limit:
		p.slots++
		go p.slot()
	}
}

// slot runs attempts until the pool is closed, or until it was replaced while its handler did not return.
func (p *pool) slot() {
	s := &slot{goroutine: goroutineHeader()}
	normal := false
	defer func() {
		if s.replaced {
			return // counted out back then
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.slots--
		if !normal && !p.closed { // the handler ended the goroutine: runtime.Goexit
			p.wake()
		}
	}()
	for a := p.next(); a != nil; a = p.next() {
		if p.do(s, a); s.replaced {
			break
		}
	}
	normal = true
}

// next waits for something to run; nil means that nothing ever will be.
func (p *pool) next() *Attempt {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if p.closed {
			return nil
		}
		if a := p.pick(); a != nil {
			p.running++
			p.progress = time.Now()
			p.signalRoom()
			return a
		}
		p.idle++
		p.work.Wait()
	}
}

func (p *pool) pick() *Attempt {
	if len(p.suspects) > 0 && p.suspect == nil {
		p.suspect = p.suspects[0]
		p.suspects = slices.Delete(p.suspects, 0, 1)
		return p.suspect
	}
	return p.ready.pop()
}

// do runs one attempt.
func (p *pool) do(s *slot, a *Attempt) {
	start := time.Now()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch a.givenUp {
		case notGivenUp:
			p.observe(time.Since(start))
			p.release()
		case slotReplaced:
			p.stuck--
			s.replaced = true
		case slotBlocked:
			p.stuck--
			p.blocked--
			p.signalRoom()
		}
	}()
	p.run(s, a)
}

// release ends the account of one running attempt. p.mu must be held.
func (p *pool) release() {
	p.running--
	p.signalRoom()
	if p.closed && p.running == 0 {
		close(p.empty)
	}
}

// observe keeps a moving mean of how long an attempt occupies a slot, which rises faster than it falls. p.mu must be held.
func (p *pool) observe(d time.Duration) {
	d = max(d, time.Microsecond)
	switch {
	case p.duration == 0:
		p.duration = d
	case d > p.duration:
		p.duration += (d - p.duration) / 8
	default:
		p.duration -= (p.duration - d) / 16
	}
}

// over is told that an attempt's end has been stored, or needs not be. Only then the next suspect may run: if it killed the
// worker before, the store would blame the one that had already ended, too.
func (p *pool) over(a *Attempt) {
	if !a.alone {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.suspect != a {
		return // it never ran
	}
	p.suspect = nil
	if len(p.suspects) > 0 && !p.closed {
		p.wake()
	}
}

func (p *pool) signalRoom() {
	select {
	case p.room <- struct{}{}:
	default:
	}
}

// giveUp ends an attempt whose handler does not return, unless it just has. Up to a limit a new slot takes the place of
// the attempt's.
func (p *pool) giveUp(a *Attempt, err error) (ended, replaced bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !a.finish(nil, err) {
		return false, false
	}
	replaced = p.stuck < p.maxStuck
	p.stuck++
	if replaced {
		a.givenUp = slotReplaced
		p.slots--
	} else {
		a.givenUp = slotBlocked
		p.blocked++
	}
	p.release()
	if replaced && p.ready.len() > 0 && !p.closed {
		p.wake()
	}
	return true, replaced
}

// close keeps anything more from starting and returns what has not started.
func (p *pool) close() []*Attempt {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	p.work.Broadcast()
	if p.running == 0 {
		close(p.empty)
	}
	left := p.suspects
	p.suspects = nil
	for a := p.ready.pop(); a != nil; a = p.ready.pop() {
		left = append(left, a)
	}
	return left
}

// wait waits until nothing runs in a closed pool, or ctx has ended, and returns how many attempts still run.
func (p *pool) wait(ctx context.Context) int {
	select {
	case <-p.empty:
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running
}

// readyQueue orders attempts by their actor's priority, lower numbers first, and by arrival within one.
type readyQueue struct {
	levels []level // by priority
	count  int
}

type level struct {
	priority int
	attempts []*Attempt
	head     int
}

func (q *readyQueue) len() int { return q.count }

func (q *readyQueue) push(a *Attempt) {
	q.count++
	at, found := slices.BinarySearchFunc(q.levels, a.def.priority, func(l level, priority int) int {
		return l.priority - priority
	})
	if !found {
		q.levels = slices.Insert(q.levels, at, level{priority: a.def.priority})
	}
	l := &q.levels[at]
	l.attempts = append(l.attempts, a)
}

func (q *readyQueue) pop() *Attempt {
	for i := range q.levels {
		l := &q.levels[i]
		if l.head == len(l.attempts) {
			continue
		}
		a := l.attempts[l.head]
		l.attempts[l.head] = nil
		if l.head++; l.head == len(l.attempts) {
			l.attempts, l.head = l.attempts[:0], 0
		}
		q.count--
		return a
	}
	return nil
}

// goroutineHeader returns how this goroutine's stack starts in a dump: "goroutine 7 ".
func goroutineHeader() string {
	var buf [64]byte
	text := buf[:runtime.Stack(buf[:], false)]
	if at := bytes.IndexByte(text, '['); at >= 0 {
		text = text[:at]
	}
	return string(text)
}

// stack returns where the slot's goroutine is now.
func (s *slot) stack() string {
	buf := make([]byte, 1<<20)
	for text := range bytes.SplitSeq(buf[:runtime.Stack(buf, true)], []byte("\n\n")) {
		if bytes.HasPrefix(text, []byte(s.goroutine)) {
			return string(text)
		}
	}
	return ""
}
