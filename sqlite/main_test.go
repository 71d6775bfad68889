package sqlite

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// childEnv names the role of a process that a test has started from its own binary.
const childEnv = "DRAMATIQ_SQLITE_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(childEnv); role != "" {
		os.Exit(runChild(role))
	}
	goleak.VerifyTestMain(m)
}
