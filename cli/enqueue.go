package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/wire"
)

// enqueueFlags are those of the enqueue command.
type enqueueFlags struct {
	queue, args, kwargs string
	options             []string
	delay               time.Duration
	delayed             bool
	stdin               bool
}

func (p *program) enqueueCommand() *cobra.Command {
	var f enqueueFlags
	cmd := &cobra.Command{
		Use:   "enqueue (ACTOR | --stdin) [flags]",
		Short: "Send messages and print their ids",
		Long: `Send one message, or with --stdin one for each line of the standard input, and
print the id of each as soon as the broker has accepted it.

The actor may be one that this program does not know. Its queue is the one of the
flag --queue, else the one the actor is declared with here, else "default".

Arguments are JSON and reach the worker byte for byte. The value of an option is
JSON where it can be read as such, and a string otherwise.

With --stdin each line is a JSON object with the member "actor" and, if wanted,
"queue", "args", "kwargs", "options" and "delay_ms". Lines that are waiting are
sent together. Ids come in the order of the lines. A line that cannot be sent is
reported on the standard error by its number, the others are sent all the same,
and the exit code is 1.`,
		Example: fmt.Sprintf(`  %[1]s enqueue send_email --kwargs '{"to": "ada@example.com"}'
  %[1]s enqueue add --args '[1, 2]' --delay 10s --option max_retries=3
  echo '{"actor": "add", "args": [1, 2]}' | %[1]s enqueue --stdin`, p.cfg.Name),
		DisableFlagsInUseLine: true,
		Args:                  func(cmd *cobra.Command, args []string) error { return f.checkArgs(cmd, args) },
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.stdin {
				return p.enqueueLines(p.begin(cmd.Context()))
			}
			out, err := f.message(args[0])
			if err != nil {
				return err
			}
			return p.enqueueOne(p.begin(cmd.Context()), out)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.queue, "queue", "", "the `queue` (default the actor's, or \"default\")")
	flags.StringVar(&f.args, "args", "[]", "positional arguments, a `JSON` array")
	flags.StringVar(&f.kwargs, "kwargs", "{}", "keyword arguments, a `JSON` object")
	flags.StringArrayVar(&f.options, "option", nil, "a message option, `NAME=VALUE`; may be repeated")
	flags.DurationVar(&f.delay, "delay", 0, "run no sooner than this `duration` from now, such as 300ms, 10s or 1h30m (default none)")
	flags.BoolVar(&f.stdin, "stdin", false, "send one message for each line of the standard input")
	return cmd
}

// checkArgs finds mistakes in how flags and the actor go together.
func (f *enqueueFlags) checkArgs(cmd *cobra.Command, args []string) error {
	f.delayed = cmd.Flags().Changed("delay")
	switch {
	case f.stdin:
		if len(args) > 0 {
			return fmt.Errorf("--stdin takes no ACTOR; each line names its own")
		}
		for _, name := range []string{"queue", "args", "kwargs", "option", "delay"} {
			if cmd.Flags().Changed(name) {
				return fmt.Errorf("--stdin takes no --%s; each line has its own", name)
			}
		}
	case len(args) == 0 || args[0] == "":
		return errors.New("name an ACTOR, or give --stdin")
	case len(args) > 1:
		return fmt.Errorf("unexpected argument %q; arguments of the actor are given with --args and --kwargs", args[1])
	case f.delay < 0:
		return fmt.Errorf("--delay is %v; it must not be negative", f.delay)
	case f.queue != "":
		if err := wire.CheckQueueName(f.queue); err != nil {
			return fmt.Errorf("--queue: %w", err)
		}
	}
	return nil
}

