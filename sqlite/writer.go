package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

const (
	batchCount = 512     // messages and settlements in one transaction
	batchBytes = 1 << 20 // bytes of bodies in one transaction
	// patience is how long a caller whose context has ended waits for a commit that is under way.
	patience = time.Second
)

// writer is the only one in this process that writes. Operations queue up before it while a transaction is under way, and
// the next transaction takes all that have come: group commit without a timer. The lock of the file is taken first and the
// operations after that, so that whoever gives up while another process holds the lock has stored nothing for sure.
type writer struct {
	db     *sql.DB
	cfg    Config
	wake   func() // after a commit that made messages available
	bg     *background
	signal chan struct{} // something is pending

	mu     sync.Mutex // guards below
	urgent []*op      // settling, claiming, leases
	bulk   []*op      // enqueueing
	closed bool

	// Used by the writer's goroutine alone:
	c      *conn
	synced bool // the connection has synchronous=FULL
	turn   turn
}

// op is a part of a transaction. Its results are valid when done is closed and err is nil.
type op struct {
	inserts []insertion
	settles []*settling
	run     func(*conn) error // before settles and inserts
	claim   func(*conn) error // after them
	after   func()            // on the writer's goroutine, after the commit

	durable bool // a power cut must not undo it
	bulk    bool // goes behind what keeps workers going
	wakes   bool // may have made messages available
	count   int
	size    int

	until time.Time // by when the lock of the file must have been taken
	state opState   // guarded by writer.mu
	err   error
	done  chan struct{}
}

type opState uint8

const (
	opPending opState = iota
	opTaken
	opWithdrawn
)

// startWriter starts the writer. dir is where processes agree on whose turn it is.
func startWriter(ctx context.Context, db *sql.DB, cfg Config, dir string, wake func()) *writer {
	w := &writer{db: db, cfg: cfg, wake: wake, signal: make(chan struct{}, 1), turn: turn{lock: newTurnLock(dir)}}
	w.bg = startBackground(ctx, w.work)
	return w
}

// stop ends the writer after the transaction under way.
func (w *writer) stop() {
	w.bg.stop()
}

// submit queues an operation.
func (w *writer) submit(o *op) {
	o.done = make(chan struct{})
	o.until = time.Now().Add(w.cfg.BusyTimeout)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		o.err = driver.ErrClosed
		close(o.done)
		return
	}
	if o.bulk {
		w.bulk = append(w.bulk, o)
	} else {
		w.urgent = append(w.urgent, o)
	}
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// wait returns the operation's error. When ctx ends first, an operation that is not part of a transaction yet is withdrawn;
// one that is gets a little longer, and then its outcome is unknown.
func (w *writer) wait(ctx context.Context, o *op) error {
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
	}
	if w.withdraw(o) {
		return ctx.Err()
	}
	if o.claim != nil {
		<-o.done // it may have claimed something
		return o.err
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-o.done:
		return o.err
	case <-t.C:
		return fmt.Errorf("%w: %w", driver.ErrMaybeStored, ctx.Err())
	}
}

func (w *writer) do(ctx context.Context, o *op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w.submit(o)
	return w.wait(ctx, o)
}

// withdraw takes back an operation that no transaction has begun.
func (w *writer) withdraw(o *op) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o.state != opPending {
		return false
	}
	o.state = opWithdrawn
	return true
}

func (w *writer) work(ctx context.Context) {
	defer w.shutDown()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.signal:
		}
		for n := 0; ctx.Err() == nil && w.pending(); {
			if !w.round(ctx, n) {
				n++
				continue
			}
			n = 0
		}
		w.turn.got()
	}
}

func (w *writer) shutDown() {
	w.mu.Lock()
	w.closed = true
	left := append(w.urgent, w.bulk...)
	w.urgent, w.bulk = nil, nil
	for _, o := range left {
		if o.state == opPending {
			o.state = opTaken
			o.err = driver.ErrClosed
			close(o.done)
		}
	}
	w.mu.Unlock()
	if w.c != nil {
		_ = w.c.c.Close() // back to the pool, which is closed next
	}
	w.turn.close()
}

// pending drops what was withdrawn or has waited too long, and reports whether anything is left.
func (w *writer) pending() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	live := func(ops []*op) []*op {
		kept := ops[:0]
		for _, o := range ops {
			switch {
			case o.state == opWithdrawn:
			case now.After(o.until):
				o.state = opTaken
				o.err = fmt.Errorf("%w for %v", errLocked, w.cfg.BusyTimeout)
				close(o.done)
			default:
				kept = append(kept, o)
			}
		}
		clear(ops[len(kept):])
		return kept
	}
	w.urgent, w.bulk = live(w.urgent), live(w.bulk)
	return len(w.urgent)+len(w.bulk) > 0
}

