package sqlite

import (
	"context"
	"time"
)

const (
	// hungry is after how many vain attempts a writer asks the others to let it go first.
	hungry = 3
	// courtesy is how long a writer lets one that asks go first. One that asks for longer is stopped or broken, and is not
	// listened to for rudeness.
	courtesy = 50 * time.Millisecond
	rudeness = time.Second
)

// turn keeps a process that commits back to back from starving the others: SQLite's lock goes to whoever comes at the right
// moment, and that is rarely one who has to sleep between attempts. A hungry writer locks the file <database>.d/turn, and
// the others wait for it before their next transaction. It is advice: without it all goes on, less fairly.
type turn struct {
	lock      *turnLock // nil where there is none
	asking    bool
	deafUntil time.Time
}

// yield waits while another process asks for its turn.
func (t *turn) yield(ctx context.Context) {
	if t.lock == nil || t.asking || time.Now().Before(t.deafUntil) {
		return
	}
	deadline := time.Now().Add(courtesy)
	for t.lock.asked() {
		if time.Now().After(deadline) {
			t.deafUntil = time.Now().Add(rudeness)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause(0)):
		}
	}
}

// ask asks the others to wait, after n vain attempts. Only one can ask at a time.
func (t *turn) ask(n int) {
	if t.lock != nil && n >= hungry && !t.asking {
		t.asking = t.lock.ask()
	}
}

// got ends asking, once the lock of the database is ours or no longer wanted.
func (t *turn) got() {
	if t.asking {
		t.asking = false
		t.lock.unask()
	}
}

func (t *turn) close() {
	t.got()
	if t.lock != nil {
		t.lock.close()
	}
}
