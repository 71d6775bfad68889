package sqlite

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

// consumer is one worker of the file. It has a row in dramatiq_workers from its first claim on.
type consumer struct {
	d      *Driver
	log    *slog.Logger
	queues []string
	asJSON string // queues, for peek
	name   string // of the lock and the socket

	lock *lockFile // nil where there is none
	sock *socket   // nil where there is none
	wake chan struct{}
	beat *background // renews the lease
	done chan struct{}
	turn int // the queue that is served first; the writer's goroutine's own

	mu      sync.Mutex // guards below
	owner   int64      // the row in dramatiq_workers; 0 while there is none
	renewed int64      // when the lease was last known to be good, in milliseconds of the wall clock
	held    map[int64]*claim
	unsure  bool // a claim's commit had no answer, so there may be claims that we don't know of
	tried   bool // something may have been claimed
	closed  bool
}

func newConsumer(ctx context.Context, d *Driver, cfg driver.ConsumerConfig) *consumer {
	var random [8]byte
	_, _ = rand.Read(random[:]) // documented never to fail
	c := &consumer{
		d: d, log: cfg.Logger, queues: cfg.Queues,
		name: hex.EncodeToString(random[:]),
		wake: make(chan struct{}, 1),
		done: make(chan struct{}),
		held: map[int64]*claim{},
	}
	names, _ := json.Marshal(cfg.Queues) // strings always marshal
	c.asJSON = string(names)
	var err error
	if c.lock, err = createLock(c.lockPath()); err != nil {
		c.log.WarnContext(ctx, "this worker's death will be noticed by its lease alone", slog.Any("error", err))
	}
	if c.sock, err = listen(d.sender.dir, c.sockName(), c.signalSlowly); err != nil {
		c.log.WarnContext(ctx, "other processes cannot wake this worker, which polls instead", slog.Any("error", err))
	}
	c.beat = startBackground(ctx, c.heartbeat)
	return c
}

func (c *consumer) lockPath() string { return filepath.Join(c.d.dir, c.name+lockSuffix) }

func (c *consumer) sockName() string { return c.name + sockSuffix }

// signal wakes one Fetch.
func (c *consumer) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// signalSlowly wakes one Fetch and waits until the signal before has been heard, so that a busy worker leaves the
// datagrams of other processes in its socket, where the next ones are dropped for free.
func (c *consumer) signalSlowly() {
	select {
	case c.wake <- struct{}{}:
	case <-c.done:
	}
}

func (c *consumer) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// Close hands back the claims whose messages never began. When none are left the worker's row is deleted; otherwise it
// stays until the lease ends, which is at most two heartbeat timeouts later, and others take over what is left then. An
// error means that nothing could be handed back and that everything waits for that.
func (c *consumer) Close(ctx context.Context) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	tried := c.tried
	c.mu.Unlock()

	c.beat.stop()
	var err error
	if tried {
		err = c.d.writer.do(ctx, c.leave())
	}
	c.release()
	c.d.forget(c)
	if err != nil {
		return fmt.Errorf("sqlite: close the consumer: %w", err)
	}
	return nil
}

// leave is the operation of Close. It hands back what the table says, not what we remember.
func (c *consumer) leave() *op {
	return &op{count: 1, wakes: true, run: func(tx *conn) error {
		c.mu.Lock()
		owner := c.owner
		var begun []int64
		for id, cl := range c.held {
			if cl.begun {
				begun = append(begun, id)
			}
		}
		c.mu.Unlock()
		keep, err := json.Marshal(begun)
		if err != nil {
			return err
		}
		if len(begun) == 0 {
			keep = []byte("[]")
		}
		_, err = tx.exec(`UPDATE dramatiq_messages SET owner = NULL, started = 0
			WHERE owner = ? AND id NOT IN (SELECT value FROM json_each(?))`, owner, string(keep))
		if err != nil {
			return err
		}
		_, err = tx.exec(`DELETE FROM dramatiq_workers
			WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM dramatiq_messages WHERE owner = ?1)`, owner)
		return err
	}}
}

// release stops the goroutines and lets go of the lock and the socket. It may be called more than once.
func (c *consumer) release() {
	c.beat.stop()
	c.mu.Lock()
	c.closed = true
	select {
	case <-c.done:
	default:
		close(c.done)
	}
	c.mu.Unlock()
	c.sock.close()
	c.lock.remove()
}

// Begin marks a message as started. It asks the database only when the message is a suspect, whose start it records, or
// when the lease has not been renewed for a third of the heartbeat timeout.
func (c *consumer) Begin(ctx context.Context, d *driver.Delivery) error {
	cl, ok := d.Claim.(*claim)
	if !ok || cl.consumer != c {
		return fmt.Errorf("sqlite: begin: the delivery is not one of this consumer")
	}
	now := time.Now().UnixMilli()
	c.mu.Lock()
	closed, held := c.closed, c.held[cl.id] == cl
	doubt := c.doubtful(now)
	if !closed && held {
		cl.begun = true
	}
	c.mu.Unlock()
	switch {
	case closed:
		return errClosed
	case !held:
		return fmt.Errorf("sqlite: begin: %w", driver.ErrNotHeld)
	case !doubt && !cl.suspect:
		return nil
	}
	if err := c.confirm(ctx, cl); err != nil {
		c.mu.Lock()
		cl.begun = false
		c.mu.Unlock()
		return fmt.Errorf("sqlite: begin: %w", err)
	}
	return nil
}

// confirm renews the lease and makes sure of a claim; it records the start of a suspect.
func (c *consumer) confirm(ctx context.Context, cl *claim) error {
	var held, alive bool
	now := time.Now().UnixMilli()
	o := &op{count: 1, durable: cl.suspect}
	o.run = func(tx *conn) error {
		var err error
		if alive, err = renew(tx, cl.owner, now); err != nil {
			return err
		}
		n, err := tx.exec("UPDATE dramatiq_messages SET started = suspect WHERE id = ? AND owner = ? AND claim = ?",
			cl.id, cl.owner, cl.number)
		held = n == 1
		return err
	}
	o.after = func() { c.renewedAt(cl.owner, now, alive) }
	if err := c.d.writer.do(ctx, o); err != nil {
		return err
	}
	if !held {
		c.mu.Lock()
		if c.held[cl.id] == cl {
			delete(c.held, cl.id)
		}
		c.mu.Unlock()
		return driver.ErrNotHeld
	}
	return nil
}
