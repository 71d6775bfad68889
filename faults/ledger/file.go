package ledger

import (
	"bytes"
	"context"
	"fmt"
	"os"
)

// File is a store in a local file with one line per entry. Each line is appended by a single write, so that many
// processes can share the file and a kill leaves no half line behind. What was appended survives the death of every
// process, not that of the machine.
type File struct {
	path string
	file *os.File
}

var _ Store = (*File)(nil)

// OpenFile opens a ledger, and creates it where there is none.
func OpenFile(path string) (*File, error) {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return &File{path: path, file: file}, nil
}

// Append adds an entry.
func (f *File) Append(_ context.Context, entry Entry) error {
	data, err := encode(entry)
	if err != nil {
		return err
	}
	if _, err := f.file.Write(append(data, '\n')); err != nil {
		return fmt.Errorf("ledger: append: %w", err)
	}
	return nil
}

// Entries returns everything that was appended so far. A last line without its end is still being written and left out.
func (f *File) Entries(context.Context) ([]Entry, error) {
	data, err := os.ReadFile(f.path)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	var entries []Entry
	for {
		line, rest, complete := bytes.Cut(data, []byte("\n"))
		if !complete {
			return entries, nil
		}
		entry, err := decode(line, len(entries)+1)
		if err != nil {
			return nil, err
		}
		entries, data = append(entries, entry), rest
	}
}

// Close closes the file.
func (f *File) Close() error {
	if err := f.file.Close(); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return nil
}
