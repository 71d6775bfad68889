// Package ledger is the record of runs that the proofs rely on. Every run of every actor, in either language, appends to a
// store that is independent of the broker under test. A run is recorded twice, when it starts and when it ends, so that
// runs cut short by a kill can be seen.
package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/dramatiq-go/dramatiq/wire"
)

// The outcomes of a run.
const (
	Started = "started" // the first of a run's two entries; it has no end
	OK      = "ok"      // the handler returned
	Failed  = "error"   // the handler failed: a retry or the dead-letter queue follows
)

// Entry is one line of the ledger. Peers in other languages write the same JSON.
type Entry struct {
	Actor     string          `json:"actor"`
	MessageID string          `json:"message_id"`
	Lang      string          `json:"lang"` // "go" or "python"
	PID       int             `json:"pid"`
	Attempt   int             `json:"attempt"`
	StartMS   int64           `json:"start_ms"` // milliseconds since 1970
	EndMS     int64           `json:"end_ms"`   // 0 while Outcome is Started
	Outcome   string          `json:"outcome"`
	Args      json.RawMessage `json:"args"`
	Kwargs    json.RawMessage `json:"kwargs"`
}

// Store keeps entries in the order in which they were appended. It is safe for concurrent use by many processes.
type Store interface {
	// Append adds an entry. After an error the entry may or may not have been stored.
	Append(ctx context.Context, entry Entry) error
	// Entries returns everything that was appended so far, by whomever.
	Entries(ctx context.Context) ([]Entry, error)
	// Close releases the store's connection or file.
	Close() error
}

// Record runs a handler and records it: a start entry before it begins, the full entry when it has ended. Language,
// process id, times and outcome are filled in. It returns the handler's error; a run that cannot be recorded is an error
// too, and does not start if it was the start that could not be recorded.
func Record(ctx context.Context, store Store, entry Entry, handler func() error) error {
	entry.Lang, entry.PID = "go", os.Getpid()
	entry.StartMS, entry.EndMS, entry.Outcome = time.Now().UnixMilli(), 0, Started
	if err := store.Append(ctx, entry); err != nil {
		return err
	}
	failure := handler()
	entry.EndMS, entry.Outcome = time.Now().UnixMilli(), OK
	if failure != nil {
		entry.Outcome = Failed
	}
	// A handler that was cancelled has ended all the same.
	if err := store.Append(context.WithoutCancel(ctx), entry); err != nil && failure == nil {
		return err
	}
	return failure
}

// Runs joins the two entries of each run: the result has one entry per run, in the order of the starts' appearance, whose
// outcome is Started where the end is missing. A peer that records only ends is understood too.
func Runs(entries []Entry) []Entry {
	type key struct {
		actor, message, lang string
		pid, attempt         int
		start                int64
	}
	var runs []Entry
	open := make(map[key][]int) // started runs without an end, oldest first
	for _, entry := range entries {
		k := key{entry.Actor, entry.MessageID, entry.Lang, entry.PID, entry.Attempt, entry.StartMS}
		switch waiting := open[k]; {
		case entry.Outcome == Started:
			open[k] = append(waiting, len(runs))
			runs = append(runs, entry)
		case len(waiting) > 0:
			runs[waiting[0]] = entry
			open[k] = waiting[1:]
		default:
			runs = append(runs, entry)
		}
	}
	return runs
}

func encode(entry Entry) ([]byte, error) {
	data, err := json.Marshal(entry)
	if err != nil {
		return nil, fmt.Errorf("ledger: encode: %w", err)
	}
	return data, nil
}

func decode(data []byte, position int) (Entry, error) {
	entry, err := parse(data)
	if err != nil {
		return Entry{}, fmt.Errorf("ledger: entry %d: %w", position, err)
	}
	return entry, nil
}

// parse reads an entry whose arguments may hold what Python's JSON has and encoding/json refuses, such as NaN. They stay as
// they are.
func parse(data []byte) (Entry, error) {
	members, err := wire.SplitObject(data)
	if err != nil {
		return Entry{}, err
	}
	var args, kwargs json.RawMessage
	rest := []byte{'{'}
	for _, m := range members {
		switch m.Name {
		case "args":
			args = m.Value
		case "kwargs":
			kwargs = m.Value
		default:
			if len(rest) > 1 {
				rest = append(rest, ',')
			}
			rest = append(wire.AppendString(rest, m.Name), ':')
			rest = append(rest, m.Value...)
		}
	}
	entry := Entry{}
	if err := json.Unmarshal(append(rest, '}'), &entry); err != nil {
		return Entry{}, err
	}
	entry.Args, entry.Kwargs = args, kwargs
	return entry, nil
}
