// Package connect opens a driver by URL, so that moving a program to another broker is a matter of its configuration:
//
//	driver, err := connect.Open("") // $DRAMATIQ_BROKER_URL, else the file dramatiq.db
//	broker, err := dramatiq.NewBroker(driver, dramatiq.BrokerConfig{})
//
// The schemes are:
//
//	sqlite:///absolute/path.db    one file for the processes of one machine; also sqlite:relative.db (package sqlite)
//	amqp://user:password@host/    RabbitMQ; amqps:// encrypts (package rabbitmq)
//	memory:                       a store of this process alone, a new one with each Open (package memory)
//
// Parameters that a URL can carry are described in those packages. A program that imports connect links all of their
// drivers; one that needs a single driver and no choice opens it directly.
package connect

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/memory"
	"github.com/dramatiq-go/dramatiq/rabbitmq"
	"github.com/dramatiq-go/dramatiq/sqlite"
)

const (
	// URLVariable is the environment variable that names the broker of programs that are told no URL.
	URLVariable = "DRAMATIQ_BROKER_URL"
	// DefaultFile is the SQLite file, in the working directory, of programs for which URLVariable is not set either.
	DefaultFile = "dramatiq.db"
)

// opener opens a driver. The URL it gets begins with its scheme in lower case.
type opener func(url string) (driver.Driver, error)

// openers returns what opens each scheme.
func openers() map[string]opener {
	return map[string]opener{
		"amqp":   opens(rabbitmq.Open),
		"amqps":  opens(rabbitmq.Open),
		"memory": openMemory,
		"sqlite": opens(sqlite.Open),
	}
}

// opens keeps a driver's failed Open from becoming an interface that holds a nil pointer.
func opens[D driver.Driver](open func(url string) (D, error)) opener {
	return func(url string) (driver.Driver, error) {
		d, err := open(url)
		if err != nil {
			return nil, err
		}
		return d, nil
	}
}

func openMemory(url string) (driver.Driver, error) {
	if rest := strings.TrimPrefix(url, "memory:"); rest != "" && rest != "//" {
		return nil, errors.New("connect: the in-memory broker has no name and no parameters: its URL is just its scheme and a colon")
	}
	return memory.New(memory.Config{}), nil
}

// Schemes returns the URL schemes that Open knows, sorted.
func Schemes() []string { return slices.Sorted(maps.Keys(openers())) }

// Open opens the driver that a URL names; an empty one means that of URL. Servers need not be reachable yet. Errors contain
// no passwords.
func Open(url string) (driver.Driver, error) {
	if url != "" {
		return open(url)
	}
	d, err := open(URL())
	if err != nil && os.Getenv(URLVariable) != "" {
		return nil, fmt.Errorf("%s: %w", URLVariable, err)
	}
	return d, err
}

func open(url string) (driver.Driver, error) {
	name, rest, ok := cutScheme(url)
	if !ok {
		return nil, driver.Misconfigured(fmt.Errorf("connect: a broker URL begins with a scheme and a colon, "+
			"such as sqlite:%s; the schemes are %s", DefaultFile, strings.Join(Schemes(), ", ")))
	}
	open := openers()[name]
	if open == nil {
		return nil, driver.Misconfigured(fmt.Errorf("connect: unknown URL scheme %q; the schemes are %s",
			name, strings.Join(Schemes(), ", ")))
	}
	return open(name + ":" + rest)
}

// cutScheme splits a URL after its scheme, which it returns in lower case.
func cutScheme(url string) (scheme, rest string, ok bool) {
	scheme, rest, ok = strings.Cut(url, ":")
	scheme = strings.ToLower(scheme)
	for i, c := range []byte(scheme) {
		letter := 'a' <= c && c <= 'z'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '+' && c != '-' && c != '.') {
			return "", "", false
		}
	}
	return scheme, rest, ok && scheme != ""
}

// URL returns what Open opens when it is given no URL: the value of URLVariable, else DefaultFile by its absolute path. It may
// hold a password; Describe makes a text for logs.
func URL() string {
	return cmp.Or(os.Getenv(URLVariable), fileURL(DefaultFile))
}

// fileURL returns the URL of an SQLite file by its absolute path.
func fileURL(path string) string {
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") { // C:/…
		path = "/" + path
	}
	return (&url.URL{Scheme: "sqlite", Path: path}).String()
}

// Describe names the broker of a URL for people and logs: without password and parameters, with an SQLite file's absolute
// path. An empty URL means that of URL.
func Describe(text string) string {
	name, rest, ok := cutScheme(cmp.Or(text, URL()))
	switch {
	case !ok:
		return "a URL without a scheme"
	case name == "memory":
		return "memory:"
	case name == "sqlite":
		return describeFile(rest)
	default:
		return describeServer(name, name+":"+rest)
	}
}

func describeFile(rest string) string {
	path, _, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "?")
	path, err := url.PathUnescape(path)
	if err != nil {
		return "sqlite:" + rest
	}
	if runtime.GOOS == "windows" && len(path) > 2 && path[0] == '/' && path[2] == ':' {
		path = path[1:]
	}
	return fileURL(path)
}

func describeServer(scheme, text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.Fragment != "" || strings.Contains(u.Path+u.RawQuery, "@") {
		// A special character that should have been percent-encoded has split the URL at the wrong place, so that any part
		// may hold a piece of the password.
		return scheme + "://…"
	}
	shown := url.URL{Scheme: scheme, Host: u.Host, Path: u.Path}
	if user := u.User.Username(); user != "" {
		shown.User = url.User(user)
	}
	return shown.String()
}
