package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/wire"
)

const pushTimeout = 5 * time.Second

// recorder is the middleware that records every run, failed ones too. It comes last, so that entries are pushed before
// anything reacts to the outcome.
type recorder struct{ ledger ledger }

var (
	_ dramatiq.BeforeProcessor = (*recorder)(nil)
	_ dramatiq.AfterProcessor  = (*recorder)(nil)
)

// runKey finds the run of an attempt.
type runKey struct{}

// run is what is known of a run when it starts.
type run struct {
	start   time.Time
	attempt int
}

// BeforeProcess implements dramatiq.BeforeProcessor.
func (r *recorder) BeforeProcess(_ context.Context, a *dramatiq.Attempt) error {
	a.SetValue(runKey{}, run{time.Now(), a.Number()})
	return nil
}

// AfterProcess implements dramatiq.AfterProcessor. A run that cannot be recorded has failed: it will be run again, instead
// of being missed by whoever reads the ledger.
func (r *recorder) AfterProcess(ctx context.Context, a *dramatiq.Attempt) {
	started, ok := a.Value(runKey{}).(run)
	if !ok {
		return // a middleware before this one has refused it
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pushTimeout) // a cancelled run is a run
	defer cancel()
	if err := r.ledger.push(ctx, entry(a, started)); err != nil {
		a.Logger().LogAttrs(ctx, slog.LevelError, "run cannot be recorded", slog.Any(dramatiq.LogError, err))
		a.SetErr(errors.Join(a.Err(), err))
	}
}

// entry returns the ledger's entry for a run that has ended.
func entry(a *dramatiq.Attempt, started run) []byte {
	m, outcome := a.Message(), "ok"
	if a.Err() != nil {
		outcome = "error"
	}
	e := wire.AppendString([]byte(`{"actor":`), m.Actor)
	e = wire.AppendString(append(e, `,"message_id":`...), m.ID)
	e = strconv.AppendInt(append(e, `,"lang":"go","pid":`...), int64(os.Getpid()), 10)
	e = strconv.AppendInt(append(e, `,"attempt":`...), int64(started.attempt), 10)
	e = strconv.AppendInt(append(e, `,"start_ms":`...), started.start.UnixMilli(), 10)
	e = strconv.AppendInt(append(e, `,"end_ms":`...), time.Now().UnixMilli(), 10)
	e = wire.AppendString(append(e, `,"outcome":`...), outcome)
	e = appendRaw(append(e, `,"args":`...), m.Args, "[]")
	e = appendRaw(append(e, `,"kwargs":`...), m.Kwargs, "{}")
	return append(e, '}')
}

func appendRaw(dst, raw []byte, empty string) []byte {
	if len(raw) == 0 {
		return append(dst, empty...)
	}
	return append(dst, raw...)
}
