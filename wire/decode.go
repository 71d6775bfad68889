package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// Names of the envelope's members, in the order in which Python writes them.
const (
	memberQueue     = "queue_name"
	memberActor     = "actor_name"
	memberArgs      = "args"
	memberKwargs    = "kwargs"
	memberOptions   = "options"
	memberID        = "message_id"
	memberTimestamp = "message_timestamp"
)

// Decode reads an envelope as a Python worker would (protocol 1.1 and 1.3). It refuses what Python refuses and also
// names, kwargs and options of a wrong type, with which Python's workers fail later, or crash. A missing message_id or
// message_timestamp is made up; args given as an object or a string become its keys or characters.
func (JSON) Decode(data []byte) (*Envelope, error) {
	if err := checkText(data); err != nil {
		return nil, err
	}
	s := scanner{data: data}
	if s.peek() != '{' {
		return nil, s.fail("expected an object")
	}
	var d decoding
	err := s.object(MaxDepth, func(name, value []byte) error {
		return d.member(s.pos, name, value)
	})
	if err != nil {
		return nil, err
	}
	if err := s.end(); err != nil {
		return nil, err
	}
	return d.envelope()
}

// decoding holds the members as they were found. Of several members of one name only the last counts, so they are looked
// into at the end.
type decoding struct {
	queue, actor, args, kwargs, options, id, timestamp found
}

// found is a member's value and where it ends.
type found struct {
	value []byte
	pos   int
}

func (d *decoding) member(pos int, quoted, value []byte) error {
	name := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		text, err := unquote(quoted)
		if err != nil {
			return err
		}
		name = []byte(text)
	}
	f := found{value, pos}
	switch string(name) {
	case memberQueue:
		d.queue = f
	case memberActor:
		d.actor = f
	case memberArgs:
		d.args = f
	case memberKwargs:
		d.kwargs = f
	case memberOptions:
		d.options = f
	case memberID:
		d.id = f
	case memberTimestamp:
		d.timestamp = f
	default:
		return &DecodeError{Offset: pos, Reason: fmt.Sprintf("unknown member %q", name)}
	}
	return nil
}

func (d *decoding) envelope() (*Envelope, error) {
	for _, m := range []struct {
		name  string
		value []byte
	}{
		{memberQueue, d.queue.value},
		{memberActor, d.actor.value},
		{memberArgs, d.args.value},
		{memberKwargs, d.kwargs.value},
		{memberOptions, d.options.value},
	} {
		if m.value == nil {
			return nil, &DecodeError{Reason: fmt.Sprintf("member %q is missing", m.name)}
		}
	}
	e := &Envelope{}
	var err error
	if e.Queue, err = textMember(memberQueue, d.queue); err != nil {
		return nil, err
	}
	if e.Actor, err = textMember(memberActor, d.actor); err != nil {
		return nil, err
	}
	if e.Args, err = argsMember(d.args); err != nil {
		return nil, err
	}
	if e.Kwargs, err = kwargsMember(d.kwargs); err != nil {
		return nil, err
	}
	if e.Options, err = optionsMember(d.options); err != nil {
		return nil, err
	}
	if e.ID, err = idMember(d.id); err != nil {
		return nil, err
	}
	if e.Timestamp, err = timestampMember(d.timestamp); err != nil {
		return nil, err
	}
	return e, nil
}

func (f found) fail(reason string) error {
	return &DecodeError{Offset: f.pos, Reason: reason}
}

func textMember(name string, f found) (string, error) {
	if f.value[0] != '"' {
		return "", f.fail(name + " is not a string")
	}
	return unquote(f.value)
}

func argsMember(f found) (json.RawMessage, error) {
	switch f.value[0] {
	case '[':
		return f.value, nil
	case '{': // Python makes a tuple of the keys
		members, err := SplitObject(f.value)
		if err != nil {
			return nil, err
		}
		args := []byte{'['}
		for i, m := range members {
			if i > 0 {
				args = append(args, ',')
			}
			args = append(args, m.quoted...)
		}
		return append(args, ']'), nil
	case '"': // and of the characters
		return characters(f.value), nil
	}
	return nil, f.fail("args is not an array")
}

// characters returns an array of a JSON string's characters, as Python's tuple() has it.
func characters(quoted []byte) json.RawMessage {
	args := []byte{'['}
	units := codeUnits(quoted)
	for i := 0; i < len(units); i++ {
		if i > 0 {
			args = append(args, ',')
		}
		r := rune(units[i])
		switch {
		case !utf16.IsSurrogate(r):
			args = AppendString(args, string(r))
			continue
		case i+1 < len(units):
			if pair := utf16.DecodeRune(r, rune(units[i+1])); pair != utf8.RuneError {
				args = AppendString(args, string(pair))
				i++
				continue
			}
		}
		args = append(appendEscape(append(args, '"'), r), '"')
	}
	return append(args, ']')
}

func kwargsMember(f found) (json.RawMessage, error) {
	if c := f.value[0]; c != '{' && c != 'n' { // null is left to the call, which fails and is retried as in Python
		return nil, f.fail("kwargs is not an object")
	}
	return f.value, nil
}

func optionsMember(f found) (Options, error) {
	if f.value[0] != '{' {
		return Options{}, f.fail("options is not an object")
	}
	members, err := SplitObject(f.value)
	return Options{members: members}, err
}

