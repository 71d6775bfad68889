package sqlite

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

// Forever as Config.DeadTTL keeps dead letters until somebody deletes them. In a URL it is dead_ttl=forever.
const Forever time.Duration = math.MaxInt64

// Synchronous says what a stored message survives.
type Synchronous string

// The values of Config.Synchronous.
const (
	// Full flushes the disk before Enqueue and Settle return: what they stored survives a power cut. The default.
	Full Synchronous = "full"
	// Normal leaves the flush to the system: a power cut may take the last transactions, the death of a process may not.
	Normal Synchronous = "normal"
)

// Config holds the settings of a Driver. Only Path is required; a zero value stands for the default.
type Config struct {
	// Path is the database file, relative to the working directory or absolute. It is created when missing; its directory
	// is not. Files appear beside it: Path-wal, Path-shm, and the directory Path.d.
	Path string

	// HeartbeatTimeout is how long a consumer that gives no sign of life keeps its claims. Default 60 s, least 100 ms. A
	// killed process is noticed within about 2 s whatever this is. URL parameter heartbeat_timeout.
	HeartbeatTimeout time.Duration

	// Synchronous is Full (the default) or Normal. URL parameter synchronous.
	Synchronous Synchronous

	// BusyTimeout is how long a call waits while another process holds the file's write lock, if its context allows it.
	// Default 10 s. URL parameter busy_timeout.
	BusyTimeout time.Duration

	// DeadTTL is how long dead letters are kept; see Forever. Default 168 h. URL parameter dead_ttl.
	DeadTTL time.Duration

	// PollInterval is how often a worker looks for commits of which nobody tells it: those of foreign writers, and all
	// commits of other processes where Unix datagram sockets cannot be used. Default 250 ms, and 20 ms in the latter case.
	// A look costs some 5 µs. URL parameter poll_interval.
	PollInterval time.Duration
}

const (
	defaultHeartbeat  = 60 * time.Second
	leastHeartbeat    = 100 * time.Millisecond
	defaultBusy       = 10 * time.Second
	defaultDeadTTL    = 168 * time.Hour
	defaultPoll       = 250 * time.Millisecond
	defaultPollDeaf   = 20 * time.Millisecond
	forms             = "sqlite:///absolute/path.db, sqlite:relative/path.db or a plain path"
	parameterForever  = "forever"
	recoveryLookEvery = time.Second
)

func (c Config) withDefaults() Config {
	c.HeartbeatTimeout = cmp.Or(c.HeartbeatTimeout, defaultHeartbeat)
	c.Synchronous = cmp.Or(c.Synchronous, Full)
	c.BusyTimeout = cmp.Or(c.BusyTimeout, defaultBusy)
	c.DeadTTL = cmp.Or(c.DeadTTL, defaultDeadTTL)
	return c
}

func (c Config) validate() error {
	switch {
	case c.Path == "":
		return errors.New("the Path is empty: name the database file")
	case strings.Contains(c.Path, ":memory:"):
		return errors.New("a database in memory cannot be shared between connections: use package memory instead")
	case strings.ContainsRune(c.Path, 0):
		return fmt.Errorf("the Path %q contains a zero byte", c.Path)
	case c.HeartbeatTimeout < leastHeartbeat:
		return fmt.Errorf("HeartbeatTimeout %v is below the least, %v", c.HeartbeatTimeout, leastHeartbeat)
	case c.Synchronous != Full && c.Synchronous != Normal:
		return fmt.Errorf("Synchronous %q is neither %q nor %q", c.Synchronous, Full, Normal)
	case c.BusyTimeout < 0:
		return fmt.Errorf("BusyTimeout %v is negative", c.BusyTimeout)
	case c.DeadTTL < 0:
		return fmt.Errorf("DeadTTL %v is negative", c.DeadTTL)
	case c.PollInterval < 0:
		return fmt.Errorf("PollInterval %v is negative", c.PollInterval)
	}
	return nil
}

// ParseURL reads a Config from one of three forms:
//
//	sqlite:///absolute/path.db?synchronous=normal&heartbeat_timeout=30s
//	sqlite:relative/path.db?dead_ttl=720h
//	any/plain/path.db
//
// A plain path is taken as it is and has no parameters. In the other forms reserved characters of the path are percent
// encoded, and parameters are busy_timeout, dead_ttl, heartbeat_timeout, poll_interval (durations such as 1m30s) and
// synchronous (full or normal). An unknown or repeated parameter is an error. Errors wrap driver.ErrMisconfigured.
func ParseURL(text string) (Config, error) {
	cfg, err := parseURL(text)
	if err != nil {
		return Config{}, fmt.Errorf("sqlite: %w: %q: %w", driver.ErrMisconfigured, text, err)
	}
	return cfg, nil
}

func parseURL(text string) (Config, error) {
	if !strings.HasPrefix(text, "sqlite:") {
		if scheme, _, ok := strings.Cut(text, "://"); ok {
			return Config{}, fmt.Errorf("unknown scheme %q: use %s", scheme, forms)
		}
		if text == "" {
			return Config{}, fmt.Errorf("no database file: use %s", forms)
		}
		return Config{Path: text}, nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return Config{}, fmt.Errorf("use %s: %w", forms, err)
	}
	if u.Host != "" || u.User != nil || u.Fragment != "" {
		return Config{}, fmt.Errorf("an SQLite URL has neither host, user nor fragment: use %s", forms)
	}
	path := u.Path
	if u.Opaque != "" {
		if path, err = url.PathUnescape(u.Opaque); err != nil {
			return Config{}, err
		}
	}
	if runtime.GOOS == "windows" && len(path) > 2 && path[0] == '/' && path[2] == ':' {
		path = path[1:]
	}
	if path == "" {
		return Config{}, fmt.Errorf("no database file: use %s", forms)
	}
	cfg := Config{Path: filepath.FromSlash(path)}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Config{}, err
	}
	return cfg, cfg.setParameters(query)
}

func (c *Config) setParameters(query url.Values) error {
	durations := map[string]*time.Duration{
		"busy_timeout":      &c.BusyTimeout,
		"dead_ttl":          &c.DeadTTL,
		"heartbeat_timeout": &c.HeartbeatTimeout,
		"poll_interval":     &c.PollInterval,
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if len(query[name]) > 1 {
			return fmt.Errorf("parameter %s is given %d times", name, len(query[name]))
		}
		value := query.Get(name)
		if name == "synchronous" {
			c.Synchronous = Synchronous(strings.ToLower(value))
			continue
		}
		field, ok := durations[name]
		if !ok {
			known := append(slices.Collect(maps.Keys(durations)), "synchronous")
			slices.Sort(known)
			return fmt.Errorf("unknown parameter %q; known are %s", name, strings.Join(known, ", "))
		}
		if name == "dead_ttl" && value == parameterForever {
			*field = Forever
			continue
		}
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			return fmt.Errorf("parameter %s=%q is not a duration above zero such as 1m30s", name, value)
		}
		*field = d
	}
	return c.withDefaults().validate()
}
