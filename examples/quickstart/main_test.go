package main

import (
	"testing"

	"github.com/dramatiq-go/dramatiq/connect"
)

func TestQuickstart(t *testing.T) {
	t.Setenv(connect.URLVariable, "")
	if err := run(t.Context()); err != nil {
		t.Error(err)
	}
}
