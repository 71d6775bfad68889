package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// redisLedger is a ledger in Redis. It speaks just enough of the protocol, so that it does not depend on the client library
// that is under test: every reply to what it sends is a line.
type redisLedger struct {
	network, address string
	setup            [][]string // sent on each new connection

	mu   sync.Mutex // guards below
	conn net.Conn   // nil until the first call and after a failed one
	in   *bufio.Reader
}

func newRedisLedger(text string) (*redisLedger, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("the URL cannot be parsed") // and is not shown, as it may hold a password
	}
	l := &redisLedger{network: "tcp", address: u.Host}
	database := strings.TrimPrefix(u.Path, "/")
	switch u.Scheme {
	case "redis":
		if u.Port() == "" {
			l.address = net.JoinHostPort(u.Hostname(), "6379")
		}
	case "unix":
		l.network, l.address, database = "unix", u.Path, u.Query().Get("db")
	default:
		return nil, fmt.Errorf("unknown scheme %q; there are redis, unix and file", u.Scheme)
	}
	if password, ok := u.User.Password(); ok {
		auth := []string{"AUTH"}
		if user := u.User.Username(); user != "" {
			auth = append(auth, user)
		}
		l.setup = append(l.setup, append(auth, password))
	}
	if database != "" && database != "0" {
		l.setup = append(l.setup, []string{"SELECT", database})
	}
	return l, nil
}

func (l *redisLedger) push(ctx context.Context, entry []byte) error {
	_, err := l.do(ctx, "RPUSH", ledgerKey, string(entry))
	return err
}

func (l *redisLedger) increment(ctx context.Context, counter string) (int64, error) {
	reply, err := l.do(ctx, "INCR", counter)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimPrefix(reply, ":"), 10, 64)
}

func (l *redisLedger) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return nil
	}
	err := l.conn.Close()
	l.conn = nil
	return err
}

// do sends a command and returns the line of its reply. After an error the command may or may not have been done.
func (l *redisLedger) do(ctx context.Context, args ...string) (reply string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() {
		if err != nil {
			err = fmt.Errorf("ledger: %s: %w", args[0], err)
		}
	}()
	if l.conn == nil {
		if err := l.connect(ctx); err != nil {
			return "", err
		}
	}
	return l.exchange(ctx, args)
}

func (l *redisLedger) connect(ctx context.Context) error {
	dialer := net.Dialer{Timeout: pushTimeout}
	conn, err := dialer.DialContext(ctx, l.network, l.address)
	if err != nil {
		return err
	}
	l.conn, l.in = conn, bufio.NewReader(conn)
	for _, command := range l.setup {
		if _, err := l.exchange(ctx, command); err != nil {
			l.drop()
			return err
		}
	}
	return nil
}

func (l *redisLedger) drop() {
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn = nil
	}
}

// exchange sends a command and reads its reply. When that fails half way, the connection is given up.
func (l *redisLedger) exchange(ctx context.Context, args []string) (string, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(pushTimeout)
	}
	request := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, arg := range args {
		request = fmt.Appendf(request, "$%d\r\n%s\r\n", len(arg), arg)
	}
	err := l.conn.SetDeadline(deadline)
	if err == nil {
		_, err = l.conn.Write(request)
	}
	var reply string
	if err == nil {
		reply, err = l.in.ReadString('\n')
	}
	if err != nil {
		l.drop()
		return "", err
	}
	reply = strings.TrimRight(reply, "\r\n")
	if text, refused := strings.CutPrefix(reply, "-"); refused {
		return "", errors.New(text)
	}
	return reply, nil
}
