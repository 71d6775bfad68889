package wire

import (
	"bytes"
	"encoding/json"
	"iter"
	"math"
	"slices"
	"strconv"
)

// Options is the ordered set of a message's options. Values are raw JSON. The zero value is empty and ready to use;
// copies share members until one of them is changed through Clone.
type Options struct {
	members []Member
}

// Member is one name and value of a JSON object.
type Member struct {
	Name  string
	Value json.RawMessage

	quoted []byte // the name as it was received, which may hold what a Go string cannot
}

// Len returns how many options there are.
func (o *Options) Len() int { return len(o.members) }

// All yields the options in their order.
func (o *Options) All() iter.Seq2[string, json.RawMessage] {
	return func(yield func(string, json.RawMessage) bool) {
		for _, m := range o.members {
			if !yield(m.Name, m.Value) {
				return
			}
		}
	}
}

// Get returns the raw value of an option and whether it is present; null counts as present.
func (o *Options) Get(name string) (json.RawMessage, bool) {
	for i := range o.members {
		if o.members[i].Name == name {
			return o.members[i].Value, true
		}
	}
	return nil, false
}

// Set adds an option or replaces its value in place. value must be valid JSON.
func (o *Options) Set(name string, value json.RawMessage) {
	for i := range o.members {
		if o.members[i].Name == name {
			o.members[i].Value = value
			return
		}
	}
	o.members = append(o.members, Member{Name: name, Value: value})
}

// SetInt sets an integer option.
func (o *Options) SetInt(name string, value int64) {
	o.Set(name, strconv.AppendInt(nil, value, 10))
}

// SetString sets a text option.
func (o *Options) SetString(name, value string) {
	o.Set(name, AppendString(nil, value))
}

// Delete removes an option if it is there.
func (o *Options) Delete(name string) {
	o.members = slices.DeleteFunc(o.members, func(m Member) bool { return m.Name == name })
}

// Clone returns an independent copy.
func (o *Options) Clone() Options {
	return Options{members: slices.Clone(o.members)}
}

// Int returns a numeric option as an integer, truncating a fraction; ok is false when it is absent, null, not a number,
// or out of range.
func (o *Options) Int(name string) (value int64, ok bool) {
	raw, ok := o.Get(name)
	if !ok {
		return 0, false
	}
	if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
		return n, true
	}
	f, ok := ParseNumber(raw)
	if !ok || math.IsNaN(f) || f >= math.MaxInt64 || f <= math.MinInt64 {
		return 0, false
	}
	return int64(f), true
}

// Text returns a string option; ok is false when it is absent or not a string.
func (o *Options) Text(name string) (value string, ok bool) {
	raw, ok := o.Get(name)
	if !ok || len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	value, err := unquote(raw)
	return value, err == nil
}

// ParseNumber reads a JSON number as Python does, NaN and the infinities included.
func ParseNumber(raw json.RawMessage) (value float64, ok bool) {
	switch string(raw) {
	case "":
		return 0, false
	case "NaN":
		return math.NaN(), true
	case "Infinity":
		return math.Inf(1), true
	case "-Infinity":
		return math.Inf(-1), true
	}
	digits := bytes.TrimPrefix(raw, []byte("-"))
	if len(digits) == 0 || digits[0] < '0' || digits[0] > '9' { // ParseFloat knows more words than JSON
		return 0, false
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil && !math.IsInf(f, 0) { // 1e400 is infinity in Python too
		return 0, false
	}
	return f, true
}

// IsNull reports whether raw is absent or JSON's null.
func IsNull(raw json.RawMessage) bool {
	return len(raw) == 0 || bytes.Equal(raw, nullLiteral)
}

var nullLiteral = []byte("null") //nolint:gochecknoglobals // a constant that Go cannot express as one
