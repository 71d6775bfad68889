package cli

import "os"

// stopSignals returns the signals that end a program gracefully.
func stopSignals() []os.Signal { return []os.Signal{os.Interrupt} }
