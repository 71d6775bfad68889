package rabbitmq

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

const (
	defaultHeartbeat = 2 * time.Second
	maxHeartbeat     = time.Minute
	maxPriority      = 255
)

// Config says where the server is and how to talk to it.
type Config struct {
	// Addr is the server's host and port; "localhost:5672" by default.
	Addr string
	// Username is "guest" by default.
	Username string
	// Password is "guest" by default if Username is left out, too.
	Password string `json:"-"`
	// VHost is the virtual host; "/" by default.
	VHost string
	// TLS, if not nil, encrypts connections. ServerName defaults to the host of Addr.
	TLS *tls.Config
	// Heartbeat is the interval at which both sides prove that they are alive, in whole seconds from 1 to 60; 2 s by
	// default. A connection that fell silent is given up after one and a half intervals.
	Heartbeat time.Duration
	// MaxPriority is the highest priority that queues tell apart, 1 to 255; 0, the default, declares queues without
	// priorities. It must be the same in every Go and Python process of a queue (max_priority in Python).
	MaxPriority int
}

// Open returns a driver for a URL:
//
//	amqp://user:password@host:port/vhost?heartbeat=2&max_priority=10
//
// The scheme amqps encrypts and trusts the system's certificates. All parts but the scheme may be left out; the defaults
// and the parameters are those of Config, with the heartbeat in seconds. Open needs no connection. Its errors never
// contain the password.
func Open(url string) (*Driver, error) {
	cfg, err := parseURL(url)
	if err != nil {
		return nil, driver.Misconfigured(err)
	}
	return New(cfg)
}

// parseURL repeats no part of a URL that could not be parsed: wherever a special character splits it at the wrong place,
// a piece of the password may turn up.
func parseURL(text string) (Config, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return Config{}, errors.New("rabbitmq: the URL cannot be parsed; it looks like amqp://user:password@host:5672/vhost, " +
			"with special characters in user and password percent-encoded")
	case u.Scheme != "amqp" && u.Scheme != "amqps":
		return Config{}, errors.New("rabbitmq: the URL must start with amqp:// or amqps://")
	case u.Opaque != "":
		return Config{}, fmt.Errorf("rabbitmq: the URL must start with %s://", u.Scheme)
	case strings.Contains(u.EscapedPath(), "@") || strings.ContainsAny(u.Host, ";,"):
		return Config{}, errors.New("rabbitmq: the URL must name one server; in user, password and vhost, percent-encode " +
			"/ as %2F and @ as %40")
	case u.Fragment != "":
		return Config{}, errors.New("rabbitmq: the URL contains a #; percent-encode it as %23")
	case strings.ContainsAny(u.RawQuery, "@/?"):
		return Config{}, errors.New("rabbitmq: the URL contains a ? before its host; percent-encode it as %3F")
	}
	cfg := Config{VHost: strings.TrimPrefix(u.Path, "/")}
	port := "5672"
	if u.Scheme == "amqps" {
		port = "5671"
		cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	cfg.Addr = net.JoinHostPort(cmp.Or(u.Hostname(), "localhost"), cmp.Or(u.Port(), port))
	if u.User != nil {
		cfg.Username = u.User.Username()
		cfg.Password, _ = u.User.Password()
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Config{}, errors.New("rabbitmq: the URL's parameters cannot be parsed")
	}
	for name, values := range query {
		if len(values) != 1 {
			return Config{}, fmt.Errorf("rabbitmq: URL parameter %q is given %d times", name, len(values))
		}
		if err := cfg.set(name, values[0]); err != nil {
			return Config{}, err
		}
	}
	return cfg, nil
}

// set takes over one URL parameter.
func (c *Config) set(name, value string) error {
	n, err := strconv.Atoi(value)
	switch name {
	case "heartbeat":
		if err != nil || n < 1 || n > int(maxHeartbeat/time.Second) {
			return fmt.Errorf("rabbitmq: URL parameter heartbeat=%q must be a number of seconds from 1 to 60", value)
		}
		c.Heartbeat = time.Duration(n) * time.Second
	case "max_priority":
		if err != nil || n < 1 || n > maxPriority {
			return fmt.Errorf("rabbitmq: URL parameter max_priority=%q must be a number from 1 to 255", value)
		}
		c.MaxPriority = n
	default:
		return fmt.Errorf("rabbitmq: unknown URL parameter %q; there are heartbeat and max_priority", name)
	}
	return nil
}

func (c Config) withDefaults() Config {
	c.Addr = cmp.Or(c.Addr, "localhost:5672")
	if c.Username == "" {
		c.Username, c.Password = "guest", cmp.Or(c.Password, "guest")
	}
	c.VHost = cmp.Or(c.VHost, "/")
	c.Heartbeat = cmp.Or(c.Heartbeat, defaultHeartbeat)
	return c
}

func (c *Config) validate() error {
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		return fmt.Errorf("rabbitmq: Config.Addr %q must be host:port: %w", c.Addr, err)
	}
	if c.Heartbeat < time.Second || c.Heartbeat > maxHeartbeat || c.Heartbeat%time.Second != 0 {
		return fmt.Errorf("rabbitmq: Config.Heartbeat %v must be whole seconds from 1s to 60s", c.Heartbeat)
	}
	if c.MaxPriority < 0 || c.MaxPriority > maxPriority {
		return fmt.Errorf("rabbitmq: Config.MaxPriority %d must be 0 to 255", c.MaxPriority)
	}
	return nil
}

// String names the server without the password.
func (c Config) String() string {
	u := url.URL{Scheme: "amqp", User: url.User(c.Username), Host: c.Addr, Path: "/" + c.VHost}
	if c.TLS != nil {
		u.Scheme = "amqps"
	}
	if c.VHost == "/" {
		u.Path = "/"
	}
	return u.String()
}

// GoString keeps the password out of %#v.
func (c Config) GoString() string { return "rabbitmq.Config{" + c.String() + "}" }

// LogValue keeps the password out of logs.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }
