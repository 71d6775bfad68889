package drivertest

import (
	"bytes"
	"fmt"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

func deadLetters(f Features, _ Store) bool { return f.DeadLetters }

func deadLetterTests() []test {
	return []test{
		{name: "counts follow messages through their lives", needs: func(f Features, _ Store) bool {
			return f.Stats && f.Delays
		}, run: countsFollow},
		{name: "a dead letter keeps its reason, detail and body", needs: deadLetters, run: deadLetterKept},
		{name: "a rejection may replace the body", needs: deadLetters, run: deadLetterReplaced},
		{name: "a raw body is kept in its dead letter", needs: deadLetters, run: deadLetterRaw},
		{name: "dead letters are paged through", needs: deadLetters, run: deadLetterPages},
		{name: "dead letters belong to their queue", needs: deadLetters, run: deadLettersOfQueues},
	}
}

// deadLetterPage is the limit of the tests' pages.
const deadLetterPage = 10

func (e *env) deadLetters(d driver.Driver, queue, after string) []driver.DeadLetter {
	e.Helper()
	inspector, ok := d.(driver.Inspector)
	if !ok {
		e.Fatal(noInspector)
	}
	letters, err := inspector.DeadLetters(e.context(), queue, after, deadLetterPage)
	if err != nil {
		e.Fatalf("DeadLetters(%q, %q, %d) = %v", queue, after, deadLetterPage, err)
	}
	if len(letters) > deadLetterPage {
		e.Errorf("DeadLetters with limit %d returned %d", deadLetterPage, len(letters))
	}
	return letters
}

// buried enqueues a message, rejects it and returns its dead letter, the only one of the queue.
func (e *env) buried(d driver.Driver, m driver.Message, death driver.Death) driver.DeadLetter {
	e.Helper()
	queue := m.Envelope.Queue
	c := e.consume(d, queue)
	e.enqueue(d, m)
	got := e.fetchOne(c)
	e.begin(c, got)
	before := time.Now().Add(-time.Second) // clocks of server and test may differ a little
	e.settle(c, driver.Settlement{Delivery: got, Outcome: driver.Reject, Death: death})
	letters := e.deadLetters(e.open(), queue, "")
	if len(letters) != 1 {
		e.Fatalf("%d dead letters, want 1", len(letters))
	}
	l := letters[0]
	if l.ID == "" || l.Queue != queue {
		e.Errorf("dead letter %q of queue %q, want an id and queue %q", l.ID, l.Queue, queue)
	}
	if l.Died.Before(before) || l.Died.After(time.Now().Add(time.Second)) {
		e.Errorf("died at %v, which was not now", l.Died)
	}
	if l.Death.Reason != death.Reason || l.Death.Detail != death.Detail {
		e.Errorf("died of %q, %q; want %q, %q", l.Death.Reason, l.Death.Detail, death.Reason, death.Detail)
	}
	return l
}

func deadLetterKept(e *env) {
	d := e.start("alpha")
	m := e.message("alpha")
	l := e.buried(d, m, driver.Death{Reason: "retries exhausted", Detail: "line one\nline two: \"é\" 😀\t\\ 'x'"})
	e.wantBody(&driver.Delivery{Queue: l.Queue, Body: l.Body}, &m)
}

func deadLetterReplaced(e *env) {
	d := e.start("alpha")
	m := e.message("alpha")
	last := m
	last.Envelope = m.Envelope.Clone()
	last.Envelope.Options.SetInt("retries", 20)
	last.Envelope.Options.SetString("traceback", "boom\nat line 3")
	body, err := last.Append(nil)
	if err != nil {
		e.Fatal(err)
	}
	l := e.buried(d, m, driver.Death{Reason: "retries exhausted", Body: body})
	e.wantBody(&driver.Delivery{Queue: l.Queue, Body: l.Body}, &last)
}

func deadLetterRaw(e *env) {
	d := e.start("alpha")
	m := e.message("alpha")
	body := []byte("\x00\xff not an envelope {")
	m.Encoder = raw(body)
	l := e.buried(d, m, driver.Death{Reason: "undecodable", Detail: "invalid UTF-8 at offset 1"})
	if !bytes.Equal(l.Body, body) {
		e.Errorf("body %q, want %q", l.Body, body)
	}
}

func deadLetterPages(e *env) {
	const n, page = 25, deadLetterPage
	d := e.start("alpha")
	c := e.consume(d, "alpha")
	if letters := e.deadLetters(d, "alpha", ""); len(letters) != 0 {
		e.Errorf("%d dead letters in an empty queue", len(letters))
	}
	e.enqueue(d, e.messages("alpha", n)...)
	got := e.fetch(c, n)
	want := make(map[string]string)
	for i := range got {
		reason := fmt.Sprintf("reason %d", i)
		want[key(got[i].Body)] = reason
		e.settle(c, driver.Settlement{Delivery: &got[i], Outcome: driver.Reject, Death: driver.Death{Reason: reason}})
	}
	var after string
	var last time.Time
	for _, size := range []int{page, page, n - 2*page, 0} {
		letters := e.deadLetters(d, "alpha", after)
		if len(letters) != size {
			e.Fatalf("a page of %d dead letters after %q, want %d", len(letters), after, size)
		}
		for _, l := range letters {
			if l.Died.Before(last) {
				e.Errorf("%s died before its predecessor", l.ID)
			}
			if reason, ok := want[key(l.Body)]; !ok || reason != l.Death.Reason {
				e.Errorf("%s: reason %q, want %q once", key(l.Body), l.Death.Reason, reason)
			}
			delete(want, key(l.Body))
			after, last = l.ID, l.Died
		}
	}
}

func deadLettersOfQueues(e *env) {
	d := e.start("alpha", "beta", "gamma")
	e.buried(d, e.message("alpha"), driver.Death{Reason: "one"})
	e.buried(d, e.message("beta"), driver.Death{Reason: "two"})
	if letters := e.deadLetters(d, "gamma", ""); len(letters) != 0 {
		e.Errorf("%d dead letters in a queue without any", len(letters))
	}
}

func countsFollow(e *env) {
	d := e.start("alpha", "beta")
	messages := e.messages("alpha", 8)
	messages[6].Due = dueIn(time.Hour)
	messages[7].Due = dueIn(2 * time.Hour)
	e.enqueue(d, messages...)
	e.enqueue(d, e.message("beta"))
	e.wantStats(d, "alpha", driver.Stats{Waiting: 6, Delayed: 2})
	e.wantStats(e.open(), "beta", driver.Stats{Waiting: 1})
	c := e.consume(d, "alpha")
	got := e.fetch(c, 4)
	e.wantStats(d, "alpha", driver.Stats{Waiting: 2, Delayed: 2, Claimed: 4})
	e.begin(c, &got[0])
	e.ack(c, got[0])
	e.settle(c, driver.Settlement{Delivery: &got[1], Outcome: driver.Reject})
	e.settle(c, driver.Settlement{Delivery: &got[2], Outcome: driver.Requeue})
	e.wantStats(d, "alpha", driver.Stats{Waiting: 3, Delayed: 2, Claimed: 1, Dead: 1})
	e.closeConsumer(c)
	e.wantStats(d, "alpha", driver.Stats{Waiting: 4, Delayed: 2, Dead: 1})
	e.wantStats(d, "beta", driver.Stats{Waiting: 1})
}
