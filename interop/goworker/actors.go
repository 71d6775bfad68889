package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/dramatiq-go/dramatiq"
)

// InteropError is what the failing actors fail with; its name is the error's type in callbacks and results.
type InteropError struct{ text string }

// Error implements error.
func (e *InteropError) Error() string { return e.text }

// The arguments of the actors. They are taken by position and by name, like those of Python's functions.
type (
	echoArgs struct {
		Value json.RawMessage `json:"value"`
	}
	addArgs struct {
		X json.RawMessage `json:"x"`
		Y json.RawMessage `json:"y"`
	}
	failArgs struct {
		Message json.RawMessage `json:"message"`
	}
	flakyArgs struct {
		Key      json.RawMessage `json:"key"`
		Failures int64           `json:"failures"`
	}
	waitArgs struct {
		MS float64 `json:"ms"`
	}
	urgentArgs struct {
		Tag json.RawMessage `json:"tag"`
	}
)

func (a waitArgs) duration() time.Duration { return time.Duration(a.MS * float64(time.Millisecond)) }

// handlers holds what actors need from outside.
type handlers struct{ ledger ledger }

// actors returns the actors of the contract. All have results, null where there is nothing to give, as in Python.
func actors(l ledger) dramatiq.Actors {
	h := handlers{l}
	return dramatiq.Actors{
		dramatiq.NewFunc("echo", echo),
		dramatiq.NewFunc("add", add),
		dramatiq.NewFunc("fail", fail),
		dramatiq.NewFunc("flaky", h.flaky,
			dramatiq.MinBackoff(50*time.Millisecond), dramatiq.MaxBackoff(200*time.Millisecond)),
		dramatiq.NewFunc("sleep", sleep),
		dramatiq.NewFunc("busy", busy),
		dramatiq.NewFunc("die", h.die),
		dramatiq.NewFunc("urgent", urgent, dramatiq.Queue("ranked")),
		dramatiq.NewFunc("note", note, dramatiq.Queue("callbacks")),
	}
}

// echo returns its argument, byte for byte.
func echo(_ context.Context, in echoArgs) (json.RawMessage, error) {
	return in.Value, nil
}

// add returns the sum of two numbers as Python does.
func add(_ context.Context, in addArgs) (json.RawMessage, error) {
	return sum(in.X, in.Y)
}

// fail fails with the text it is given.
func fail(_ context.Context, in failArgs) (dramatiq.None, error) {
	return dramatiq.None{}, &InteropError{text(in.Message)}
}

// flaky fails a number of times, over all attempts and workers, and then returns which attempt it is.
func (h handlers) flaky(ctx context.Context, in flakyArgs) (int64, error) {
	attempt, err := h.ledger.increment(ctx, attemptsKey+text(in.Key))
	if err != nil {
		return 0, err
	}
	if attempt <= in.Failures {
		return 0, &InteropError{fmt.Sprintf("attempt %d of %s", attempt, text(in.Key))}
	}
	return attempt, nil
}

// sleep sleeps until its time or its context is over.
func sleep(ctx context.Context, in waitArgs) (dramatiq.None, error) {
	timer := time.NewTimer(in.duration())
	defer timer.Stop()
	select {
	case <-timer.C:
		return dramatiq.None{}, nil
	case <-ctx.Done():
		return dramatiq.None{}, ctx.Err()
	}
}

// busy is busy, whatever its context says.
func busy(_ context.Context, in waitArgs) (dramatiq.None, error) {
	<-time.After(in.duration())
	return dramatiq.None{}, nil
}

// die kills its own process.
func (h handlers) die(ctx context.Context, _ dramatiq.None) (dramatiq.None, error) {
	if _, err := h.ledger.increment(ctx, deathsKey); err != nil {
		return dramatiq.None{}, err
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill() // SIGKILL; on Windows, TerminateProcess
	}
	if err != nil {
		return dramatiq.None{}, fmt.Errorf("kill this process: %w", err)
	}
	select {} // the signal is on its way
}

// urgent returns its tag.
func urgent(_ context.Context, in urgentArgs) (json.RawMessage, error) {
	return in.Tag, nil
}

// note takes anything.
func note(context.Context, dramatiq.RawArgs) (dramatiq.None, error) {
	return dramatiq.None{}, nil
}

// text returns the text of a JSON string, and the JSON of anything else.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}
