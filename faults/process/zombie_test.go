//go:build unix

package process_test

import (
	"bytes"
	"fmt"
	"os"
)

// zombie reports whether a process is dead and only waits to be collected by a parent that is not ours. Where there is no
// /proc, init collects it.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	return len(fields) > 0 && string(fields[0]) == "Z"
}
