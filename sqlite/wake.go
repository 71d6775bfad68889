package sqlite

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	sockSuffix = ".sock"
	lockSuffix = ".lock"
	// nameLength is the length of a consumer's name.
	nameLength = 16
	// socketPathLimit is the longest path of a Unix socket that all systems take, in bytes.
	socketPathLimit = 103
	// settleTime is how old a directory's time of change must be before it is taken to tell all changes apart.
	settleTime = 100 * time.Millisecond
)

// socketDir returns the directory of the workers' sockets: beside the locks, or, where the path of a socket would be too
// long, one in the system's directory for temporary files that all processes of the user derive from the same path.
func socketDir(dir string) string {
	if len(dir)+1+nameLength+len(sockSuffix) <= socketPathLimit {
		return dir
	}
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(os.TempDir(), fmt.Sprintf("dramatiq-%d-%s", os.Getuid(), hex.EncodeToString(sum[:8])))
}

// sender sends one byte to the socket of each worker of other drivers.
type sender struct {
	dir string

	mu      sync.Mutex // guards below
	mine    map[string]bool
	names   []string
	changed time.Time // of dir, when names was read
	read    time.Time // when that was
	out     *outlet   // nil until the first byte is sent
	closed  bool
}

func newSender(dir string) *sender {
	return &sender{dir: dir, mine: map[string]bool{}}
}

// own says whether a socket belongs to a consumer of this driver, which needs no bytes.
func (s *sender) own(name string, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if is {
		s.mine[name] = true
	} else {
		delete(s.mine, name)
	}
}

// wakeOthers sends the bytes. It does not block: a worker whose socket is full has not slept since. A socket that nobody
// listens on any more is removed.
func (s *sender) wakeOthers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !s.refresh() {
		return
	}
	if s.out == nil {
		var err error
		if s.out, err = newOutlet(); err != nil {
			s.out = nil
			return // the others look at data_version
		}
	}
	for _, name := range s.names {
		if s.mine[name] {
			continue
		}
		path := filepath.Join(s.dir, name)
		if s.out.send(path) == sendRefused {
			_ = os.Remove(path)
		}
	}
}

// refresh lists the sockets again if the directory has changed, and reports whether there are any.
func (s *sender) refresh() bool {
	info, err := os.Stat(s.dir)
	if err != nil {
		s.names = nil
		return false
	}
	if changed := info.ModTime(); !changed.Equal(s.changed) || s.read.Sub(changed) < settleTime {
		s.names, s.changed, s.read = s.names[:0], changed, time.Now()
		entries, err := os.ReadDir(s.dir)
		if err != nil {
			return false
		}
		for _, e := range entries {
			if name := e.Name(); strings.HasSuffix(name, sockSuffix) && len(name) == nameLength+len(sockSuffix) {
				s.names = append(s.names, name)
			}
		}
	}
	return len(s.names) > 0
}

func (s *sender) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.out != nil {
		s.out.close()
		s.out = nil
	}
}
