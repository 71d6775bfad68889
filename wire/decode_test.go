package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/wire"
)

// decode decodes what must decode.
func decode(tb testing.TB, data []byte) *wire.Envelope {
	tb.Helper()
	e, err := wire.JSON{}.Decode(data)
	if err != nil {
		tb.Fatalf("%v in %.200s", err, data)
	}
	return e
}

// encode encodes what must encode.
func encode(tb testing.TB, e *wire.Envelope) []byte {
	tb.Helper()
	data, err := wire.JSON{}.Append(nil, e)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// envelope returns a valid envelope's text, with members added or replaced; an empty value leaves one out.
func envelope(members ...string) []byte {
	names := []string{"queue_name", "actor_name", "args", "kwargs", "options", "message_id", "message_timestamp"}
	values := map[string]string{
		"queue_name": `"w"`, "actor_name": `"ok"`, "args": "[1]", "kwargs": "{}", "options": "{}",
		"message_id": `"m1"`, "message_timestamp": "1",
	}
	for i := 0; i < len(members); i += 2 {
		if _, known := values[members[i]]; !known {
			names = append(names, members[i])
		}
		values[members[i]] = members[i+1]
	}
	var parts []string
	for _, name := range names {
		if values[name] != "" {
			parts = append(parts, `"`+name+`":`+values[name])
		}
	}
	return []byte("{" + strings.Join(parts, ",") + "}")
}

var uuid4 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// What Python accepts is accepted, and is written again as what Python would write.
func TestDecode_AcceptsWhatPythonAccepts(t *testing.T) {
	t.Parallel()
	for _, name := range goldenNames(t, "accept") {
		t.Run(strings.TrimPrefix(name, "accept/"), func(t *testing.T) {
			t.Parallel()
			data, want := goldenFile(t, name+".json"), goldenFile(t, name+".reencoded")
			e := decode(t, data)
			switch name {
			case "accept/missing-message-id", "accept/missing-both", "accept/message-id-null", "accept/message-id-empty":
				// Here every message has an id, and it is text.
				if !uuid4.MatchString(e.ID) {
					t.Errorf("the made up id is %q", e.ID)
				}
				want = regexp.MustCompile(`"message_id":("[^"]*"|null)`).ReplaceAll(want, []byte(`"message_id":"`+e.ID+`"`))
			case "accept/message-id-integer":
				want = bytes.Replace(want, []byte(`"message_id":12`), []byte(`"message_id":"12"`), 1)
			case "accept/timestamp-float", "accept/timestamp-exponent":
				// A timestamp is a whole number here.
				want = regexp.MustCompile(`(1767225600000)\.[05]`).ReplaceAll(want, []byte("$1"))
			}
			if name == "accept/missing-message-timestamp" || name == "accept/missing-both" {
				if age := time.Since(time.UnixMilli(e.Timestamp)); age < -time.Second || age > time.Minute {
					t.Errorf("the made up timestamp is %d, which is %v ago", e.Timestamp, age)
				}
				e.Timestamp = 1767225600000 // Python's was
			}
			if got := asPython(t, encode(t, e)); got != string(want) {
				t.Errorf("it is\n%.500s\nand Python's\n%.500s", got, want)
			}
		})
	}
}

func TestDecode_RefusesWhatPythonRefuses(t *testing.T) {
	t.Parallel()
	for _, name := range goldenNames(t, "reject") {
		t.Run(strings.TrimPrefix(name, "reject/"), func(t *testing.T) {
			t.Parallel()
			e, err := wire.JSON{}.Decode(goldenFile(t, name+".json"))
			if err == nil || e != nil {
				t.Fatalf("it became %+v, %v", e, err)
			}
			if !errors.Is(err, wire.ErrUndecodable) {
				t.Errorf("the error is %v", err)
			}
			if deep := strings.Contains(name, "nested"); errors.Is(err, wire.ErrTooDeep) != deep {
				t.Errorf("the error %q is ErrTooDeep: %t, want %t", err, !deep, deep)
			}
			if d := (*wire.DecodeError)(nil); !errors.As(err, &d) || d.Reason == "" || d.Offset < 0 {
				t.Errorf("the error is %#v", err)
			}
		})
	}
}

// Beyond the golden files, and as in Python: what is wrong in a member that is overridden later does not matter.
func TestDecode_LastMemberWins(t *testing.T) {
	t.Parallel()
	data := `{"queue_name":null,"actor_name":7,"args":null,"kwargs":[],"options":null,"message_id":[],"message_timestamp":"x",` +
		string(envelope("args", "[2]"))[1:]
	e := decode(t, []byte(data))
	if got, want := string(encode(t, e)), string(envelope("args", "[2]")); got != want {
		t.Errorf("it is %s, want %s", got, want)
	}
	if _, err := (wire.JSON{}).Decode([]byte(strings.Replace(string(envelope()), `{`, `{"x":1,`, 1))); err == nil {
		t.Error("an unknown member was accepted")
	}
	if e, err := (wire.JSON{}).Decode([]byte(string(envelope())[:len(envelope())-1] + `,"args":null}`)); err == nil {
		t.Errorf("the last args is null, and it became %s", e.Args)
	}
}

func TestDecode_Members(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		member, value string
		ok            bool
		get           func(e *wire.Envelope) string
		want          string
	}{
		{"kwargs", "null", true, func(e *wire.Envelope) string { return string(e.Kwargs) }, "null"},
		{"kwargs", "1", false, nil, ""},
		{"kwargs", "NaN", false, nil, ""},
		{"kwargs", "false", false, nil, ""},
		{"args", `"é\ud83d\ude00\ud83dx\ude00\n\ud83d"`, true, args, `["\u00e9","\ud83d\ude00","\ud83d","x","\ude00","\n","\ud83d"]`},
		{"args", `{"\ud800":1,"\ud801":2,"a":3,"\ud800":4}`, true, args, `["\ud800","\ud801","a"]`},
		{"args", "true", false, nil, ""},
		{"args", "-Infinity", false, nil, ""},
		{"args", " [ 1 ,\t2 ] ", true, args, "[ 1 ,\t2 ]"},
		{"message_id", "-1.5", true, func(e *wire.Envelope) string { return e.ID }, "-1.5"},
		{"message_id", "NaN", true, func(e *wire.Envelope) string { return e.ID }, "NaN"},
		{"message_id", `"\u00e9\ud83d"`, true, func(e *wire.Envelope) string { return e.ID }, "é\ufffd"},
		{"message_id", "true", false, nil, ""},
		{"message_id", "{}", false, nil, ""},
		{"message_timestamp", "-1", true, timestamp, "-1"},
		{"message_timestamp", "-1.9", true, timestamp, "-1"},
		{"message_timestamp", "9223372036854775807", true, timestamp, "9223372036854775807"},
		{"message_timestamp", "-9223372036854775808", true, timestamp, "-9223372036854775808"},
		{"message_timestamp", "9223372036854775808", false, nil, ""},
		{"message_timestamp", "1e400", false, nil, ""},
		{"message_timestamp", "NaN", false, nil, ""},
		{"message_timestamp", "null", false, nil, ""},
		{"message_timestamp", `"1"`, false, nil, ""},
		{"queue_name", `"\u0077.DQ"`, true, func(e *wire.Envelope) string { return e.Queue }, "w.DQ"},
		{"queue_name", "{}", false, nil, ""},
		{"actor_name", `""`, true, func(e *wire.Envelope) string { return e.Actor }, ""},
		{"actor_name", "[]", false, nil, ""},
		{"options", "1", false, nil, ""},
		{"Options", "{}", false, nil, ""},
		{"", "{}", false, nil, ""},
	} {
		e, err := wire.JSON{}.Decode(envelope(test.member, test.value))
		switch {
		case (err == nil) != test.ok:
			t.Errorf("%s %s: error %v", test.member, test.value, err)
		case err != nil && !errors.Is(err, wire.ErrUndecodable):
			t.Errorf("%s %s: the error %v is not ErrUndecodable", test.member, test.value, err)
		case err == nil && test.get(e) != test.want:
			t.Errorf("%s %s: it is %s, want %s", test.member, test.value, test.get(e), test.want)
		}
	}
}

