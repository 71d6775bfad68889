//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package sqlite

// lockFile stands for the file lock that this package does not use on this system; leases do its work.
type lockFile struct{}

func createLock(string) (*lockFile, error) { return nil, nil }

func takeLock(string) *lockFile { return nil }

func (*lockFile) remove() {}

func (*lockFile) drop() {}

// turnLock stands for the file behind turn.
type turnLock struct{}

func newTurnLock(string) *turnLock { return nil }

func (*turnLock) asked() bool { return false }

func (*turnLock) ask() bool { return false }

func (*turnLock) unask() {}

func (*turnLock) close() {}
