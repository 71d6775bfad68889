package interop_test

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/faults/checker"
	"github.com/dramatiq-go/dramatiq/faults/ledger"
	"github.com/dramatiq-go/dramatiq/faults/process"
	"github.com/dramatiq-go/dramatiq/faults/proxy"
	"github.com/dramatiq-go/dramatiq/faults/testenv"
)

// newRabbitMQFarm returns a farm on a queue of its own.
func newRabbitMQFarm(t *testing.T) *farm {
	t.Helper()
	queue := "proof-" + strings.ToLower(rand.Text())
	f := newFarm(t, "DRAMATIQ_BROKER_URL="+testenv.RabbitMQURL(t), "INTEROP_QUEUES="+queue)
	f.queue = queue
	return f
}

// completed returns whether all messages have run to a good end.
func (f *farm) completed(ids []string) bool {
	f.tb.Helper()
	good := map[string]bool{}
	for _, entry := range f.entries() {
		good[entry.MessageID] = good[entry.MessageID] || entry.Outcome == ledger.OK
	}
	for _, id := range ids {
		if !good[id] {
			return false
		}
	}
	return true
}

// flush runs what may be left in the queue, with a message behind all of it, and returns that message's id.
func (f *farm) flush() string {
	f.tb.Helper()
	id := f.enqueueAll(f.message("note", "[]", ""))[0]
	w := f.started()
	f.await("the last message has run", func() bool { return f.completed([]string{id}) })
	f.stop(w)
	return id
}

// TestProofRabbitMQ_SIGKILL is TestProofSQLite_SIGKILL on RabbitMQ.
func TestProofRabbitMQ_SIGKILL(t *testing.T) {
	t.Parallel()
	messages, least := 1000, 5
	if testenv.Full(t) {
		messages, least = 20_000, 80
	}
	f := newRabbitMQFarm(t)
	ids := f.enqueueAll(f.mixture(messages)...)
	begin := time.Now()
	for _, w := range f.killInTurn(200*time.Millisecond, 10*time.Minute, func() bool { return f.completed(ids) }) {
		f.stop(w)
	}
	t.Logf("%d messages in %v", messages, time.Since(begin))
	if len(f.stopped) < least {
		t.Errorf("only %d kills; give the workers more to do", len(f.stopped))
	}
	ids = append(ids, f.flush())
	f.check(checker.Evidence{Accepted: ids, Entries: f.entries(), Faults: f.stopped, Slack: slack})
}

// TestProofRabbitMQ_Outage breaks the network between workers and the broker in several ways: an idle and a busy worker
// both consume again soon after it is well, and nothing is lost.
func TestProofRabbitMQ_Outage(t *testing.T) {
	t.Parallel()
	lengths := []time.Duration{2 * time.Second}
	if testenv.Full(t) {
		lengths = []time.Duration{500 * time.Millisecond, 3 * time.Second, 8 * time.Second, 30 * time.Second}
	}
	for _, mode := range []proxy.Mode{proxy.Refuse, proxy.Reset, proxy.Drop, proxy.Slow} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			for _, length := range lengths {
				outage(t, mode, length)
			}
		})
	}
}

// resumption is how soon after a fault a worker consumes again.
const resumption = 5 * time.Second

func outage(t *testing.T, mode proxy.Mode, length time.Duration) {
	t.Helper()
	direct, err := url.Parse(testenv.RabbitMQURL(t))
	if err != nil {
		t.Fatal(err)
	}
	network, err := proxy.New(direct.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = network.Close() }()
	through := *direct
	through.Host = network.Addr()
	idle, busy := newRabbitMQFarm(t), newRabbitMQFarm(t)
	farms := map[string]*farm{"idle": idle, "busy": busy}
	workers := map[string]*process.Process{}
	ids := map[string][]string{}
	for name, f := range farms {
		workers[name] = f.started("--broker", through.String())
		ids[name] = f.enqueueAll(f.message("note", "[]", ""))
		f.await("the worker consumes", func() bool { return f.completed(ids[name]) })
	}
	var stream []string
	for range 200 + 400*int(length/time.Second) { // more than 8 handlers run in the time
		stream = append(stream, busy.message("sleep", "[20]", ""))
	}
	ids["busy"] = append(ids["busy"], busy.enqueueAll(stream...)...)
	busy.await("the worker is busy", func() bool { return len(busy.entries()) > 20 })

	begin := time.Now()
	if mode == proxy.Slow {
		err = network.SetSlow(proxy.Slowness{Latency: 300 * time.Millisecond, BytesPerSecond: 20_000})
	} else {
		err = network.Set(mode)
	}
	if err != nil {
		t.Fatal(err)
	}
	<-time.After(length)
	probe := idle.enqueueAll(idle.message("note", `["probe"]`, "")) // it waits already when the fault ends
	ids["idle"] = append(ids["idle"], probe...)
	well := time.Now()
	if err := network.Set(proxy.Pass); err != nil {
		t.Fatal(err)
	}
	idle.awaitFor("the idle worker consumes again", 4*resumption, func() bool { return idle.completed(probe) })
	resumed := map[string]time.Duration{"idle": time.Since(well)}
	var ended time.Time
	busy.awaitFor("the busy worker consumes again", 4*resumption, func() bool {
		for _, entry := range busy.entries() {
			if began := time.UnixMilli(entry.StartMS); began.After(well) {
				ended = began
				return true
			}
		}
		return false
	})
	resumed["busy"] = ended.Sub(well)
	for name, f := range farms {
		t.Logf("%v for %v, %s: consuming again after %v", mode, length, name, resumed[name])
		if resumed[name] > resumption {
			t.Errorf("%v for %v: the %s worker consumed again after %v, want %v", mode, length, name, resumed[name], resumption)
		}
		f.await("all have run", func() bool { return f.completed(ids[name]) })
		f.stop(workers[name])
		ids[name] = append(ids[name], f.flush())
		const step = 100 * time.Millisecond
		e := checker.Evidence{Accepted: ids[name], Entries: f.entries(), Slack: step}
		for at := begin; at.Before(well.Add(resumed[name])); at = at.Add(step / 2) { // it hits all that runs meanwhile
			e.Faults = append(e.Faults, checker.Fault{At: at, Kind: fmt.Sprint(mode)})
		}
		report := checker.Check(e)
		t.Logf("%v for %v, %s: %v", mode, length, name, report)
		if err := report.Err(); err != nil {
			t.Error(err)
		}
	}
}
