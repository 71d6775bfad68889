package wire

import (
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Append writes the envelope with its members in Python's order and without spaces. Raw members are copied as they are;
// empty ones become [] and {}.
func (JSON) Append(dst []byte, e *Envelope) ([]byte, error) {
	if e.Queue == "" || e.Actor == "" || e.ID == "" {
		return nil, fmt.Errorf("encode envelope: queue name, actor name and message id must not be empty")
	}
	dst = append(dst, `{"queue_name":`...)
	dst = AppendString(dst, e.Queue)
	dst = append(dst, `,"actor_name":`...)
	dst = AppendString(dst, e.Actor)
	dst = append(dst, `,"args":`...)
	dst = appendRaw(dst, e.Args, "[]")
	dst = append(dst, `,"kwargs":`...)
	dst = appendRaw(dst, e.Kwargs, "{}")
	dst = append(dst, `,"options":`...)
	dst = e.Options.append(dst)
	dst = append(dst, `,"message_id":`...)
	dst = AppendString(dst, e.ID)
	dst = append(dst, `,"message_timestamp":`...)
	dst = strconv.AppendInt(dst, e.Timestamp, 10)
	return append(dst, '}'), nil
}

func appendRaw(dst []byte, raw json.RawMessage, empty string) []byte {
	if len(raw) == 0 {
		return append(dst, empty...)
	}
	return append(dst, raw...)
}

func (o *Options) append(dst []byte) []byte {
	dst = append(dst, '{')
	for i := range o.members {
		if i > 0 {
			dst = append(dst, ',')
		}
		if quoted := o.members[i].quoted; quoted != nil {
			dst = append(dst, quoted...)
		} else {
			dst = AppendString(dst, o.members[i].Name)
		}
		dst = append(dst, ':')
		dst = appendRaw(dst, o.members[i].Value, "null")
	}
	return append(dst, '}')
}

const hexDigits = "0123456789abcdef"

// AppendString appends text as a JSON string. Everything outside printable ASCII is escaped as Python does (protocol
// 1.2); bytes that are not UTF-8 become U+FFFD.
func AppendString(dst []byte, text string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= 0x20 && c < 0x7f && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, text[start:i]...)
		size := 1
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c == '\b':
			dst = append(dst, `\b`...)
		case c == '\f':
			dst = append(dst, `\f`...)
		case c < utf8.RuneSelf:
			dst = appendEscape(dst, rune(c))
		default:
			var r rune
			r, size = utf8.DecodeRuneInString(text[i:])
			if r >= 0x10000 {
				r -= 0x10000
				dst = appendEscape(dst, 0xd800+r>>10)
				r = 0xdc00 + r&0x3ff
			}
			dst = appendEscape(dst, r)
		}
		i += size
		start = i
	}
	dst = append(dst, text[start:]...)
	return append(dst, '"')
}

func appendEscape(dst []byte, r rune) []byte {
	return append(dst, '\\', 'u', hexDigits[r>>12&0xf], hexDigits[r>>8&0xf], hexDigits[r>>4&0xf], hexDigits[r&0xf])
}

// AppendElement returns a new array that holds array's elements and then element, all byte for byte. array must be
// valid JSON; empty means [].
func AppendElement(array, element json.RawMessage) (json.RawMessage, error) {
	if len(array) == 0 {
		array = json.RawMessage("[]")
	}
	s := scanner{data: array}
	if s.peek() != '[' {
		return nil, s.fail("expected an array")
	}
	count := 0
	if err := s.array(MaxDepth, func([]byte) { count++ }); err != nil {
		return nil, err
	}
	out := make(json.RawMessage, 0, len(array)+len(element)+1)
	out = append(out, array[:s.pos-1]...)
	if count > 0 {
		out = append(out, ',')
	}
	out = append(out, element...)
	return append(out, ']'), nil
}
