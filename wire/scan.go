package wire

import "unicode/utf8"

// scanner walks over JSON as Python's json module reads it: NaN, Infinity, -Infinity and lone surrogate escapes are
// values, control characters inside strings are not. It validates and finds spans; it converts nothing.
type scanner struct {
	data []byte
	pos  int
}

func (s *scanner) fail(reason string) error {
	return &DecodeError{Offset: s.pos, Reason: reason}
}

// peek skips white space and returns the next byte, or 0 at the end.
func (s *scanner) peek() byte {
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; c {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

// value skips one value, which may hold depth more levels.
func (s *scanner) value(depth int) error {
	switch c := s.peek(); c {
	case '"':
		return s.text()
	case '{':
		return s.object(depth, nil)
	case '[':
		return s.array(depth, nil)
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	case 'N':
		return s.literal("NaN")
	case 'I':
		return s.literal("Infinity")
	default:
		return s.number(c)
	}
}

// object skips an object; visit, if any, is told the spans of each member's quoted name and of its value.
func (s *scanner) object(depth int, visit func(name, value []byte) error) error {
	if depth <= 0 {
		return &DecodeError{Offset: s.pos, Reason: ErrTooDeep.Error(), deep: true}
	}
	s.pos++ // {
	if s.peek() == '}' {
		s.pos++
		return nil
	}
	for {
		if s.peek() != '"' {
			return s.fail("expected a member name in quotes")
		}
		nameStart := s.pos
		if err := s.text(); err != nil {
			return err
		}
		name := s.data[nameStart:s.pos]
		if s.peek() != ':' {
			return s.fail("expected a colon after a member name")
		}
		s.pos++
		s.peek()
		valueStart := s.pos
		if err := s.value(depth - 1); err != nil {
			return err
		}
		if visit != nil {
			if err := visit(name, s.data[valueStart:s.pos:s.pos]); err != nil {
				return err
			}
		}
		switch s.peek() {
		case ',':
			s.pos++
		case '}':
			s.pos++
			return nil
		default:
			return s.fail("expected a comma or a closing brace")
		}
	}
}

// array skips an array; visit, if any, is told the span of each element.
func (s *scanner) array(depth int, visit func(value []byte)) error {
	if depth <= 0 {
		return &DecodeError{Offset: s.pos, Reason: ErrTooDeep.Error(), deep: true}
	}
	s.pos++ // [
	if s.peek() == ']' {
		s.pos++
		return nil
	}
	for {
		s.peek()
		start := s.pos
		if err := s.value(depth - 1); err != nil {
			return err
		}
		if visit != nil {
			visit(s.data[start:s.pos:s.pos])
		}
		switch s.peek() {
		case ',':
			s.pos++
		case ']':
			s.pos++
			return nil
		default:
			return s.fail("expected a comma or a closing bracket")
		}
	}
}

// text skips a string, its quotes included.
func (s *scanner) text() error {
	data := s.data
	for i := s.pos + 1; i < len(data); i++ {
		switch c := data[i]; {
		case c == '"':
			s.pos = i + 1
			return nil
		case c == '\\':
			i++
			if i >= len(data) {
				break
			}
			switch data[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if i+4 >= len(data) || !isHex(data[i+1]) || !isHex(data[i+2]) || !isHex(data[i+3]) || !isHex(data[i+4]) {
					s.pos = i
					return s.fail(`expected four hex digits after \u`)
				}
				i += 4
			default:
				s.pos = i
				return s.fail("unknown escape in a string")
			}
		case c < 0x20:
			s.pos = i
			return s.fail("control character in a string")
		}
	}
	return s.fail("string without an end")
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func (s *scanner) literal(word string) error {
	if len(s.data)-s.pos < len(word) || string(s.data[s.pos:s.pos+len(word)]) != word {
		return s.fail("expected a value")
	}
	s.pos += len(word)
	return nil
}

func (s *scanner) number(first byte) error {
	start := s.pos
	if first == '-' {
		s.pos++
		if s.pos < len(s.data) && s.data[s.pos] == 'I' {
			return s.literal("Infinity")
		}
	}
	if s.pos < len(s.data) && s.data[s.pos] == '0' {
		s.pos++
	} else if s.digits() == 0 {
		s.pos = start
		return s.fail("expected a value")
	}
	if s.pos < len(s.data) && s.data[s.pos] == '.' {
		s.pos++
		if s.digits() == 0 {
			return s.fail("expected a digit after the decimal point")
		}
	}
	if s.pos < len(s.data) && (s.data[s.pos] == 'e' || s.data[s.pos] == 'E') {
		s.pos++
		if s.pos < len(s.data) && (s.data[s.pos] == '+' || s.data[s.pos] == '-') {
			s.pos++
		}
		if s.digits() == 0 {
			return s.fail("expected a digit in the exponent")
		}
	}
	return nil
}

func (s *scanner) digits() int {
	start := s.pos
	for s.pos < len(s.data) && '0' <= s.data[s.pos] && s.data[s.pos] <= '9' {
		s.pos++
	}
	return s.pos - start
}

// end checks that nothing but white space follows.
func (s *scanner) end() error {
	if s.peek(); s.pos < len(s.data) {
		return s.fail("unexpected bytes after the value")
	}
	return nil
}

// checkText refuses what Python cannot read as UTF-8 text.
func checkText(data []byte) error {
	if utf8.Valid(data) {
		return nil
	}
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size <= 1 {
			return &DecodeError{Offset: i, Reason: "invalid UTF-8"}
		}
		i += size
	}
	return nil
}
