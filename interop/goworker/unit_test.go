package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/faults/testenv"
)

func TestSum(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{"1", "2", "3"},
		{"-9007199254740993", "1", "-9007199254740992"},
		{"123456789012345678901234567890", "-1", "123456789012345678901234567889"},
		{"1", "2.0", "3.0"},
		{"0.1", "0.2", "0.30000000000000004"},
		{"1e15", "0", "1000000000000000.0"},
		{"1e16", "0", "1e+16"},
		{"0.0001", "0", "0.0001"},
		{"0.00001", "0", "1e-05"},
		{"-0.0", "0.0", "0.0"},
		{"-0.0", "-0.0", "-0.0"},
		{"1e308", "1e308", "Infinity"},
		{"-1e400", "0", "-Infinity"},
		{"NaN", "1", "NaN"},
		{"Infinity", "-Infinity", "NaN"},
	} {
		got, err := sum(json.RawMessage(c[0]), json.RawMessage(c[1]))
		if err != nil || string(got) != c[2] {
			t.Errorf("%s + %s = %s (%v), want %s", c[0], c[1], got, err, c[2])
		}
	}
	for _, c := range [][2]string{{`"a"`, "1"}, {"1", ""}, {"null", "1"}, {"1.0", "1" + strings.Repeat("0", 400)}} {
		if got, err := sum(json.RawMessage(c[0]), json.RawMessage(c[1])); err == nil {
			t.Errorf("%s + %.10s = %s, want an error", c[0], c[1], got)
		}
	}
}

func TestSum_isPythons(t *testing.T) {
	t.Parallel()
	python := testenv.Python(t)
	numbers := []string{
		"0", "-1", "0.5", "1e22", "5e-324", "1.7976931348623157e308", "123456.789", "1e-5", "9999999999999998.0", "1e15", "123456789123456789123",
	}
	const script = "import json, sys\nfor line in sys.stdin: print(json.dumps(sum(json.loads(line))))"
	var pairs [][2]string
	var input strings.Builder
	for _, x := range numbers {
		for _, y := range numbers {
			pairs = append(pairs, [2]string{x, y})
			fmt.Fprintf(&input, "[%s,%s]\n", x, y)
		}
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", script)
	cmd.Stdin = strings.NewReader(input.String())
	output, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range strings.Fields(string(output)) {
		if got, err := sum(json.RawMessage(pairs[i][0]), json.RawMessage(pairs[i][1])); err != nil || string(got) != want {
			t.Errorf("%q: got %s (%v), in Python %s", pairs[i], got, err, want)
		}
	}
}

func TestFail_hasPythonsType(t *testing.T) {
	t.Parallel()
	_, err := fail(t.Context(), failArgs{json.RawMessage(`"no luck"`)})
	if dramatiq.ErrorType(err) != "InteropError" || err.Error() != "no luck" {
		t.Errorf("got %s %q", dramatiq.ErrorType(err), err)
	}
}

func TestSleep_isCutShort(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sleep(ctx, waitArgs{3_600_000}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestWithParameters(t *testing.T) {
	t.Setenv("DRAMATIQ_HEARTBEAT_TIMEOUT", "2s")
	t.Setenv("INTEROP_MAX_PRIORITY", "7")
	for in, want := range map[string]string{
		"sqlite:x.db":                        "sqlite:x.db?heartbeat_timeout=2s",
		"sqlite:x.db?synchronous=normal":     "sqlite:x.db?synchronous=normal&heartbeat_timeout=2s",
		"sqlite:x.db?heartbeat_timeout=300s": "sqlite:x.db?heartbeat_timeout=300s",
		"amqp://h/":                          "amqp://h/?max_priority=7",
		"memory:":                            "memory:",
	} {
		if got, err := withParameters(in); err != nil || got != want {
			t.Errorf("%s: got %s, %v; want %s", in, got, err, want)
		}
	}
}

func TestNoLedger(t *testing.T) {
	t.Parallel()
	l, err := openLedger("")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.increment(t.Context(), "x"); !errors.Is(err, errNoLedger) {
		t.Errorf("got %v", err)
	}
}

func TestRedisLedger(t *testing.T) {
	t.Parallel()
	l, err := newRedisLedger(testenv.RedisURL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.close() }()
	counter := "goworker-test:" + rand.Text()
	for want := range int64(3) {
		if got, err := l.increment(t.Context(), counter); err != nil || got != want+1 {
			t.Fatalf("got %d, %v; want %d", got, err, want+1)
		}
	}
	if reply, err := l.do(t.Context(), "RPUSH", counter, "x"); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("got %q, %v; want the server's error", reply, err)
	}
	if err := l.close(); err != nil { // as if the connection had been lost
		t.Fatal(err)
	}
	if err := l.push(t.Context(), []byte(`{"args":[NaN]}`)); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{counter, ledgerKey} {
		if _, err := l.do(t.Context(), "DEL", key); err != nil {
			t.Error(err)
		}
	}
}