func idMember(f found) (string, error) {
	if IsNull(f.value) || string(f.value) == `""` { // Python goes on without an id; here every message has one
		return NewID(), nil
	}
	if f.value[0] == '"' {
		return unquote(f.value)
	}
	if _, ok := ParseNumber(f.value); ok {
		return string(f.value), nil
	}
	return "", f.fail("message_id is neither a string nor a number")
}

func timestampMember(f found) (int64, error) {
	if f.value == nil {
		return time.Now().UnixMilli(), nil
	}
	if n, err := strconv.ParseInt(string(f.value), 10, 64); err == nil {
		return n, nil
	}
	ms, ok := ParseNumber(f.value)
	if !ok || math.IsNaN(ms) || math.Abs(ms) >= math.MaxInt64 {
		return 0, f.fail("message_timestamp is not a number of milliseconds")
	}
	return int64(ms), nil
}

// unquote returns the text of a scanned JSON string. A lone surrogate becomes U+FFFD, for want of a Go text that can
// hold one; callers that write the value back keep the raw bytes instead.
func unquote(quoted []byte) (string, error) {
	inner := quoted[1 : len(quoted)-1]
	plain := true
	for _, c := range inner {
		if c == '\\' || c >= utf8.RuneSelf {
			plain = false
			break
		}
	}
	if plain {
		return string(inner), nil
	}
	var text string
	if err := json.Unmarshal(quoted, &text); err != nil {
		return "", &DecodeError{Reason: err.Error()}
	}
	return text, nil
}

// codeUnits returns the UTF-16 code units of a scanned JSON string, which hold what Python sees: lone surrogates too.
func codeUnits(quoted []byte) []uint16 {
	inner := quoted[1 : len(quoted)-1]
	units := make([]uint16, 0, len(inner))
	for i := 0; i < len(inner); {
		if inner[i] != '\\' {
			r, size := utf8.DecodeRune(inner[i:])
			units = utf16.AppendRune(units, r)
			i += size
			continue
		}
		if inner[i+1] == 'u' {
			n, _ := strconv.ParseUint(string(inner[i+2:i+6]), 16, 16) // scanned before
			units = append(units, uint16(n))
			i += 6
			continue
		}
		units = append(units, unescaped(inner[i+1]))
		i += 2
	}
	return units
}

// unescaped returns what stands for a character after a backslash.
func unescaped(c byte) uint16 {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	default:
		return uint16(c)
	}
}

// key tells names apart exactly, also those that differ in lone surrogates only.
func (m *Member) key() string {
	if m.quoted == nil || !strings.ContainsRune(m.Name, utf8.RuneError) {
		return m.Name
	}
	key := []byte{0xff} // begins no name
	for _, u := range codeUnits(m.quoted) {
		key = append(key, byte(u>>8), byte(u))
	}
	return string(key)
}

// SplitArray returns the raw elements of a JSON array.
func SplitArray(raw json.RawMessage) ([]json.RawMessage, error) {
	s := scanner{data: raw}
	if s.peek() != '[' {
		return nil, s.fail("expected an array")
	}
	var elements []json.RawMessage
	if err := s.array(MaxDepth, func(value []byte) { elements = append(elements, value) }); err != nil {
		return nil, err
	}
	return elements, s.end()
}

// SplitObject returns the members of a JSON object in their order. Of several members of one name the last value
// counts, at the place of the first, as in Python.
func SplitObject(raw json.RawMessage) ([]Member, error) {
	s := scanner{data: raw}
	if s.peek() != '{' {
		return nil, s.fail("expected an object")
	}
	var members []Member
	err := s.object(MaxDepth, func(quoted, value []byte) error {
		name, err := unquote(quoted)
		members = append(members, Member{Name: name, Value: value, quoted: quoted})
		return err
	})
	if err != nil {
		return nil, err
	}
	return lastWins(members), s.end()
}

// lastWins keeps the first place and the last value of each name.
func lastWins(members []Member) []Member {
	if len(members) < 2 {
		return members
	}
	places := make(map[string]int, len(members))
	kept := members[:0]
	for _, m := range members {
		key := m.key()
		if at, seen := places[key]; seen {
			kept[at].Value = m.Value
			continue
		}
		places[key] = len(kept)
		kept = append(kept, m)
	}
	return kept
}

// Check returns an error unless raw is exactly one JSON value as Python reads it, which fits into an envelope.
func Check(raw json.RawMessage) error {
	if err := checkText(raw); err != nil {
		return err
	}
	s := scanner{data: raw}
	if err := s.value(MaxDepth - 1); err != nil { // the envelope is a level of its own
		return err
	}
	return s.end()
}

// Check returns an error if e's raw members are not what an envelope holds: an array, an object, and options of one value
// each.
func (e *Envelope) Check() error {
	for _, m := range []struct {
		name  string
		raw   json.RawMessage
		first byte
	}{
		{memberArgs, e.Args, '['},
		{memberKwargs, e.Kwargs, '{'},
	} {
		if len(m.raw) == 0 {
			continue
		}
		if err := Check(m.raw); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		if s := (scanner{data: m.raw}); s.peek() != m.first {
			return fmt.Errorf("%s: %w", m.name, s.fail("expected "+string(m.first)))
		}
	}
	for name, raw := range e.Options.All() {
		if err := Check(raw); err != nil {
			return fmt.Errorf("option %s: %w", name, err)
		}
	}
	return nil
}
