package wire

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
)

const (
	delaySuffix = ".DQ"
	deadSuffix  = ".XQ"
)

// DelayQueue returns the name of a queue's delay queue (protocol 1.6).
func DelayQueue(queue string) string { return CanonicalQueue(queue) + delaySuffix }

// DeadQueue returns the name of a queue's dead-letter queue (protocol 1.6).
func DeadQueue(queue string) string { return CanonicalQueue(queue) + deadSuffix }

// CanonicalQueue strips the suffix of a delay or dead-letter queue.
func CanonicalQueue(queue string) string {
	if q, ok := strings.CutSuffix(queue, delaySuffix); ok {
		return q
	}
	return strings.TrimSuffix(queue, deadSuffix)
}

// CheckQueueName returns an error unless name can name a queue: a letter or an underscore, then letters, digits, dots,
// dashes and underscores, and none of the endings and beginnings that derived names use (protocol 1.6).
func CheckQueueName(name string) error {
	if name == "" {
		return fmt.Errorf("queue name is empty")
	}
	for i := range len(name) {
		c := name[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '.' && c != '-') {
			return fmt.Errorf("queue name %q must start with a letter or an underscore "+
				"and go on with letters, digits, dots, dashes or underscores", name)
		}
	}
	for _, suffix := range []string{delaySuffix, deadSuffix, ".msgs"} {
		if strings.HasSuffix(name, suffix) {
			return fmt.Errorf("queue name %q must not end in %q, which names a derived queue", name, suffix)
		}
	}
	if strings.HasPrefix(name, "__") {
		return fmt.Errorf("queue name %q must not start with two underscores, which are reserved", name)
	}
	return nil
}

// NewID returns a random UUID v4 in Python's form: lower case, hyphenated, 36 characters (protocol 1.5).
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // documented never to fail
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var text [36]byte
	hex.Encode(text[:8], b[:4])
	text[8] = '-'
	hex.Encode(text[9:13], b[4:6])
	text[13] = '-'
	hex.Encode(text[14:18], b[6:8])
	text[18] = '-'
	hex.Encode(text[19:23], b[8:10])
	text[23] = '-'
	hex.Encode(text[24:], b[10:])
	return string(text[:])
}
