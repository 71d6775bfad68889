// Package wire is Dramatiq's message envelope: the seven-member JSON object that Go and Python share (protocol
// section 1). It decodes what Python accepts, keeps arguments and options as raw bytes and writes them back verbatim, so
// that a message that is retried, promoted or dead-lettered by Go reads in Python as if Go had never touched it.
//
// Drivers and middleware use it; users of the dramatiq package rarely need it.
package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// MaxDepth is how deeply an envelope's JSON may nest, itself included. Python's own limit with its default settings lies
// between 990 and 1100 levels (protocol 1.3).
const MaxDepth = 1000

var (
	// ErrUndecodable is wrapped by every error of Decode.
	ErrUndecodable = errors.New("undecodable envelope")
	// ErrTooDeep is wrapped, beside ErrUndecodable, when an envelope nests deeper than MaxDepth.
	ErrTooDeep = errors.New("nested too deeply")
)

// Envelope is one message. Its raw members must hold valid JSON as Python's json module understands it, which includes
// NaN, Infinity and -Infinity; they are written back byte for byte. A decoded envelope shares memory with the bytes that
// it was decoded from, so neither may be written to; to change an argument, replace the whole member.
type Envelope struct {
	// Queue is the queue the message is stored in: its own, or that queue's delay queue while a delay runs.
	Queue string
	// Actor names the actor that runs the message.
	Actor string
	// Args is a JSON array of positional arguments; empty means [].
	Args json.RawMessage
	// Kwargs is a JSON object of keyword arguments; empty means {}.
	Kwargs json.RawMessage
	// Options holds reserved and free options (protocol 1.7).
	Options Options
	// ID identifies the job for its whole life, over delays, retries and redeliveries.
	ID string
	// Timestamp is when the message was built, in milliseconds since the Unix epoch. It never changes.
	Timestamp int64
}

// Clone returns a copy whose options can be changed without changing e's. Raw JSON is shared.
func (e *Envelope) Clone() *Envelope {
	c := *e
	c.Options = e.Options.Clone()
	return &c
}

// MarshalJSON implements json.Marshaler, for envelopes as arguments. Package encoding/json refuses NaN and the infinities
// inside.
func (e *Envelope) MarshalJSON() ([]byte, error) { return JSON{}.Append(nil, e) }

// UnmarshalJSON implements json.Unmarshaler, for envelopes as arguments, such as those of callbacks.
func (e *Envelope) UnmarshalJSON(data []byte) error {
	d, err := JSON{}.Decode(bytes.Clone(data))
	if err != nil {
		return err
	}
	*e = *d
	return nil
}

// Encoder turns envelopes into the bytes that a broker stores, and back. All producers and workers of a queue must use
// the same one; only JSON is understood by Python. Implementations must be safe for concurrent use.
type Encoder interface {
	// Append appends the encoded envelope to dst. An error means that e cannot be encoded; it loses nothing.
	Append(dst []byte, e *Envelope) ([]byte, error)
	// Decode reads one envelope, which may share memory with data. Its errors wrap ErrUndecodable.
	Decode(data []byte) (*Envelope, error)
}

// JSON is the encoder that Python Dramatiq uses by default.
type JSON struct{}

var _ Encoder = JSON{}

// DecodeError says where and why bytes are no envelope. It wraps ErrUndecodable.
type DecodeError struct {
	Offset int    // position of the first offending byte
	Reason string // what is wrong there
	deep   bool
}

// Error implements error.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("%v: %s at offset %d", ErrUndecodable, e.Reason, e.Offset)
}

// Is makes errors.Is find ErrUndecodable and, where it applies, ErrTooDeep.
func (e *DecodeError) Is(target error) bool {
	return target == ErrUndecodable || e.deep && target == ErrTooDeep
}
