package rabbitmq

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// connectTimeout bounds everything from the first packet to a connection that is ready for use.
	connectTimeout = 3 * time.Second
	// closeTimeout is how long the server may take to answer when a connection is closed.
	closeTimeout = 3 * time.Second
)

// transport closes itself when reading fails. The client library cannot give up a silent connection while one of its
// writes is stuck: giving up takes the lock that the write holds. A heartbeat that stays out fails the read, this closes
// the socket, and that ends the write.
type transport struct {
	net.Conn
}

func (t transport) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	if err != nil {
		_ = t.Close() // the read's error is the one that matters
	}
	return n, err
}

// dial opens a connection; role is what the server's list of connections shows.
func (c *Config) dial(ctx context.Context, role string) (*amqp.Connection, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := c.handshake(ctx, role)
	if err != nil {
		if ctx.Err() != nil {
			err = errors.Join(ctx.Err(), err)
		}
		return nil, fmt.Errorf("connect to %v: %w", c, err)
	}
	return conn, nil
}

func (c *Config) handshake(ctx context.Context, role string) (*amqp.Connection, error) {
	var dialer net.Dialer
	socket, err := dialer.DialContext(ctx, "tcp", c.Addr)
	if err != nil {
		return nil, err
	}
	// From here on, ending the context closes the socket, which ends whatever waits for it.
	stop := context.AfterFunc(ctx, func() { _ = socket.Close() })
	defer stop()
	var stream net.Conn = transport{socket}
	if c.TLS != nil {
		encrypted := tls.Client(stream, c.tlsConfig())
		if err := encrypted.HandshakeContext(ctx); err != nil {
			_ = socket.Close()
			return nil, err
		}
		stream = encrypted
	}
	properties := amqp.NewConnectionProperties()
	properties["connection_name"] = "dramatiq-go " + role
	conn, err := amqp.Open(stream, amqp.Config{
		SASL:       []amqp.Authentication{&amqp.PlainAuth{Username: c.Username, Password: c.Password}},
		Vhost:      c.VHost,
		Locale:     "en_US",
		Heartbeat:  c.Heartbeat,
		Properties: properties,
		// Recovery stays nil: the library would acknowledge deliveries of a lost session by their number on the new one,
		// and so remove other messages.
	})
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		_ = socket.Close()
		return nil, err
	}
	return conn, nil
}

func (c *Config) tlsConfig() *tls.Config {
	t := c.TLS.Clone()
	if t.ServerName == "" {
		t.ServerName, _, _ = net.SplitHostPort(c.Addr) // validated
	}
	return t
}

// closeConnection closes a connection with the server's knowledge, so that what was sent before is taken in. It returns
// after closeTimeout at the latest.
func closeConnection(conn *amqp.Connection) {
	_ = conn.CloseDeadline(time.Now().Add(closeTimeout)) // whatever it says, the connection is closed
}

// await runs a call that knows no context, and stops waiting for it when ctx ends. The call then goes on by itself until
// it is answered or its connection ends.
func await[T any](ctx context.Context, call func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := call()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}
