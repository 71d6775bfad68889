// Package resp is a minimal client of the Redis protocol: one connection, one command at a time, a deadline on every call.
// It is independent of the client library that is under test.
package resp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// DefaultTimeout limits calls whose context has no deadline.
const DefaultTimeout = 5 * time.Second

// maxReply is the longest string or array a server may announce: more is a broken stream.
const maxReply = 512 << 20

// Error is an error reply of the server. The connection stays usable after it.
type Error string

// Error returns the server's text.
func (e Error) Error() string { return "resp: server: " + string(e) }

// Client is a connection to a server. It is safe for concurrent use. After a failed call it connects anew; it never
// repeats a command by itself.
type Client struct {
	network, address string
	setup            [][]string // AUTH and SELECT, sent on each new connection

	mu   sync.Mutex // guards below
	conn net.Conn   // nil until the first call and after a failed one
	in   *bufio.Reader
}

// New returns a client for redis://[user[:password]@]host[:port][/database] or unix:///path[?db=n]. It connects at the
// first call.
func New(rawURL string) (*Client, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("resp: url: %w", errors.Unwrap(err)) // without the URL: it may hold a password
	}
	c := &Client{network: "tcp", address: u.Host}
	database := strings.TrimPrefix(u.Path, "/")
	switch u.Scheme {
	case "redis":
		if u.Port() == "" {
			c.address = net.JoinHostPort(u.Hostname(), "6379")
		}
	case "unix":
		c.network, c.address, database = "unix", u.Path, u.Query().Get("db")
	default:
		return nil, fmt.Errorf("resp: url: unknown scheme %q", u.Scheme)
	}
	if password, ok := u.User.Password(); ok {
		auth := []string{"AUTH", password}
		if user := u.User.Username(); user != "" {
			auth = []string{"AUTH", user, password}
		}
		c.setup = append(c.setup, auth)
	}
	if database != "" && database != "0" {
		if _, err := strconv.ParseUint(database, 10, 16); err != nil {
			return nil, fmt.Errorf("resp: url: database %q is no number", database)
		}
		c.setup = append(c.setup, []string{"SELECT", database})
	}
	return c, nil
}

// Do sends a command and returns its reply: a string, an int64, nil, or a []any of these. After an error that is not an
// [Error] the command may or may not have been done.
func (c *Client) Do(ctx context.Context, args ...string) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(DefaultTimeout)
	}
	if c.conn == nil {
		if err := c.connect(ctx, deadline); err != nil {
			return nil, err
		}
	}
	return c.roundTrip(deadline, args)
}

// Close closes the connection.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return nil
	}
	err := c.conn.Close()
	c.conn = nil
	if err != nil {
		return fmt.Errorf("resp: close: %w", err)
	}
	return nil
}

func (c *Client) connect(ctx context.Context, deadline time.Time) error {
	dialer := net.Dialer{Deadline: deadline}
	conn, err := dialer.DialContext(ctx, c.network, c.address)
	if err != nil {
		return fmt.Errorf("resp: connect: %w", err)
	}
	c.conn, c.in = conn, bufio.NewReader(conn)
	for _, command := range c.setup {
		if _, err := c.roundTrip(deadline, command); err != nil {
			_ = conn.Close()
			c.conn = nil
			return fmt.Errorf("resp: %s: %w", strings.ToLower(command[0]), err)
		}
	}
	return nil
}

// roundTrip sends a command and reads its reply; when that fails half way, the connection is given up.
func (c *Client) roundTrip(deadline time.Time, args []string) (any, error) {
	reply, err := c.exchange(deadline, args)
	var refused Error
	if err != nil && !errors.As(err, &refused) {
		_ = c.conn.Close()
		c.conn = nil
		return nil, fmt.Errorf("resp: %s: %w", strings.ToLower(args[0]), err)
	}
	return reply, err
}

func (c *Client) exchange(deadline time.Time, args []string) (any, error) {
	if err := c.conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	request := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, arg := range args {
		request = fmt.Appendf(request, "$%d\r\n%s\r\n", len(arg), arg)
	}
	if _, err := c.conn.Write(request); err != nil {
		return nil, err
	}
	return c.read()
}

// read parses one reply. An [Error] inside an array is an element of it.
func (c *Client) read() (any, error) {
	line, err := c.in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line, terminated := strings.CutSuffix(line, "\r\n")
	if !terminated || line == "" {
		return nil, fmt.Errorf("malformed reply %.20q", line)
	}
	kind, rest := line[0], line[1:]
	switch kind {
	case '+':
		return rest, nil
	case '-':
		return nil, Error(rest)
	}
	n, err := strconv.ParseInt(rest, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("malformed reply %.20q", line)
	}
	switch {
	case kind == ':':
		return n, nil
	case n == -1 && (kind == '$' || kind == '*'):
		return nil, nil
	case n < 0 || n > maxReply:
		return nil, fmt.Errorf("reply of length %d", n)
	case kind == '$':
		return c.readString(int(n))
	case kind == '*':
		return c.readArray(int(n))
	default:
		return nil, fmt.Errorf("unknown reply type %q", kind)
	}
}

func (c *Client) readString(n int) (any, error) {
	data := make([]byte, n+2)
	if _, err := io.ReadFull(c.in, data); err != nil {
		return nil, err
	}
	return string(data[:n]), nil
}

func (c *Client) readArray(n int) (any, error) {
	var elements []any
	for range n {
		element, err := c.read()
		var refused Error
		switch {
		case errors.As(err, &refused):
			element = refused
		case err != nil:
			return nil, err
		}
		elements = append(elements, element)
	}
	return elements, nil
}