// round runs one transaction over what is pending. It returns false, after a pause, when the database is locked; n counts
// how often that has happened in a row.
func (w *writer) round(ctx context.Context, n int) bool {
	durable := w.wantsDurable()
	w.turn.yield(ctx)
	err := w.begin(ctx, durable)
	if code(err) == codeBusy {
		w.turn.ask(n)
		if w.turn.asking {
			n = 0 // it will not be long
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause(n)):
		}
		return false
	}
	w.turn.got()
	batch := w.take(durable || w.cfg.Synchronous == Normal)
	if err != nil {
		w.finish(batch, explain(err))
		return true
	}
	err = w.execute(batch)
	if err == nil || len(batch) == 1 || shared(err) {
		w.finish(batch, err)
		return true
	}
	for _, o := range batch { // one of them is bad: find out which
		err := retryBusy(ctx, w.cfg.BusyTimeout, func() error { return w.begin(ctx, durable) })
		if err == nil {
			err = w.execute([]*op{o})
		}
		w.finish([]*op{o}, err)
	}
	return true
}

func (w *writer) wantsDurable() bool {
	if w.cfg.Synchronous == Normal {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ops := range [][]*op{w.urgent, w.bulk} {
		for _, o := range ops {
			if o.durable && o.state == opPending {
				return true
			}
		}
	}
	return false
}

// begin takes the write lock of the database.
func (w *writer) begin(ctx context.Context, durable bool) error {
	if w.c == nil {
		c, err := newConn(context.WithoutCancel(ctx), w.db) // the pool has one connection and it is ours
		if err != nil {
			return err
		}
		w.c, w.synced = c, true
		if err := c.execOnce("PRAGMA synchronous=FULL"); err != nil {
			w.reset()
			return err
		}
	}
	if durable != w.synced { // not possible within a transaction
		mode := "PRAGMA synchronous=NORMAL"
		if durable {
			mode = "PRAGMA synchronous=FULL"
		}
		if err := w.c.execOnce(mode); err != nil {
			return err
		}
		w.synced = durable
	}
	_, err := w.c.exec("BEGIN IMMEDIATE")
	if err != nil && code(err) != codeBusy {
		w.reset()
	}
	return err
}

// reset gives up a connection that may be broken; the next transaction opens another.
func (w *writer) reset() {
	if w.c != nil {
		w.c.discard()
		w.c = nil
	}
}

// take moves pending operations into a transaction, up to its limits: urgent ones first, but never without one bulk
// operation that waits, so that neither starves. Unless the transaction is durable, those that must be stay.
func (w *writer) take(durable bool) []*op {
	w.mu.Lock()
	defer w.mu.Unlock()
	var batch []*op
	count, size := 0, 0
	from := func(ops []*op, least bool) []*op {
		i := 0
		for ; i < len(ops); i++ {
			o := ops[i]
			if o.state != opPending {
				continue
			}
			full := count+o.count > batchCount || size+o.size > batchBytes
			if o.durable && !durable || full && !least {
				break
			}
			least = false
			o.state = opTaken
			count, size = count+o.count, size+o.size
			batch = append(batch, o)
		}
		left := append(ops[:0], ops[i:]...)
		clear(ops[len(left):])
		return left
	}
	w.urgent = from(w.urgent, true)
	w.bulk = from(w.bulk, true)
	return batch
}

// execute runs the operations in the transaction that begin has opened, and ends it.
func (w *writer) execute(batch []*op) error {
	err := perform(w.c, batch)
	if err == nil {
		if _, err = w.c.exec("COMMIT"); err == nil {
			return nil
		}
		if c := code(err); c != codeFull && c != codeBusy && c != codeReadOnly {
			err = fmt.Errorf("%w: %w", driver.ErrMaybeStored, err)
		}
	}
	_, rollback := w.c.exec("ROLLBACK") // fails where SQLite has done so itself
	if c := code(err); rollback != nil || c == codeIO || c == codeCorrupt || c == codeNotADB {
		w.reset()
	}
	return explain(err)
}

// perform runs the operations of one transaction: leases and starts, then settlements, then all new messages in the order
// in which they came, and claims last, so that they find what is new.
func perform(c *conn, batch []*op) error {
	var settles []*settling
	var inserts []insertion
	for _, o := range batch {
		if o.run != nil {
			if err := o.run(c); err != nil {
				return err
			}
		}
		settles = append(settles, o.settles...)
	}
	if err := settleAll(c, settles); err != nil {
		return err
	}
	for _, o := range batch {
		for _, s := range o.settles {
			if s.err == nil {
				inserts = append(inserts, s.followUps...)
			}
		}
		inserts = append(inserts, o.inserts...)
	}
	if err := insertAll(c, inserts); err != nil {
		return err
	}
	for _, o := range batch {
		if o.claim != nil {
			if err := o.claim(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// finish tells the waiting callers. Other workers are told first, even of what was only perhaps committed.
func (w *writer) finish(batch []*op, err error) {
	wakes := false
	for _, o := range batch {
		wakes = wakes || o.wakes
		o.err = err
		if err == nil && o.after != nil {
			o.after()
		}
	}
	if wakes && (err == nil || errors.Is(err, driver.ErrMaybeStored)) {
		w.wake()
	}
	for _, o := range batch {
		close(o.done)
	}
}
