//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package sqlite

import "errors"

// socket stands for the Unix datagram socket that this system lacks.
type socket struct{}

func listen(string, string, func()) (*socket, error) {
	return nil, errors.New("this system has no Unix datagram sockets")
}

func (*socket) close() {}

type outlet struct{}

type sendOutcome uint8

const (
	sendDone sendOutcome = iota
	sendRefused
)

func newOutlet() (*outlet, error) {
	return nil, errors.New("this system has no Unix datagram sockets")
}

func (*outlet) send(string) sendOutcome { return sendDone }

func (*outlet) close() {}
