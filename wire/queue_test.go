package wire_test

import (
	"strings"
	"testing"

	"github.com/dramatiq-go/dramatiq/wire"
)

func TestDerivedQueues(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, canonical, delay, dead string }{
		{"a", "a", "a.DQ", "a.XQ"},
		{"a.DQ", "a", "a.DQ", "a.XQ"},
		{"a.XQ", "a", "a.DQ", "a.XQ"},
		{"a.b-c_d", "a.b-c_d", "a.b-c_d.DQ", "a.b-c_d.XQ"},
		{"a.dq", "a.dq", "a.dq.DQ", "a.dq.XQ"},
		{"aDQ", "aDQ", "aDQ.DQ", "aDQ.XQ"},
		{"a.DQ.b", "a.DQ.b", "a.DQ.b.DQ", "a.DQ.b.XQ"},
		{"", "", ".DQ", ".XQ"},
	} {
		if got := wire.CanonicalQueue(test.name); got != test.canonical {
			t.Errorf("CanonicalQueue(%q) is %q, want %q", test.name, got, test.canonical)
		}
		if got := wire.DelayQueue(test.name); got != test.delay {
			t.Errorf("DelayQueue(%q) is %q, want %q", test.name, got, test.delay)
		}
		if got := wire.DeadQueue(test.name); got != test.dead {
			t.Errorf("DeadQueue(%q) is %q, want %q", test.name, got, test.dead)
		}
	}
}

// Protocol 1.6 and conformance case 18.
func TestCheckQueueName(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"default", "a", "Z", "_", "_a", "a9", "a.b-c_d", "a.", "a-", "a.dq", "DQ", "msgs", "a__"} {
		if err := wire.CheckQueueName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "9a", "a b", "a.DQ", "a.XQ", "a.msgs", "a.DQ.msgs", "__a", "__acks__", ".a", "-a", " a", "a ", "a\n", "a/b", "a:b", "é", "aé",
		"a\x00", "a.b.DQ", "{x}",
	} {
		err := wire.CheckQueueName(bad)
		if err == nil {
			t.Errorf("%q was accepted", bad)
		} else if bad != "" && !strings.Contains(err.Error(), "queue name \"") {
			t.Errorf("%q: the error does not show it: %v", bad, err)
		}
	}
}

func TestNewID(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	variants := map[byte]bool{}
	for range 10_000 {
		id := wire.NewID()
		if !uuid4.MatchString(id) {
			t.Fatalf("%q is no UUID v4 as Python writes it", id)
		}
		if seen[id] {
			t.Fatalf("%q came twice", id)
		}
		seen[id] = true
		variants[id[19]] = true
	}
	if len(variants) != 4 {
		t.Errorf("the variant's free bits took %d of 4 values", len(variants))
	}
}
