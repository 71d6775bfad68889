package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/wire"
)

// deadLetterTTL is how long dead letters are kept, in milliseconds: Python's seven days.
const deadLetterTTL = 7 * 24 * 60 * 60 * 1000

// maxQueueName leaves room for the suffix of a derived queue in AMQP's short strings.
const maxQueueName = 255 - len(".DQ")

// topology declares queues over one connection and remembers which it has declared.
type topology struct {
	conn        *amqp.Connection
	maxPriority int
	turn        chan struct{} // holds a token while somebody declares

	mu       sync.Mutex // guards below
	declared map[string]bool
}

func newTopology(conn *amqp.Connection, maxPriority int) *topology {
	return &topology{
		conn: conn, maxPriority: maxPriority, turn: make(chan struct{}, 1), declared: make(map[string]bool),
	}
}

// forget makes ensure declare the queues anew.
func (t *topology) forget(queues ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, queue := range queues {
		delete(t.declared, queue)
	}
}

// missing returns the queues that are not known to be declared, each once.
func (t *topology) missing(queues []string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var missing []string
	seen := make(map[string]bool)
	for _, queue := range queues {
		if !t.declared[queue] && !seen[queue] {
			seen[queue] = true
			missing = append(missing, queue)
		}
	}
	return missing
}

// ensure declares the queues that are not declared yet. It returns the queues that failed with their errors, or an error
// if it could not find out.
func (t *topology) ensure(ctx context.Context, queues []string) (map[string]error, error) {
	if len(t.missing(queues)) == 0 {
		return nil, nil
	}
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return await(ctx, func() (map[string]error, error) {
		defer func() { <-t.turn }()
		return t.declare(t.missing(queues))
	})
}

func (t *topology) declare(queues []string) (map[string]error, error) {
	failed := make(map[string]error)
	var ch *amqp.Channel
	defer func() {
		if ch != nil {
			_ = ch.Close() // it has served its purpose
		}
	}()
	for _, queue := range queues {
		if err := checkQueueName(queue); err != nil {
			failed[queue] = err
			continue
		}
		if ch == nil || ch.IsClosed() { // a refused declaration closes its channel
			var err error
			if ch, err = t.conn.Channel(); err != nil {
				return nil, err
			}
		}
		err := t.declareOne(ch, queue)
		switch {
		case err == nil:
			t.mu.Lock()
			t.declared[queue] = true
			t.mu.Unlock()
		case t.conn.IsClosed():
			return nil, err
		default:
			failed[queue] = err
		}
	}
	return failed, nil
}

// declareOne declares a queue and what belongs to it exactly as Python does (protocol 3.1): any difference makes the
// server refuse whoever comes second.
func (t *topology) declareOne(ch *amqp.Channel, queue string) error {
	args := amqp.Table{
		"x-dead-letter-exchange":    "",
		"x-dead-letter-routing-key": wire.DeadQueue(queue),
	}
	if t.maxPriority > 0 {
		args["x-max-priority"] = int32(t.maxPriority)
	}
	for _, q := range []struct {
		name string
		args amqp.Table
	}{
		{queue, args},
		{wire.DelayQueue(queue), args},
		{wire.DeadQueue(queue), amqp.Table{"x-message-ttl": int32(deadLetterTTL)}},
	} {
		if _, err := ch.QueueDeclare(q.name, true, false, false, false, q.args); err != nil {
			return t.refused(q.name, err)
		}
	}
	return nil
}

func (t *topology) refused(queue string, err error) error {
	var refusal *amqp.Error
	if errors.As(err, &refusal) && refusal.Code == amqp.PreconditionFailed {
		return fmt.Errorf("%w: queue %q exists with other arguments than a max_priority of %d (0 is none) and a "+
			"dead-letter TTL of %d ms give: set the same in every Go and Python process of the queue, or delete the queue "+
			"once it is empty: the server says: %w", driver.ErrMisconfigured, queue, t.maxPriority, deadLetterTTL, refusal)
	}
	return fmt.Errorf("declare queue %q: %w", queue, err)
}

func checkQueueName(queue string) error {
	if err := wire.CheckQueueName(queue); err != nil {
		return err
	}
	if len(queue) > maxQueueName {
		return fmt.Errorf("queue name of %d bytes is longer than %d", len(queue), maxQueueName)
	}
	return nil
}
