//go:build !unix

package process

import (
	"errors"
	"os"
	"syscall"
)

// killGroup ends the child alone: there are no process groups here.
func killGroup(pid int) error {
	process, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return process.Kill()
}

func stopGroup(int) error     { return errors.ErrUnsupported }
func continueGroup(int) error { return errors.ErrUnsupported }
func terminate(int) error     { return errors.ErrUnsupported }

func attributes() *syscall.SysProcAttr { return nil }
