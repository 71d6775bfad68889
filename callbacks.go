package dramatiq

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/dramatiq-go/dramatiq/wire"
)

// OnSuccess names the actor that is sent each message that succeeded, with its result. The positional arguments of the
// callback are the message's envelope and its result.
func OnSuccess(a AnyActor) Option { return callbackOption("OnSuccess", optionOnSuccess, a) }

// OnFailure names the actor that is sent each failure, also one that will be retried. The positional arguments of the
// callback are the message's envelope and an object with the error's "type" and "message".
func OnFailure(a AnyActor) Option { return callbackOption("OnFailure", optionOnFailure, a) }

// OnRetryExhausted names the actor that is sent a message that has failed for the last time. The positional arguments of
// the callback are the message's envelope and an object with "retries" and "max_retries".
func OnRetryExhausted(a AnyActor) Option {
	return callbackOption("OnRetryExhausted", optionRetryExhausted, a)
}

// callback is an option whose value is an actor.
type callback struct {
	option
	target AnyActor
}

func callbackOption(shown, name string, a AnyActor) Option {
	c := callback{target: a}
	c.name = name
	if a == nil {
		c.shown = shown + "(nil)"
		c.err = fmt.Errorf("actor is nil")
		return c
	}
	c.shown = fmt.Sprintf("%s(%s)", shown, a.Name())
	c.value = a.Name()
	c.raw = wire.AppendString(nil, a.Name())
	c.err = a.definition().err
	return c
}

func (c callback) applyActor(d *definition) error {
	if c.target != nil {
		d.callbacks = append(d.callbacks, c.target.definition())
	}
	return c.option.applyActor(d)
}

// Callbacks is the middleware behind OnSuccess and OnFailure (protocol 4.7). Callbacks are stored together with the
// settlement of the message that they are about. The worker must know a callback's actor, by having it in its list of
// actors, be it only declared, or from the options of another actor.
type Callbacks struct{}

// Options implements OptionDeclarer.
func (*Callbacks) Options() []string { return []string{optionOnSuccess, optionOnFailure} }

// AfterProcess implements AfterProcessor. A message that was marked as failed without an error brings no callback.
func (*Callbacks) AfterProcess(ctx context.Context, a *Attempt) {
	err := a.Err()
	switch {
	case err != nil:
		sendCallback(ctx, a, optionOnFailure, failurePayload(err))
	case !a.Failed():
		sendCallback(ctx, a, optionOnSuccess, orEmpty(a.Result(), "null"))
	}
}

func failurePayload(err error) json.RawMessage {
	payload := append([]byte(`{"type":`), wire.AppendString(nil, ErrorType(err))...)
	payload = append(payload, `,"message":`...)
	payload = wire.AppendString(payload, err.Error())
	return append(payload, '}')
}

// sendCallback sends an attempt's message and a payload to the actor that an option names, if it names one.
func sendCallback(ctx context.Context, a *Attempt, option string, payload json.RawMessage) {
	name := a.actorText(option)
	if name == "" {
		return
	}
	target := a.worker.actors[name]
	if target == nil {
		a.Logger().LogAttrs(ctx, slog.LevelError, "callback is lost, as this worker does not know its actor; "+
			"add the actor to the worker's list, be it only declared", slog.String(LogHook, option), slog.String(LogCallback, name))
		return
	}
	args, err := wire.JSON{}.Append([]byte{'['}, a.Message())
	if err == nil {
		args = append(append(append(args, ','), payload...), ']')
		err = a.FollowUp(ctx, NewOutgoing(target.queue, name, args, nil))
	}
	if err != nil {
		a.Logger().LogAttrs(ctx, slog.LevelError, "callback cannot be sent",
			slog.String(LogHook, option), slog.String(LogCallback, name), slog.Any(LogError, err))
	}
}
