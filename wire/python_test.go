package wire_test

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"
)

const golden = "../testdata/wire"

// goldenFile returns the bytes of one file of testdata/wire.
func goldenFile(tb testing.TB, name string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(golden, name))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// goldenNames returns the names of the .json files in a folder of testdata/wire, without their ending.
func goldenNames(tb testing.TB, folder string) []string {
	tb.Helper()
	paths, err := filepath.Glob(filepath.Join(golden, folder, "*.json"))
	if err != nil {
		tb.Fatal(err)
	}
	if len(paths) < 30 {
		tb.Fatalf("only %d golden files in %q", len(paths), folder)
	}
	for i, p := range paths {
		paths[i] = filepath.Join(folder, strings.TrimSuffix(filepath.Base(p), ".json"))
	}
	return paths
}

// asPython returns what Python's json module makes of a text that it accepts, decoded and encoded again (protocol 1.2 and
// 1.3). It shares no code with the package.
func asPython(tb testing.TB, text []byte) string {
	tb.Helper()
	p := python{tb: tb, in: string(text)}
	p.value()
	p.space()
	if p.in != "" {
		tb.Fatalf("bytes after the value: %.40q", p.in)
	}
	return p.out.String()
}

type python struct {
	tb  testing.TB
	in  string
	out strings.Builder
}

func (p *python) space() { p.in = strings.TrimLeft(p.in, " \t\r\n") }

func (p *python) take(token string) bool {
	p.space()
	rest, found := strings.CutPrefix(p.in, token)
	p.in = rest
	return found
}

func (p *python) value() {
	p.space()
	switch {
	case p.take("{"):
		p.object()
	case p.take("["):
		p.array()
	case strings.HasPrefix(p.in, `"`):
		p.out.WriteString(pythonString(p.text()))
	default:
		end := strings.IndexAny(p.in, ",:]} \t\r\n")
		if end < 0 {
			end = len(p.in)
		}
		p.out.WriteString(pythonWord(p.tb, p.in[:end]))
		p.in = p.in[end:]
	}
}

func (p *python) array() {
	p.out.WriteByte('[')
	for first := true; !p.take("]"); first = false {
		if !first {
			if !p.take(",") {
				p.tb.Fatalf("no comma: %.40q", p.in)
			}
			p.out.WriteByte(',')
		}
		p.value()
	}
	p.out.WriteByte(']')
}

func (p *python) object() {
	var names []string
	values := map[string]string{}
	for first := true; !p.take("}"); first = false {
		if !first && !p.take(",") {
			p.tb.Fatalf("no comma: %.40q", p.in)
		}
		p.space()
		name := pythonString(p.text())
		if !p.take(":") {
			p.tb.Fatalf("no colon: %.40q", p.in)
		}
		value := python{tb: p.tb, in: p.in}
		value.value()
		p.in = value.in
		if _, seen := values[name]; !seen {
			names = append(names, name)
		}
		values[name] = value.out.String()
	}
	p.out.WriteByte('{')
	for i, name := range names {
		if i > 0 {
			p.out.WriteByte(',')
		}
		p.out.WriteString(name + ":" + values[name])
	}
	p.out.WriteByte('}')
}

// text reads a string as UTF-16, in which a lone surrogate is a thing of its own, as it is in Python.
func (p *python) text() []uint16 {
	var units []uint16
	for i := 1; i < len(p.in); {
		switch c := p.in[i]; {
		case c == '"':
			p.in = p.in[i+1:]
			return units
		case c == '\\' && p.in[i+1] == 'u':
			n, err := strconv.ParseUint(p.in[i+2:i+6], 16, 16)
			if err != nil {
				p.tb.Fatal(err)
			}
			units = append(units, uint16(n))
			i += 6
		case c == '\\':
			units = append(units, uint16(strings.NewReplacer("b", "\b", "f", "\f", "n", "\n", "r", "\r", "t", "\t").
				Replace(p.in[i+1 : i+2])[0]))
			i += 2
		default:
			r, size := utf8.DecodeRuneInString(p.in[i:])
			units = utf16.AppendRune(units, r)
			i += size
		}
	}
	p.tb.Fatalf("no string: %.40q", p.in)
	return nil
}

// pythonString writes a string as json.dumps does: everything but printable ASCII is escaped.
func pythonString(units []uint16) string {
	out := []byte{'"'}
	for _, u := range units {
		switch {
		case u == '"' || u == '\\':
			out = append(out, '\\', byte(u))
		case u >= ' ' && u <= '~':
			out = append(out, byte(u))
		case strings.ContainsRune("\b\f\n\r\t", rune(u)):
			out = append(out, '\\', map[uint16]byte{'\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't'}[u])
		default:
			hex := "000" + strconv.FormatUint(uint64(u), 16)
			out = append(out, `\u`+hex[len(hex)-4:]...)
		}
	}
	return string(append(out, '"'))
}

// pythonWord writes a number or another bare word: integers exactly, floats as repr does.
func pythonWord(tb testing.TB, word string) string {
	tb.Helper()
	switch word {
	case "null", "true", "false", "NaN", "Infinity", "-Infinity":
		return word
	case "-0":
		return "0"
	}
	if !strings.ContainsAny(word, ".eE") {
		return word
	}
	f, err := strconv.ParseFloat(word, 64)
	if math.IsInf(f, 0) {
		return strings.TrimSuffix(word[:1], "1") + "Infinity"
	}
	if err != nil {
		tb.Fatal(err)
	}
	text := strconv.FormatFloat(f, 'e', -1, 64)
	if exponent, _ := strconv.Atoi(text[strings.IndexByte(text, 'e')+1:]); exponent < -4 || exponent >= 16 {
		return text
	}
	text = strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// The model must agree with Python before anything is held against it: Python's own output is what it leaves alone, and
// accept/*.reencoded is what Python has made of accept/*.json.
func TestPythonModel(t *testing.T) {
	t.Parallel()
	for _, name := range goldenNames(t, "") {
		data := goldenFile(t, name+".json")
		if got := asPython(t, data); got != string(data) {
			t.Errorf("%s: the model makes\n%.300s\nof Python's own\n%.300s", name, got, data)
		}
	}
	for _, name := range []string{
		"escapes", "lone-surrogates", "raw-utf8", "numbers", "nonfinite", "unknown-options", "whitespace", "duplicate-members",
		"whitespace-all-kinds", "int-4300-digits", "timestamp-exponent",
	} {
		want := goldenFile(t, "accept/"+name+".reencoded")
		if got := asPython(t, goldenFile(t, "accept/"+name+".json")); got != string(want) {
			t.Errorf("%s: the model makes\n%.300s\nPython makes\n%.300s", name, got, want)
		}
	}
}
