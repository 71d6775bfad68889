package ledger

import (
	"context"
	"fmt"
	"strconv"

	"github.com/dramatiq-go/dramatiq/faults/internal/resp"
)

// DefaultKey is the Redis list in which both languages look for the ledger unless they are told another one.
const DefaultKey = "interop:ledger"

// page is how many entries are read at a time.
const page = 5_000

// Redis is a store in a Redis list.
type Redis struct {
	client *resp.Client
	key    string
}

var _ Store = (*Redis)(nil)

// NewRedis returns a ledger in the list with the given key, "" for [DefaultKey], at a redis:// or unix:// URL. It connects
// at the first call. A call whose context has no deadline fails after five seconds.
func NewRedis(url, key string) (*Redis, error) {
	if key == "" {
		key = DefaultKey
	}
	client, err := resp.New(url)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return &Redis{client: client, key: key}, nil
}

// Append adds an entry.
func (r *Redis) Append(ctx context.Context, entry Entry) error {
	data, err := encode(entry)
	if err != nil {
		return err
	}
	if _, err := r.client.Do(ctx, "RPUSH", r.key, string(data)); err != nil {
		return fmt.Errorf("ledger: append: %w", err)
	}
	return nil
}

// Entries returns everything that was appended so far.
func (r *Redis) Entries(ctx context.Context) ([]Entry, error) {
	var entries []Entry
	for {
		from := len(entries)
		reply, err := r.client.Do(ctx, "LRANGE", r.key, strconv.Itoa(from), strconv.Itoa(from+page-1))
		if err != nil {
			return nil, fmt.Errorf("ledger: read: %w", err)
		}
		lines, ok := reply.([]any)
		if !ok {
			return nil, fmt.Errorf("ledger: read: unexpected reply of type %T", reply)
		}
		for _, line := range lines {
			text, ok := line.(string)
			if !ok {
				return nil, fmt.Errorf("ledger: read: unexpected element of type %T", line)
			}
			entry, err := decode([]byte(text), len(entries)+1)
			if err != nil {
				return nil, err
			}
			entries = append(entries, entry)
		}
		if len(lines) < page {
			return entries, nil
		}
	}
}

// Delete removes the whole list: each test has a key of its own and deletes it in the end.
func (r *Redis) Delete(ctx context.Context) error {
	if _, err := r.client.Do(ctx, "DEL", r.key); err != nil {
		return fmt.Errorf("ledger: delete: %w", err)
	}
	return nil
}

// Close closes the connection.
func (r *Redis) Close() error {
	if err := r.client.Close(); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return nil
}
