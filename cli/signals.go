//go:build !windows

package cli

import (
	"os"
	"syscall"
)

// stopSignals returns the signals that end a program gracefully.
func stopSignals() []os.Signal { return []os.Signal{os.Interrupt, syscall.SIGTERM} }
