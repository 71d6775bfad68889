package rabbitmq_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/rabbitmq"
)

func TestOpen_AcceptsURLs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"amqp://":                             "amqp://guest@localhost:5672/",
		"amqps://host":                        "amqps://guest@host:5671/",
		"amqp://host:1234/":                   "amqp://guest@host:1234/",
		"amqp://host/%2F":                     "amqp://guest@host:5672/",
		"amqp://host/a%2Fb":                   "amqp://guest@host:5672/a/b",
		"amqp://me:s3cret@[::1]:1/v":          "amqp://me@[::1]:1/v",
		"amqp://me:s3cr%40t@h?heartbeat=5":    "amqp://me@h:5672/",
		"amqp://h/v?max_priority=9":           "amqp://guest@h:5672/v",
		"amqp://h?heartbeat=1&max_priority=1": "amqp://guest@h:5672/",
	} {
		d, err := rabbitmq.Open(text)
		if err != nil {
			t.Errorf("Open(%q) = %v", text, err)
			continue
		}
		if got := d.String(); got != want {
			t.Errorf("Open(%q) goes to %q, want %q", text, got, want)
		}
	}
}

func TestOpen_RefusesBadURLsWithoutTheirPassword(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"redis://me:s3cret@host":                        "amqp://",
		"amqp:host":                                     "amqp://",
		"amqp://me:s3c ret@host":                        "percent-encoded",
		"amqp://me:%zzs3cret@host":                      "percent-encoded",
		"amqp://me:#s3cret@host":                        "",
		"amqp://me:1#s3cret@host":                       "%23",
		"amqp://me:1?s3cret@host":                       "%3F",
		"amqp://me:s3cret/x@host":                       "",
		"amqp://me:s3cret@host:port":                    "percent-encoded",
		"amqp://me:s3cret@a;amqp://me:s3cret@b":         "",
		"amqp://me:s3cret@host?colour=red":              `"colour"`,
		"amqp://me:s3cret@host?heartbeat=0":             "heartbeat",
		"amqp://me:s3cret@host?heartbeat=61":            "heartbeat",
		"amqp://me:s3cret@host?max_priority=0":          "max_priority",
		"amqp://me:s3cret@host?max_priority=256":        "max_priority",
		"amqp://me:s3cret@host?max_priority=x":          "max_priority",
		"amqp://me:s3cret@host?heartbeat=2&heartbeat=3": "2 times",
	} {
		_, err := rabbitmq.Open(text)
		if err == nil {
			t.Errorf("Open(%q) = nil, want an error", text)
			continue
		}
		if !strings.HasPrefix(err.Error(), "rabbitmq: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%q) = %v, want an error about %q", text, err, want)
		}
		for _, part := range []string{"s3cret", "ret@", "s3c"} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("Open(%q) shows the password: %v", text, err)
			}
		}
	}
}

func TestNew_RefusesBadSettings(t *testing.T) {
	t.Parallel()
	for _, cfg := range []rabbitmq.Config{
		{Addr: "host"},
		{Heartbeat: time.Millisecond},
		{Heartbeat: 1500 * time.Millisecond},
		{Heartbeat: time.Hour},
		{MaxPriority: -1},
		{MaxPriority: 256},
	} {
		if _, err := rabbitmq.New(cfg); err == nil {
			t.Errorf("New(%+v) = nil, want an error", cfg)
		}
	}
}

func TestConfig_KeepsThePasswordToItself(t *testing.T) {
	t.Parallel()
	cfg := rabbitmq.Config{Addr: "h:1", Username: "me", Password: "s3cret"}
	for _, text := range []string{
		fmt.Sprint(cfg), fmt.Sprintf("%+v", cfg), fmt.Sprintf("%#v", cfg), cfg.LogValue().String(),
	} {
		if strings.Contains(text, "s3cret") {
			t.Errorf("the password shows in %q", text)
		}
	}
}

func TestDriver_FailsWithoutServerAndKeepsThePassword(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	_ = listener.Close()
	d := open(t, "amqp://me:s3cret@"+addr)
	errs := d.Enqueue(within(t), messages("q", 2))
	if len(errs) != 2 {
		t.Fatalf("Enqueue without a server returned %d errors", len(errs))
	}
	c := consume(t, d, "q")
	_, err = c.Fetch(within(t), 1)
	for _, err := range append(errs, err, d.Declare(within(t), []string{"q"})) {
		if err == nil || !strings.HasPrefix(err.Error(), "rabbitmq: ") || !strings.Contains(err.Error(), addr) {
			t.Errorf("the error without a server is %v", err)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

func TestDriver_ObeysItsContextWhileConnecting(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0") // accepts nobody: connections open and stay silent
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	d := open(t, "amqp://"+listener.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	errs := d.Enqueue(ctx, messages("q", 1))
	wantError(t, "Enqueue", errs[0], context.DeadlineExceeded)
	began := time.Now()
	if errs := d.Enqueue(within(t), messages("q", 1)); errs == nil || time.Since(began) > 10*time.Second {
		t.Errorf("Enqueue to a silent server = %v after %v", errs, time.Since(began))
	}
}

func TestDriver_Closed(t *testing.T) {
	t.Parallel()
	name := queue(t)
	d := open(t, serverURL(t))
	c := consume(t, d, name)
	enqueue(t, d, message(name))
	got := fetch(t, c, 1)
	closeConsumer(t, c)
	if err := d.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	wantError(t, "Enqueue", d.Enqueue(within(t), messages(name, 1))[0], driver.ErrClosed)
	wantError(t, "Declare", d.Declare(within(t), []string{name}), driver.ErrClosed)
	_, err := d.Consume(within(t), driver.ConsumerConfig{Queues: []string{name}})
	wantError(t, "Consume", err, driver.ErrClosed)
	_, err = c.Fetch(within(t), 1)
	wantError(t, "Fetch", err, driver.ErrClosed)
	wantError(t, "Begin", c.Begin(within(t), &got[0]), driver.ErrClosed)
	wantError(t, "Begin", c.Begin(within(t), &got[0]), driver.ErrNotHeld)
	wantError(t, "Settle", settle(t, c, driver.Ack, got...), driver.ErrClosed)
	if n := newAdmin(t).ready(name); n != 1 {
		t.Errorf("%d messages are back in the queue, want 1", n)
	}
}

// TestNew_TLS speaks to the server through something that decrypts in front of it.
func TestNew_TLS(t *testing.T) {
	t.Parallel()
	certificates := httptest.NewTLSServer(nil) // for its certificate only
	defer certificates.Close()
	u, err := url.Parse(serverURL(t))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certificates.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		client, err := listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", u.Host)
		if err != nil {
			_ = client.Close()
			return
		}
		go func() {
			_, _ = io.Copy(server, client)
			_ = server.Close()
		}()
		_, _ = io.Copy(client, server)
		_ = client.Close()
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-ended
	})
	roots := x509.NewCertPool()
	roots.AddCert(certificates.Certificate())
	password, _ := u.User.Password()
	d, err := rabbitmq.New(rabbitmq.Config{
		Addr: listener.Addr().String(), Username: u.User.Username(), Password: password, TLS: &tls.Config{RootCAs: roots},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close(within(t)) })
	enqueue(t, d, message(queue(t)))
}