func args(e *wire.Envelope) string { return string(e.Args) }

func timestamp(e *wire.Envelope) string {
	data, _ := json.Marshal(e.Timestamp)
	return string(data)
}

func TestDecode_Depth(t *testing.T) {
	t.Parallel()
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	if e := decode(t, envelope("args", nested(wire.MaxDepth-1))); len(e.Args) != 2*(wire.MaxDepth-1) {
		t.Errorf("args have %d bytes", len(e.Args))
	}
	for _, member := range []string{"args", "kwargs", "options"} {
		value := nested(wire.MaxDepth)
		if member != "args" {
			value = `{"a":` + nested(wire.MaxDepth-1) + `}`
		}
		if _, err := (wire.JSON{}).Decode(envelope(member, value)); !errors.Is(err, wire.ErrTooDeep) || !errors.Is(err, wire.ErrUndecodable) {
			t.Errorf("%s: error %v", member, err)
		}
	}
	if _, err := (wire.JSON{}).Decode([]byte(strings.Repeat("{", 10_000_000))); !errors.Is(err, wire.ErrUndecodable) {
		t.Errorf("ten million braces: %v", err)
	}
	if err := wire.Check(json.RawMessage(strings.Repeat(`[{"a":`, 5_000_000))); !errors.Is(err, wire.ErrTooDeep) {
		t.Errorf("ten million levels: %v", err)
	}
}

