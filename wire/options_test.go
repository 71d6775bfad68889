package wire_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/dramatiq-go/dramatiq/wire"
)

// list returns options as text, in their order.
func list(o *wire.Options) string {
	text := ""
	for name, value := range o.All() {
		text += name + "=" + string(value) + ";"
	}
	return text
}

func TestOptions(t *testing.T) {
	t.Parallel()
	var o wire.Options
	if o.Len() != 0 || list(&o) != "" {
		t.Errorf("the zero value holds %s", list(&o))
	}
	o.Delete("nothing")
	o.SetInt("a", -3)
	o.SetString("b", "é\n")
	o.Set("c", json.RawMessage("[1]"))
	o.Set("n", json.RawMessage("null"))
	if got, want := list(&o), `a=-3;b="\u00e9\n";c=[1];n=null;`; got != want || o.Len() != 4 {
		t.Errorf("it holds %d: %s, want %s", o.Len(), got, want)
	}
	c := o.Clone()
	c.SetInt("a", 4)
	c.Delete("b")
	c.SetInt("d", 5)
	if got, want := list(&c), "a=4;c=[1];n=null;d=5;"; got != want {
		t.Errorf("the changed clone holds %s, want %s", got, want)
	}
	if got, want := list(&o), `a=-3;b="\u00e9\n";c=[1];n=null;`; got != want {
		t.Errorf("a change of the clone has made it %s, want %s", got, want)
	}
	if raw, ok := o.Get("n"); !ok || string(raw) != "null" {
		t.Errorf("n is %s, %t", raw, ok)
	}
	if raw, ok := o.Get("missing"); ok || raw != nil {
		t.Errorf("missing is %s, %t", raw, ok)
	}
	for name := range o.All() { // may be left early
		if name == "b" {
			break
		}
	}
}

func TestOptions_Values(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		raw     string
		integer int64
		isInt   bool
		text    string
		isText  bool
		null    bool
	}{
		{raw: "7", integer: 7, isInt: true},
		{raw: "-7.9", integer: -7, isInt: true},
		{raw: "1.5e3", integer: 1500, isInt: true},
		{raw: "-0", integer: 0, isInt: true},
		{raw: "9223372036854775807", integer: math.MaxInt64, isInt: true},
		{raw: "9007199254740993", integer: 9007199254740993, isInt: true},
		{raw: "9223372036854775808"},
		{raw: "-9223372036854775809"},
		{raw: "1e400"},
		{raw: "NaN"},
		{raw: "Infinity"},
		{raw: "-Infinity"},
		{raw: "true"},
		{raw: "[]"},
		{raw: "null", null: true},
		{raw: "", null: true},
		{raw: `"5"`, text: "5", isText: true},
		{raw: `""`, isText: true},
		{raw: `"\u00e9\ud83d\ude00\ud83d\n"`, text: "é😀\ufffd\n", isText: true},
	} {
		var o wire.Options
		o.Set("x", json.RawMessage(test.raw))
		if n, ok := o.Int("x"); n != test.integer || ok != test.isInt {
			t.Errorf("%s: Int is %d, %t", test.raw, n, ok)
		}
		if s, ok := o.Text("x"); s != test.text || ok != test.isText {
			t.Errorf("%s: Text is %q, %t", test.raw, s, ok)
		}
		if wire.IsNull(json.RawMessage(test.raw)) != test.null {
			t.Errorf("%s: IsNull is %t", test.raw, !test.null)
		}
	}
	var o wire.Options
	if _, ok := o.Int("x"); ok {
		t.Error("an absent option is an integer")
	}
	if _, ok := o.Text("x"); ok {
		t.Error("an absent option is a text")
	}
}

func TestParseNumber(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]float64{
		"0": 0, "-0.0": math.Copysign(0, -1), "1": 1, "-1.5": -1.5, "1e-07": 1e-7, "1E+2": 100, "0.1": 0.1,
		"9007199254740993": 9007199254740992, "123456789012345678901234567890": 1.2345678901234568e29, "1e400": math.Inf(1),
		"-1e400": math.Inf(-1), "1e-400": 0, "Infinity": math.Inf(1), "-Infinity": math.Inf(-1), "NaN": math.NaN(),
	} {
		got, ok := wire.ParseNumber(json.RawMessage(raw))
		same := math.Float64bits(got) == math.Float64bits(want) || math.IsNaN(got) && math.IsNaN(want)
		if !ok || !same {
			t.Errorf("%s: %v, %t; want %v", raw, got, ok, want)
		}
	}
	for _, raw := range []string{"", "null", "true", `"1"`, "[1]", "{}", "nan", "inf", "-nan", "-inf", "+1", ".5", "-", "1x"} {
		if got, ok := wire.ParseNumber(json.RawMessage(raw)); ok {
			t.Errorf("%s: %v", raw, got)
		}
	}
}
