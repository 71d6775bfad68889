//go:build unix

package process

import "syscall"

func killGroup(pid int) error     { return syscall.Kill(-pid, syscall.SIGKILL) }
func stopGroup(pid int) error     { return syscall.Kill(-pid, syscall.SIGSTOP) }
func continueGroup(pid int) error { return syscall.Kill(-pid, syscall.SIGCONT) }
func terminate(pid int) error     { return syscall.Kill(pid, syscall.SIGTERM) }
