package driver

import (
	"context"
	"time"
)

// Inspector is an optional capability of a Driver: looking at what is stored, without claiming it.
type Inspector interface {
	// Stats counts what is stored in a queue.
	Stats(ctx context.Context, queue string) (Stats, error)
	// DeadLetters returns up to limit dead letters of a queue, oldest first, after the given id; "" starts at the oldest.
	DeadLetters(ctx context.Context, queue, after string, limit int) ([]DeadLetter, error)
}

// Stats counts the messages of one queue.
type Stats struct {
	Waiting int // due and unclaimed
	Delayed int // not yet due
	Claimed int // handed to a consumer and not settled
	Dead    int // in the dead-letter queue
}

// DeadLetter is a message that will not run again by itself.
type DeadLetter struct {
	ID    string // the store's own, for paging and for replay
	Queue string // canonical
	Body  []byte
	Died  time.Time
	Death Death
}
