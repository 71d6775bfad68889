package wire_test

import (
	"encoding/json"
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/dramatiq-go/dramatiq/wire"
)

// What stands for NaN and the infinities in a text that encoding/json is to judge: numbers of a notation that nobody uses.
// Blanks keep them from becoming part of another token.
const nonFinite = "0.0E-0"

// withoutNonFinite returns the text with those replaced, outside of strings, and how deep it nests.
func withoutNonFinite(data []byte) (replaced []byte, depth int) {
	level, quoted := 0, false
	for i := 0; i < len(data); {
		word := ""
		switch c := data[i]; {
		case quoted && c == '\\' && i+1 < len(data):
			replaced = append(replaced, data[i:i+2]...)
			i += 2
			continue
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			level++
			depth = max(depth, level)
		case c == '}' || c == ']':
			level--
		case c == 'N' || c == 'I' || c == '-':
			word = string(bareWord.Find(data[i:]))
		}
		if word != "" {
			replaced = append(replaced, " "+nonFinite+" "...)
			i += len(word)
			continue
		}
		replaced = append(replaced, data[i])
		i++
	}
	return replaced, depth
}

var bareWord = regexp.MustCompile(`^(NaN|-?Infinity)`)

// acceptable decides with encoding/json what Decode must accept, and what the result must be; it leaves Options unset.
func acceptable(data []byte) (want wire.Envelope, options map[string]json.RawMessage, ok bool) {
	text, depth := withoutNonFinite([]byte(string(data)))
	if !utf8.Valid(data) || !json.Valid(text) || depth > wire.MaxDepth {
		return want, nil, false
	}
	var members map[string]json.RawMessage
	if text[len(text)-len(strings.TrimLeft(string(text), " \t\r\n"))] != '{' || json.Unmarshal(text, &members) != nil {
		return want, nil, false
	}
	take := func(name string) string {
		value := string(members[name])
		delete(members, name)
		return value
	}
	queue, actor, args, kwargs := take("queue_name"), take("actor_name"), take("args"), take("kwargs")
	opts, id, timestamp := take("options"), take("message_id"), take("message_timestamp")
	isText := func(raw string) bool { return strings.HasPrefix(raw, `"`) }
	ok = len(members) == 0 && isText(queue) && isText(actor) && args != "" && strings.Contains(`[{"`, args[:1]) &&
		(strings.HasPrefix(kwargs, "{") || kwargs == "null") && strings.HasPrefix(opts, "{") &&
		(id == "" || id == "null" || isText(id) || strings.Contains("-0123456789", id[:1]))
	if timestamp != "" {
		f, err := strconv.ParseFloat(timestamp, 64)
		_, intErr := strconv.ParseInt(timestamp, 10, 64)
		ok = ok && timestamp != nonFinite && (intErr == nil || err == nil && math.Abs(f) < math.MaxInt64)
	}
	if !ok {
		return want, nil, false
	}
	for raw, target := range map[string]any{queue: &want.Queue, actor: &want.Actor, opts: &options} {
		if err := json.Unmarshal([]byte(raw), target); err != nil {
			return want, nil, false
		}
	}
	if queue == actor {
		want.Queue = want.Actor
	}
	if isText(id) {
		_ = json.Unmarshal([]byte(id), &want.ID)
	}
	return want, options, true
}

func FuzzDecode(f *testing.F) {
	for _, folder := range []string{"", "accept", "reject"} {
		for _, name := range goldenNames(f, folder) {
			if data := goldenFile(f, name+".json"); len(data) < 2000 {
				f.Add(data)
			}
		}
	}
	f.Add(envelope("options", `{"\ud800":1,"\ud801":2,"\ud800":3}`, "args", `"a\ud83d\ude00\ud83d"`))
	f.Add(envelope("kwargs", "NaN", "message_timestamp", "-Infinity", "message_id", "NaN"))
	f.Add([]byte(`[1-Infinity]`))
	f.Fuzz(checkDecode)
}

// FuzzDecode_Members has the fuzzer change members only, so that most of what it tries is deep inside an envelope.
func FuzzDecode_Members(f *testing.F) {
	f.Add("[1]", "{}", "{}", `"m1"`, "1")
	f.Add(`"a\ud83d"`, "null", `{"\ud800":NaN,"a":-Infinity}`, "1.5e3", "-1e400")
	f.Add(`{"\ud800":1,"a":2,"\ud800":3}`, `{"a":1,"a":[{}]}`, `{"x" : "\u00e9\n"}`, "null", "1.7672256e12")
	f.Add("NaN", "Infinity", "-Infinity", "NaN", "NaN")
	f.Fuzz(func(t *testing.T, args, kwargs, options, id, timestamp string) {
		checkDecode(t, envelope("args", args, "kwargs", kwargs, "options", options, "message_id", id, "message_timestamp", timestamp))
	})
}

