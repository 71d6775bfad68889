package dramatiqtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/memory"
)

// Actor is a dramatiq.Actor[In] or a dramatiq.Func with In. Type arguments need not be written: they are inferred.
type Actor[In any, M dramatiq.AnyMessage] interface {
	dramatiq.AnyActor
	Message(in In, opts ...dramatiq.SendOption) M
}

// Sent returns the arguments of the messages that were sent to an actor, in their order, as its handler gets them.
func Sent[In any, M dramatiq.AnyMessage](b *Broker, actor Actor[In, M]) []In {
	b.t.Helper()
	var envelopes []*dramatiq.Envelope
	for _, m := range b.Messages() {
		if m.Message.Actor == actor.Name() {
			envelopes = append(envelopes, m.Message)
		}
	}
	sent, err := receive[In](b, envelopes)
	if err != nil {
		b.t.Fatalf("dramatiqtest: what was sent to actor %q: %v", actor.Name(), err)
	}
	return sent
}

// AssertSent fails the test, without ending it, unless a message with these arguments was sent to an actor. They are compared
// as handlers get them: after a way through JSON.
func AssertSent[In any, M dramatiq.AnyMessage](tb testing.TB, b *Broker, actor Actor[In, M], in In) {
	tb.Helper()
	m := actor.Message(in)
	if err := m.Err(); err != nil {
		tb.Errorf("dramatiqtest: the expected message cannot be sent: %v", err)
		return
	}
	want, err := receive[In](b, []*dramatiq.Envelope{m.Envelope()})
	if err != nil {
		tb.Errorf("dramatiqtest: the expected message: %v", err)
		return
	}
	for _, got := range Sent(b, actor) {
		if reflect.DeepEqual(got, want[0]) {
			return
		}
	}
	tb.Errorf("dramatiqtest: not sent: %s\n%s", describe(m.Envelope()), b.sentTo(actor.Name()))
}

// AssertNotSent fails the test, without ending it, if a message was sent to an actor.
func AssertNotSent(tb testing.TB, b *Broker, actor dramatiq.AnyActor) {
	tb.Helper()
	for _, m := range b.Messages() {
		if m.Message.Actor == actor.Name() {
			tb.Errorf("dramatiqtest: actor %q should not have been sent anything\n%s", actor.Name(), b.sentTo(actor.Name()))
			return
		}
	}
}

// sentTo lists, for people, what was sent to an actor.
func (b *Broker) sentTo(actor string) string {
	var text strings.Builder
	others := 0
	for _, m := range b.Messages() {
		if m.Message.Actor != actor {
			others++
			continue
		}
		fmt.Fprintf(&text, "\tsent: %s\n", describe(m.Message))
	}
	fmt.Fprintf(&text, "\tand %d messages to other actors", others)
	return text.String()
}

// receive returns what handlers get from messages. A worker knows best; so one receives them.
func receive[In any](b *Broker, envelopes []*dramatiq.Envelope) ([]In, error) {
	ctx := context.WithoutCancel(b.t.Context())
	var received []In
	reader := dramatiq.NewActor("read", func(_ context.Context, in In) error {
		received = append(received, in)
		return nil
	})
	done := make(outcomes, len(envelopes))
	broker, err := dramatiq.NewBroker(memory.New(memory.Config{}), dramatiq.BrokerConfig{
		Middleware: []dramatiq.Middleware{done}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	for _, e := range envelopes {
		m := dramatiq.NewOutgoing(reader.Queue(), reader.Name(), e.Args, e.Kwargs)
		if err := broker.Enqueue(ctx, m); err != nil {
			return nil, err
		}
	}
	w, err := dramatiq.NewWorker(broker, dramatiq.Actors{reader}, dramatiq.WorkerConfig{Concurrency: 1})
	if err != nil {
		return nil, err
	}
	if err := w.Start(ctx); err != nil {
		return nil, err
	}
	var failed error
	for _, e := range envelopes {
		if err := <-done; err != nil && failed == nil {
			failed = fmt.Errorf("%s: %w", describe(e), err)
		}
	}
	return received, errors.Join(failed, w.Drain(ctx), broker.Close(ctx))
}

// outcomes is middleware that passes on how attempts ended.
type outcomes chan error

// AfterProcess implements dramatiq.AfterProcessor.
func (c outcomes) AfterProcess(_ context.Context, a *dramatiq.Attempt) { c <- a.Err() }
