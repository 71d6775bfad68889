package wire

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
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
// options that are no object, which crash Python's consumers. A missing message_id or message_timestamp is made up;
// args given as an object or a string become its keys or characters.
func (JSON) Decode(data []byte) (*Envelope, error) {
	if err := checkText(data); err != nil {
		return nil, err
	}
	s := scanner{data: data}
	if s.peek() != '{' {
		return nil, s.fail("expected an object")
	}
	e := &Envelope{}
	var d decoding
	err := s.object(MaxDepth, func(name, value []byte) error {
		return d.member(e, s.pos, name, value)
	})
	if err != nil {
		return nil, err
	}
	if err := s.end(); err != nil {
		return nil, err
	}
	return e, d.finish(e)
}

// decoding remembers which members were seen.
type decoding struct {
	queue, actor, args, kwargs, options, id, timestamp bool
}

func (d *decoding) member(e *Envelope, pos int, quoted, value []byte) (err error) {
	name, err := unquote(quoted)
	if err != nil {
		return err
	}
	switch name {
	case memberQueue:
		d.queue = true
		e.Queue, err = textMember(name, pos, value)
	case memberActor:
		d.actor = true
		e.Actor, err = textMember(name, pos, value)
	case memberArgs:
		d.args = true
		e.Args, err = argsMember(pos, value)
	case memberKwargs:
		d.kwargs = true
		e.Kwargs = value
	case memberOptions:
		d.options = true
		e.Options, err = optionsMember(pos, value)
	case memberID:
		d.id = true
		e.ID, err = idMember(pos, value)
	case memberTimestamp:
		d.timestamp = true
		e.Timestamp, err = timestampMember(pos, value)
	default:
		return &DecodeError{Offset: pos, Reason: fmt.Sprintf("unknown member %q", name)}
	}
	return err
}

func (d *decoding) finish(e *Envelope) error {
	for _, m := range []struct {
		seen bool
		name string
	}{
		{d.queue, memberQueue},
		{d.actor, memberActor},
		{d.args, memberArgs},
		{d.kwargs, memberKwargs},
		{d.options, memberOptions},
	} {
		if !m.seen {
			return &DecodeError{Reason: fmt.Sprintf("member %q is missing", m.name)}
		}
	}
	if !d.id {
		e.ID = NewID()
	}
	if !d.timestamp {
		e.Timestamp = time.Now().UnixMilli()
	}
	return nil
}

func textMember(name string, pos int, value []byte) (string, error) {
	if value[0] != '"' {
		return "", &DecodeError{Offset: pos, Reason: fmt.Sprintf("%s is not a string", name)}
	}
	return unquote(value)
}

func argsMember(pos int, value []byte) (json.RawMessage, error) {
	switch value[0] {
	case '[':
		return value, nil
	case '{': // Python makes a tuple of the keys
		members, err := SplitObject(value)
		if err != nil {
			return nil, err
		}
		names := make([]string, len(members))
		for i, m := range members {
			names[i] = m.Name
		}
		return appendStrings(nil, names), nil
	case '"': // and of the characters
		text, err := unquote(value)
		if err != nil {
			return nil, err
		}
		chars := make([]string, 0, len(text))
		for _, r := range text {
			chars = append(chars, string(r))
		}
		return appendStrings(nil, chars), nil
	}
	return nil, &DecodeError{Offset: pos, Reason: "args is not an array"}
}

func appendStrings(dst []byte, texts []string) []byte {
	dst = append(dst, '[')
	for i, t := range texts {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, t)
	}
	return append(dst, ']')
}

func optionsMember(pos int, value []byte) (Options, error) {
	if value[0] != '{' {
		return Options{}, &DecodeError{Offset: pos, Reason: "options is not an object"}
	}
	members, err := SplitObject(value)
	return Options{members: members}, err
}

func idMember(pos int, value []byte) (string, error) {
	switch c := value[0]; {
	case c == 'n', string(value) == `""`: // Python goes on without an id; here every message has one
		return NewID(), nil
	case c == '"':
		return unquote(value)
	case c == '-' || '0' <= c && c <= '9':
		return string(value), nil
	}
	return "", &DecodeError{Offset: pos, Reason: "message_id is neither a string nor a number"}
}

func timestampMember(pos int, value []byte) (int64, error) {
	if n, err := strconv.ParseInt(string(value), 10, 64); err == nil {
		return n, nil
	}
	f, ok := ParseNumber(value)
	if !ok || math.IsNaN(f) || math.Abs(f) >= math.MaxInt64 {
		return 0, &DecodeError{Offset: pos, Reason: "message_timestamp is not a number of milliseconds"}
	}
	return int64(f), nil
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
		if at, seen := places[m.Name]; seen {
			kept[at].Value = m.Value
			continue
		}
		places[m.Name] = len(kept)
		kept = append(kept, m)
	}
	return kept
}

// Check returns an error unless raw is exactly one JSON value as Python reads it.
func Check(raw json.RawMessage) error {
	if err := checkText(raw); err != nil {
		return err
	}
	s := scanner{data: raw}
	if err := s.value(MaxDepth); err != nil {
		return err
	}
	return s.end()
}