// checkDecode holds one decoding against encoding/json.
func checkDecode(t *testing.T, data []byte) {
	t.Helper()
	before := string(data)
	want, options, ok := acceptable(data)
	e, err := wire.JSON{}.Decode(data)
	if (err == nil) != ok {
		t.Fatalf("error %v, but encoding/json says %t", err, ok)
	}
	if string(data) != before {
		t.Fatalf("the input was changed to %q", data)
	}
	if err != nil {
		if !errors.Is(err, wire.ErrUndecodable) || e != nil {
			t.Fatalf("%+v, %v", e, err)
		}
		return
	}
	if e.Queue != want.Queue || e.Actor != want.Actor || want.ID != "" && e.ID != want.ID || e.ID == "" {
		t.Fatalf("it is %+v, want %+v", e, want)
	}
	checkOptions(t, e, options)
	checkRoundTrip(t, e)
}

// checkOptions compares with what encoding/json has found.
func checkOptions(t *testing.T, e *wire.Envelope, want map[string]json.RawMessage) {
	t.Helper()
	for name, value := range e.Options.All() {
		text, _ := withoutNonFinite([]byte(string(value)))
		if raw, ok := want[name]; strings.ContainsRune(name, utf8.RuneError) {
			continue // encoding/json cannot tell lone surrogates apart
		} else if !ok || strings.TrimSpace(string(text)) != strings.TrimSpace(string(raw)) {
			t.Fatalf("option %q is %s, want %s", name, text, raw)
		}
		delete(want, name)
	}
	for name := range want {
		if !strings.ContainsRune(name, utf8.RuneError) {
			t.Fatalf("option %q is missing", name)
		}
	}
}

// checkRoundTrip encodes a decoded envelope and decodes it again.
func checkRoundTrip(t *testing.T, e *wire.Envelope) {
	t.Helper()
	body, err := wire.JSON{}.Append(nil, e)
	if e.Queue == "" || e.Actor == "" {
		if err == nil {
			t.Fatalf("an envelope without a name was encoded: %s", body)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	again, err := wire.JSON{}.Decode(body)
	if err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	if again.Queue != e.Queue || again.Actor != e.Actor || again.ID != e.ID || again.Timestamp != e.Timestamp ||
		string(again.Args) != string(e.Args) || string(again.Kwargs) != string(e.Kwargs) || list(&again.Options) != list(&e.Options) {
		t.Fatalf("it is\n%+v\nand was\n%+v", again, e)
	}
	if twice, err := (wire.JSON{}).Append(nil, again); err != nil || string(twice) != string(body) {
		t.Fatalf("it is\n%s (%v)\nand was\n%s", twice, err, body)
	}
	if got := asPython(t, e.Args); asPython(t, again.Args) != got {
		t.Fatalf("args %s", got)
	}
}

// FuzzCheck holds the scanner against encoding/json on any value, not only on envelopes.
func FuzzCheck(f *testing.F) {
	for _, seed := range []string{
		"1", "-Infinity", "[1-Infinity]", "[NaN]", `{"a":[{"b":null}],"\ud800":"\u00e9"}`, "1e5", `"\`, "[[[[", "-", "1NaN", "NaN1", `"NaN"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		text, depth := withoutNonFinite([]byte(string(data)))
		want := utf8.Valid(data) && json.Valid(text) && depth <= wire.MaxDepth
		if err := wire.Check(data); (err == nil) != want {
			t.Fatalf("error %v, but encoding/json says %t of %q", err, want, text)
		}
		elements, err := wire.SplitArray(data)
		if err == nil && want {
			joined := json.RawMessage("[]")
			for _, e := range elements {
				if joined, err = wire.AppendElement(joined, e); err != nil {
					t.Fatal(err)
				}
			}
			if asPython(t, joined) != asPython(t, data) {
				t.Fatalf("its elements make %s", joined)
			}
		}
	})
}

var printable = regexp.MustCompile(`^"[ -~]*"$`)

func FuzzAppendString(f *testing.F) {
	f.Add("")
	f.Add("é \u2028 😀 \x7f </script> & \" \\ / \b\f\n\r\t\x00\x1f")
	f.Add("\xed\xa0\xbd\xff\ufffd\U0010ffff\uffff")
	f.Fuzz(func(t *testing.T, text string) {
		got := wire.AppendString(nil, text)
		if !printable.Match(got) {
			t.Fatalf("%q is not printable ASCII", got)
		}
		valid := string([]rune(text)) // each bad byte is one U+FFFD
		var back string
		if err := json.Unmarshal(got, &back); err != nil || back != valid {
			t.Fatalf("%s reads as %q, %v", got, back, err)
		}
		if want := pythonString(utf16.Encode([]rune(text))); string(got) != want {
			t.Fatalf("%s, and Python writes %s", got, want)
		}
		var o wire.Options
		o.SetString("x", text)
		if back, ok := o.Text("x"); !ok || back != valid {
			t.Fatalf("it reads as %q, %t", back, ok)
		}
	})
}
