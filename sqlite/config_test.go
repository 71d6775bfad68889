package sqlite

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Config{
		"jobs.db":                        {Path: "jobs.db"},
		"/var/lib/100%.db":               {Path: "/var/lib/100%.db"},
		"sqlite:jobs.db":                 {Path: "jobs.db"},
		"sqlite:dir/a%20b.db":            {Path: "dir/a b.db"},
		"sqlite:///var/lib/jobs.db":      {Path: "/var/lib/jobs.db"},
		"sqlite:///a%3Fb.db":             {Path: "/a?b.db"},
		"sqlite:a.db?dead_ttl=forever":   {Path: "a.db", DeadTTL: Forever},
		"sqlite:a.db?synchronous=normal": {Path: "a.db", Synchronous: Normal},
		"sqlite:a.db?busy_timeout=1s&heartbeat_timeout=1m30s&poll_interval=5ms&dead_ttl=1h&synchronous=FULL": {
			Path: "a.db", BusyTimeout: time.Second, HeartbeatTimeout: 90 * time.Second, PollInterval: 5 * time.Millisecond,
			DeadTTL: time.Hour, Synchronous: Full,
		},
	} {
		if got, err := ParseURL(text); err != nil || got != want {
			t.Errorf("ParseURL(%q) = %+v, %v, want %+v", text, got, err, want)
		}
	}
}

func TestParseURL_RefusesWithAReason(t *testing.T) {
	t.Parallel()
	for text, reason := range map[string]string{
		"":                                    "no database file",
		"sqlite:":                             "no database file",
		"sqlite://":                           "no database file",
		"sqlite://jobs.db":                    "neither host",
		"redis://localhost":                   `unknown scheme "redis"`,
		"sqlite:a.db?timeout=1s":              "known are busy_timeout, dead_ttl, heartbeat_timeout, poll_interval, synchronous",
		"sqlite:a.db?dead_ttl=7d":             "not a duration",
		"sqlite:a.db?dead_ttl=-1h":            "above zero",
		"sqlite:a.db?dead_ttl=1h&dead_ttl=2h": "2 times",
		"sqlite:a.db?synchronous=off":         "neither",
		"sqlite:a.db?heartbeat_timeout=1ms":   "below the least",
		"sqlite::memory:":                     "package memory",
	} {
		_, err := ParseURL(text)
		if err == nil || !strings.Contains(err.Error(), reason) || !errors.Is(err, driver.ErrMisconfigured) {
			t.Errorf("ParseURL(%q) = %v, want an error with %q", text, err, reason)
		}
	}
}
