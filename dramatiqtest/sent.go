package dramatiqtest

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/dramatiq-go/dramatiq"
)

// Actor is a dramatiq.Actor[In] or a dramatiq.Func with In. Type arguments need not be written: they are inferred.
type Actor[In any, M dramatiq.AnyMessage] interface {
	dramatiq.AnyActor
	Message(in In, opts ...dramatiq.SendOption) M
	Bind(env *dramatiq.Envelope) (In, error)
}

// Sent returns the arguments of the messages that were sent to an actor, in their order, as its handler gets them.
func Sent[In any, M dramatiq.AnyMessage](b *Broker, actor Actor[In, M]) []In {
	b.t.Helper()
	var sent []In
	for _, m := range b.Messages() {
		if m.Message.Actor != actor.Name() {
			continue
		}
		in, err := actor.Bind(m.Message)
		if err != nil {
			b.t.Fatalf("dramatiqtest: what was sent to actor %q: %s: %v", actor.Name(), describe(m.Message), err)
		}
		sent = append(sent, in)
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
	want, err := actor.Bind(m.Envelope())
	if err != nil {
		tb.Errorf("dramatiqtest: the expected message: %v", err)
		return
	}
	for _, got := range Sent(b, actor) {
		if reflect.DeepEqual(got, want) {
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