// message builds the message that the flags describe. Its queue is still empty where no flag names it.
func (f *enqueueFlags) message(actor string) (dramatiq.Outgoing, error) {
	fields := messageFields{
		actor: actor, queue: f.queue, args: json.RawMessage(f.args), kwargs: json.RawMessage(f.kwargs),
		delay: f.delay, delayed: f.delayed,
	}
	for _, text := range f.options {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return dramatiq.Outgoing{}, fmt.Errorf("--option %q must be NAME=VALUE", text)
		}
		fields.options.Set(name, optionValue(value))
	}
	if err := checkNested("args", fields.args, '['); err != nil {
		return dramatiq.Outgoing{}, fmt.Errorf("--%w", err)
	}
	if err := checkNested("kwargs", fields.kwargs, '{'); err != nil {
		return dramatiq.Outgoing{}, fmt.Errorf("--%w", err)
	}
	return fields.outgoing(), nil
}

// optionValue returns text as it is if it is JSON as Python reads it, and as a JSON string otherwise.
func optionValue(text string) json.RawMessage {
	// As deep inside as it will be in the message.
	if wire.Check(json.RawMessage(`{"":{"":`+text+`}}`)) == nil && wire.Check(json.RawMessage(text)) == nil {
		return json.RawMessage(text)
	}
	return wire.AppendString(nil, text)
}

// checkNested refuses what is not one JSON value that begins with the given byte, or is too deep for a message.
func checkNested(name string, raw json.RawMessage, begin byte) error {
	if err := wire.Check(raw); err != nil {
		return fmt.Errorf("%s: %w", name, plain(err))
	}
	if text := strings.TrimLeft(string(raw), " \t\r\n"); text[0] != begin {
		return fmt.Errorf("%s must be a JSON %s", name, map[byte]string{'[': "array", '{': "object"}[begin])
	}
	if err := wire.Check(json.RawMessage(`{"":` + string(raw) + `}`)); err != nil {
		return fmt.Errorf("%s: %w", name, plain(err))
	}
	return nil
}

// plain says what is wrong with JSON that is no envelope.
func plain(err error) error {
	if d := (*wire.DecodeError)(nil); errors.As(err, &d) {
		return fmt.Errorf("%s at offset %d", d.Reason, d.Offset)
	}
	return err
}

// messageFields is what a message is made of.
type messageFields struct {
	actor, queue string
	args, kwargs json.RawMessage
	options      wire.Options
	delay        time.Duration
	delayed      bool
}

func (m *messageFields) outgoing() dramatiq.Outgoing {
	out := dramatiq.NewOutgoing(m.queue, m.actor, m.args, m.kwargs)
	out.Message.Options = m.options
	if m.delayed {
		out.Due = time.Now().Add(m.delay) // a delay of zero is one too
	}
	return out
}

// queuesOf returns the queue of each actor.
func queuesOf(actors dramatiq.Actors) map[string]string {
	queues := make(map[string]string, len(actors))
	for _, a := range actors {
		queues[a.Name()] = a.Queue()
	}
	return queues
}

// setQueue fills in a message's queue where none is given.
func setQueue(out *dramatiq.Outgoing, queues map[string]string) {
	if m := out.Message; m.Queue == "" {
		if m.Queue = queues[m.Actor]; m.Queue == "" {
			m.Queue = dramatiq.DefaultQueue
		}
	}
}

// enqueueOne runs the enqueue command for one message.
func (p *program) enqueueOne(ctx context.Context, out dramatiq.Outgoing) (err error) {
	app, err := p.setup(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, app.close(ctx)) }()
	setQueue(&out, queuesOf(app.Actors))
	if err := app.Broker.Enqueue(ctx, out); err != nil {
		return failure(&out, err)
	}
	_, err = fmt.Fprintln(p.stdout, out.Message.ID)
	return err
}

// failure adds to the error of a message that may have been stored which one that is.
func failure(out *dramatiq.Outgoing, err error) error {
	if errors.Is(err, dramatiq.ErrMaybeStored) {
		return fmt.Errorf("message %s: %w", out.Message.ID, err)
	}
	return err
}