// A decoded envelope can be taken apart and changed without harm to the bytes it came from.
func TestDecode_SharesButDoesNotOverwrite(t *testing.T) {
	t.Parallel()
	data := envelope("args", "[1]", "kwargs", `{"k":2}`, "options", `{"a":1,"b":[2]}`)
	before := string(data)
	e := decode(t, data)
	longer, err := wire.AppendElement(e.Args, json.RawMessage("3"))
	if err != nil || string(longer) != "[1,3]" {
		t.Errorf("AppendElement: %s, %v", longer, err)
	}
	_ = append(e.Args, "overwritten"...)
	_ = append(e.Kwargs, "overwritten"...)
	e.Options.SetInt("a", 7)
	for _, value := range e.Options.All() {
		_ = append(value, "overwritten"...)
	}
	elements, err := wire.SplitArray(e.Args)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(elements[0], "overwritten"...)
	if string(data) != before {
		t.Errorf("the bytes are now %s", data)
	}
}

func TestSplitArray(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		in   string
		want []string // nil where it must fail
	}{
		{"[]", []string{}},
		{" [ \t\r\n] ", []string{}},
		{
			`[1,"a,]",[2,3],{"x":[4]},null,true,false,NaN,-Infinity,-0.0e+1]`,
			[]string{"1", `"a,]"`, "[2,3]", `{"x":[4]}`, "null", "true", "false", "NaN", "-Infinity", "-0.0e+1"},
		},
		{"[ 1 , [ 2 ] ]", []string{"1", "[ 2 ]"}},
		{"", nil},
		{"null", nil},
		{"{}", nil},
		{"[", nil},
		{"[1", nil},
		{"[1,]", nil},
		{"[,1]", nil},
		{"[1 2]", nil},
		{"[1]]", nil},
		{"[1] x", nil},
		{strings.Repeat("[", 1001) + strings.Repeat("]", 1001), nil},
	} {
		elements, err := wire.SplitArray(json.RawMessage(test.in))
		if (err == nil) != (test.want != nil) {
			t.Errorf("%.40s: error %v", test.in, err)
			continue
		}
		if err != nil && !errors.Is(err, wire.ErrUndecodable) {
			t.Errorf("%.40s: the error %v is not ErrUndecodable", test.in, err)
		}
		got := make([]string, len(elements))
		for i, e := range elements {
			got[i] = string(e)
		}
		if err == nil && !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.in, got, test.want)
		}
	}
}

func TestSplitObject(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		in   string
		want []string // names and values in turn; nil where it must fail
	}{
		{"{}", []string{}},
		{" { \n } ", []string{}},
		{`{ "a" : 1 , "b\u0041\n":{"c":NaN}}`, []string{"a", "1", "bA\n", `{"c":NaN}`}},
		{`{"":0}`, []string{"", "0"}},
		{`{"a":1,"b":2,"\u0061":3,"b":4,"a":5}`, []string{"a", "5", "b", "4"}},
		{`{"\ud800":1,"\ud801":2,"\uD800":3,"\ufffd":4,"�":5}`, []string{"�", "3", "�", "2", "�", "5"}},
		{`{"\ud83d\ude00":1,"😀":2,"\ud83d":3,"x\ud83d":4}`, []string{"😀", "2", "�", "3", "x�", "4"}},
		{`{"\\b\"\/":1}`, []string{`\b"/`, "1"}},
		{"", nil},
		{"[]", nil},
		{"{", nil},
		{`{"a"}`, nil},
		{`{"a" 1}`, nil},
		{`{"a":}`, nil},
		{`{"a":1,}`, nil},
		{`{a:1}`, nil},
		{`{"a":1}}`, nil},
		{`{"a":1 "b":2}`, nil},
		{`{1:1}`, nil},
	} {
		members, err := wire.SplitObject(json.RawMessage(test.in))
		if (err == nil) != (test.want != nil) {
			t.Errorf("%s: error %v", test.in, err)
			continue
		}
		got := []string{}
		for _, m := range members {
			got = append(got, m.Name, string(m.Value))
		}
		if err == nil && !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.in, got, test.want)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"1", " -0 ", "1e5", "0.5E-3", "NaN", "-Infinity", `"\ud800"`, "\"\u007f\u2028\"", "null", `{"a":[{}]}`, "123456789012345678901234567890",
	} {
		if err := wire.Check(json.RawMessage(good)); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", " ", "1 2", "01", "+1", ".5", "1.", "1e", "1e+", "-", "-NaN", "-nan", "nan", "Inf", "Infinite", "nul", "nulll", "True", "'a'", "[1,]",
		`"a`, `"\u12"`, `"\x41"`, `"\`, "\"\x1f\"", "\"\xff\"", "1\x00", "\ufeff1", "//", "1,", "0x1", "1_0", "--1", "\u00a01",
	} {
		if err := wire.Check(json.RawMessage(bad)); !errors.Is(err, wire.ErrUndecodable) {
			t.Errorf("%q: error %v", bad, err)
		}
	}
}
