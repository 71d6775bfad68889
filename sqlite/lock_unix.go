//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// lockFile is a file that is locked as long as the process lives that made it: the system lets go of the lock when the
// process ends, however it ends.
type lockFile struct {
	f    *os.File
	once sync.Once
}

// createLock creates and locks a file.
func createLock(path string) (*lockFile, error) {
	if err := ensureDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o660)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return &lockFile{f: f}, nil
}

// takeLock takes the lock of a dead process. It returns nil when the process lives, and when that cannot be told.
func takeLock(path string) *lockFile {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	if flock(f) == nil {
		mine, err1 := f.Stat()
		there, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			return &lockFile{f: f}
		} // else it was closed in good order, and what it left is its lease's affair
	}
	_ = f.Close() // nothing was written
	return nil
}

// remove removes the file and lets go of the lock, in that order, so that nobody takes it meanwhile. It may be called on nil
// and more than once.
func (l *lockFile) remove() {
	if l == nil {
		return
	}
	l.once.Do(func() {
		_ = os.Remove(l.f.Name())
		_ = l.f.Close() // nothing was written
	})
}

// drop lets go of the lock as the death of the process would. It may be called on nil and more than once.
func (l *lockFile) drop() {
	if l == nil {
		return
	}
	l.once.Do(func() {
		_ = l.f.Close() // nothing was written
	})
}

func flock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// turnLock is the file behind turn.
type turnLock struct {
	f *os.File
}

func newTurnLock(dir string) *turnLock {
	if ensureDir(dir) != nil {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(dir, "turn"), os.O_RDWR|os.O_CREATE, 0o660)
	if err != nil {
		return nil
	}
	return &turnLock{f: f}
}

// asked reports whether another process asks.
func (l *turnLock) asked() bool {
	if syscall.Flock(int(l.f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) != nil {
		return true
	}
	l.unask()
	return false
}

func (l *turnLock) ask() bool {
	return syscall.Flock(int(l.f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

func (l *turnLock) unask() {
	_ = syscall.Flock(int(l.f.Fd()), syscall.LOCK_UN) // of a valid descriptor: cannot fail
}

func (l *turnLock) close() {
	_ = l.f.Close() // nothing was written
}
