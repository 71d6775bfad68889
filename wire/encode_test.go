package wire_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/dramatiq-go/dramatiq/wire"
)

// Every envelope that Python has written is written again byte for byte.
func TestAppend_GoldenBytes(t *testing.T) {
	t.Parallel()
	for _, name := range goldenNames(t, "") {
		data := goldenFile(t, name+".json")
		if got := encode(t, decode(t, data)); string(got) != string(data) {
			t.Errorf("%s: it is\n%.500s\nwant\n%.500s", name, got, data)
		}
		if got := encode(t, decode(t, data).Clone()); string(got) != string(data) {
			t.Errorf("%s: its clone is\n%.500s\nwant\n%.500s", name, got, data)
		}
	}
}

// Raw members survive as they came, whatever their form: escapes, spaces, notations of numbers. So do the names and values
// of options.
func TestAppend_RawMembersAreKept(t *testing.T) {
	t.Parallel()
	const (
		args    = "[ 1.50 , -0,1E5,1e400,\t\"\\u0041\\/\\uD83D\\uDE00\\ud83d é\u007f\" ]"
		kwargs  = `{"\ud800" : 1, "\u0061":NaN , "dup":1,"dup":2}`
		options = `{"\ud800":"\udfff","\ud801" : 0.10,"\u00E9":{"x" :[ ]},"é2":-Infinity,"":1}`
		written = `{"\ud800":"\udfff","\ud801":0.10,"\u00E9":{"x" :[ ]},"é2":-Infinity,"":1}`
	)
	e := decode(t, envelope("args", args, "kwargs", kwargs, "options", options))
	want := string(envelope("args", args, "kwargs", kwargs, "options", written))
	if got := string(encode(t, e)); got != want {
		t.Errorf("it is\n%s\nwant\n%s", got, want)
	}
	// Also when other options come and go, as they do at a retry.
	again := e.Clone()
	again.Options.SetInt("retries", 1)
	again.Options.Set("é", json.RawMessage("null"))
	again.Options.Delete("")
	want = strings.Replace(strings.Replace(want, `{"x" :[ ]}`, "null", 1), `,"":1}`, `,"retries":1}`, 1)
	if got := string(encode(t, again)); got != want {
		t.Errorf("after a change it is\n%s\nwant\n%s", got, want)
	}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	e := &wire.Envelope{Queue: "q", Actor: "é", ID: `"`, Timestamp: -5}
	e.Options.Set("empty", nil)
	const want = `{"queue_name":"q","actor_name":"\u00e9","args":[],"kwargs":{},"options":{"empty":null},"message_id":"\"",` +
		`"message_timestamp":-5}`
	got, err := wire.JSON{}.Append([]byte("before:"), e)
	if err != nil || string(got) != "before:"+want {
		t.Errorf("it is %s, %v", got, err)
	}
	for _, incomplete := range []wire.Envelope{{Actor: "a", ID: "1"}, {Queue: "q", ID: "1"}, {Queue: "q", Actor: "a"}} {
		if got, err := (wire.JSON{}).Append(nil, &incomplete); err == nil {
			t.Errorf("%+v was encoded as %s", incomplete, got)
		}
	}
}

// Characters alone, as Python escapes them: all of the first plane, and a sample of the others.
func TestAppendString_EveryCharacter(t *testing.T) {
	t.Parallel()
	for r := rune(0); r <= 0x10ffff; r++ {
		if utf16.IsSurrogate(r) {
			continue
		}
		if r >= 0x10000 {
			r = min(r+256, 0x10ffff)
		}
		if got, want := wire.AppendString(nil, string(r)), pythonString(utf16.Encode([]rune{r})); string(got) != want {
			t.Fatalf("%U: %s, want %s", r, got, want)
		}
	}
}

func TestAppendString(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":         `""`,
		"plain":    `"plain"`,
		"a\xffb":   `"a\ufffdb"`,
		"\xed\xa0": `"\ufffd\ufffd"`, // half a surrogate
		"</script> & é\u2028😀\x7f\" \\ / \b\f\n\r\t\x00": `"</script> & \u00e9\u2028\ud83d\ude00\u007f\" \\ / \b\f\n\r\t\u0000"`,
	} {
		if got := string(wire.AppendString([]byte("x"), text)); got != "x"+want {
			t.Errorf("%q: %s, want %s", text, got[1:], want)
		}
	}
	// The string of the torture vector (protocol 1.8).
	const vector = "é \u2028 😀 \x7f </script> & \" \\ / \b\f\n\r\t\x00"
	args, err := wire.SplitArray(decode(t, goldenFile(t, "torture.json")).Args)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(wire.AppendString(nil, vector)); got != string(args[0]) {
		t.Errorf("it is %s, want %s", got, args[0])
	}
}

func TestAppendElement(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ array, element, want string }{
		{"", "1", "[1]"},
		{"[]", "null", "[null]"},
		{" [ ] ", "1", " [ 1]"},
		{"[1]", `{"a": NaN}`, `[1,{"a": NaN}]`},
		{"[1 , 2.50 ]", `"\ud83d"`, `[1 , 2.50 ,"\ud83d"]`},
		{`["]",[3]]`, "[4]", `["]",[3],[4]]`},
	} {
		array := json.RawMessage(test.array)
		got, err := wire.AppendElement(array, json.RawMessage(test.element))
		if err != nil || string(got) != test.want {
			t.Errorf("%s and %s: %s, %v; want %s", test.array, test.element, got, err, test.want)
		}
		if string(array) != test.array {
			t.Errorf("%s was changed to %s", test.array, array)
		}
		if err := wire.Check(got); err != nil {
			t.Errorf("%s: %v", got, err)
		}
	}
	for _, bad := range []string{"{}", "null", "[1", "[1,]", `"x"`} {
		if got, err := wire.AppendElement(json.RawMessage(bad), json.RawMessage("1")); !errors.Is(err, wire.ErrUndecodable) {
			t.Errorf("%s: %s, %v", bad, got, err)
		}
	}
}
