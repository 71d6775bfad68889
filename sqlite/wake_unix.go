//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package sqlite

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// socket hears the bytes that other processes send after a commit.
type socket struct {
	conn *net.UnixConn
	once sync.Once
	done chan struct{}
}

// listen calls wake for each byte that arrives at name, one at a time.
func listen(dir, name string, wake func()) (*socket, error) {
	if len(dir)+1+len(name) > socketPathLimit {
		return nil, fmt.Errorf("the path %q is too long for a socket", filepath.Join(dir, name))
	}
	if err := ensureDir(dir); err != nil {
		return nil, err
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, name), Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	s := &socket{conn: conn, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		var b [16]byte
		for {
			if _, err := conn.Read(b[:]); err != nil {
				return
			}
			wake()
		}
	}()
	return s, nil
}

// close removes the socket and waits for its goroutine. It may be called on nil and more than once.
func (s *socket) close() {
	if s == nil {
		return
	}
	s.once.Do(func() {
		path := s.conn.LocalAddr().String()
		_ = s.conn.Close() // nothing is left to send
		_ = os.Remove(path)
	})
	<-s.done
}

// ensureDir creates the directory if it is missing. It refuses one that belongs to somebody else, because the directory for
// temporary files is everybody's.
func ensureDir(dir string) error {
	if err := os.MkdirAll(dir, 0o770); err != nil {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%q is no directory", dir)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if filepath.Dir(dir) == filepath.Clean(os.TempDir()) && ok && int(stat.Uid) != os.Getuid() {
		return fmt.Errorf("the directory %q belongs to another user", dir)
	}
	return nil
}

// outlet is an unbound datagram socket that never waits.
type outlet struct {
	fd int
}

type sendOutcome uint8

const (
	sendDone sendOutcome = iota
	sendRefused
)

func newOutlet() (*outlet, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return nil, err
	}
	syscall.CloseOnExec(fd)
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, syscall.Close(fd))
	}
	return &outlet{fd: fd}, nil
}

// send sends one byte, if there is room for it.
func (o *outlet) send(path string) sendOutcome {
	err := syscall.Sendto(o.fd, []byte{1}, 0, &syscall.SockaddrUnix{Name: path})
	if errors.Is(err, syscall.ECONNREFUSED) {
		return sendRefused
	}
	return sendDone
}

func (o *outlet) close() {
	_ = syscall.Close(o.fd) // nothing is left to send
}
