package dramatiq

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"time"

	"github.com/dramatiq-go/dramatiq/wire"
)

// PipeIgnore keeps the result of the previous step of a pipeline from being appended to a message's arguments. On an actor
// it is the other way round, as in Python: results of that actor are appended to nobody's arguments.
func PipeIgnore() Option {
	return option{name: optionPipeIgnore, shown: "PipeIgnore()", value: true, raw: []byte("true")}
}

// Pipelines is the middleware that sends a pipeline's next step when a step has succeeded (protocol 4.8), together with
// the acknowledgement of the step.
type Pipelines struct{}

// Options implements OptionDeclarer.
func (*Pipelines) Options() []string { return []string{optionPipeIgnore, optionPipeTarget} }

// AfterProcess implements AfterProcessor. A step whose successor is unreadable is dead-lettered.
func (*Pipelines) AfterProcess(ctx context.Context, a *Attempt) {
	raw, present := a.Message().Options.Get(optionPipeTarget)
	if !present || wire.IsNull(raw) || a.Err() != nil || a.Failed() {
		return
	}
	if err := continuePipeline(ctx, a, raw); err != nil {
		a.Logger().LogAttrs(ctx, slog.LevelError, "pipeline cannot go on; its step is dead-lettered", slog.Any(LogError, err))
		a.Fail(ReasonPipeline, err.Error())
	}
}

func continuePipeline(ctx context.Context, a *Attempt, raw json.RawMessage) error {
	next, err := wire.JSON{}.Decode(raw)
	if err != nil {
		return err
	}
	next.Queue = wire.CanonicalQueue(next.Queue)
	ignore, _ := next.Options.Get(optionPipeIgnore)
	if ignoreOwn, _ := a.def.options[optionPipeIgnore].(bool); !truthy(ignore) && !ignoreOwn {
		if next.Args, err = wire.AppendElement(next.Args, orEmpty(a.Result(), "null")); err != nil {
			return err
		}
	}
	out := Outgoing{Message: next}
	if ms, ok := next.Options.Int(optionDelay); ok {
		out.Due = delayed(time.Duration(min(ms, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond)
	}
	return a.FollowUp(ctx, out)
}

// truthy reports whether Python takes a JSON value for true.
func truthy(raw json.RawMessage) bool {
	switch string(raw) {
	case "", "null", "false", `""`, "[]", "{}":
		return false
	}
	number, ok := wire.ParseNumber(raw)
	return !ok || number != 0
}
