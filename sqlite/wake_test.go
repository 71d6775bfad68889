package sqlite

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

func TestWake_BetweenDriversWithoutLooking(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{PollInterval: time.Hour})
	other := openTest(t, Config{Path: d.path})
	c := consumeTest(t, d, "default")
	if c.sock == nil {
		t.Skip("no Unix datagram sockets on this system")
	}
	for i := range 20 {
		if i%2 == 0 {
			enqueueTest(t, other, newMessage("default", "a"))
		} else {
			delayed := newMessage("default", "a")
			delayed.Due = time.Now().Add(20 * time.Millisecond)
			enqueueTest(t, other, delayed)
		}
		settleTest(t, c, driver.Ack, fetchTest(t, c, 1)...)
	}
}

func TestWake_WithoutSockets(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{})
	other := openTest(t, Config{Path: d.path})
	d.sender.dir = filepath.Join(t.TempDir(), strings.Repeat("x", 100)) // too long for a socket
	c := consumeTest(t, d, "default")
	if c.sock != nil || d.hears() {
		t.Fatal("there is a socket")
	}
	for range 3 {
		enqueueTest(t, other, newMessage("default", "a"))
		settleTest(t, c, driver.Ack, fetchTest(t, c, 1)...)
	}
}

func TestWake_LongPath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 25))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d := openTest(t, Config{Path: filepath.Join(dir, "test.db"), PollInterval: time.Hour})
	other := openTest(t, Config{Path: d.path})
	c := consumeTest(t, d, "default")
	if c.sock == nil {
		t.Skip("no Unix datagram sockets on this system")
	}
	t.Cleanup(func() { _ = os.RemoveAll(d.sender.dir) })
	if d.sender.dir == d.dir || d.sender.dir != other.sender.dir {
		t.Errorf("sockets are in %q and %q", d.sender.dir, other.sender.dir)
	}
	enqueueTest(t, other, newMessage("default", "a"))
	settleTest(t, c, driver.Ack, fetchTest(t, c, 1)...)
}

func TestWake_RemovesStaleSockets(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{})
	c := consumeTest(t, d, "default")
	if c.sock == nil {
		t.Skip("no Unix datagram sockets on this system")
	}
	stale := filepath.Join(d.dir, "0123456789abcdef"+sockSuffix)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: stale, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil { // a datagram socket stays in the file system
		t.Fatal(err)
	}
	enqueueTest(t, d, newMessage("default", "a"))
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		t.Errorf("the stale socket is still there: %v", err)
	}
}

func TestWake_DoesNotBlock(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{})
	other := openTest(t, Config{Path: d.path})
	consumeTest(t, d, "default") // it never fetches
	for range 1000 {
		other.Wake()
		d.Wake()
	}
}

func TestConsume_WithoutADirectory(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	if err := os.WriteFile(path+".d", nil, 0o600); err != nil { // in the way of the directory
		t.Fatal(err)
	}
	d := openTest(t, Config{Path: path})
	c := consumeTest(t, d, "default")
	enqueueTest(t, d, newMessages(2)...)
	settleTest(t, c, driver.Ack, fetchTest(t, c, 2)...)
}
