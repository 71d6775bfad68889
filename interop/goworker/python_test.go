package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	ledgers "github.com/dramatiq-go/dramatiq/faults/ledger"
	"github.com/dramatiq-go/dramatiq/faults/process"
	"github.com/dramatiq-go/dramatiq/faults/testenv"
)

const pyworker = "../pyworker.py"

// redisDatabase returns the URL of one of the test Redis's databases, as both programs have the ledger's key built in.
func redisDatabase(t *testing.T, number int) string {
	t.Helper()
	u, err := url.Parse(testenv.RedisURL(t))
	if err != nil {
		t.Fatal(err)
	}
	u.Path = fmt.Sprintf("/%d", number)
	return u.String()
}

// TestPython_sharesRabbitMQ sends the same messages with each program, to a worker of the other.
func TestPython_sharesRabbitMQ(t *testing.T) {
	t.Parallel()
	goProgram, python := []string{self(t)}, []string{testenv.Python(t), pyworker}
	t.Run("from Go to Python", func(t *testing.T) {
		t.Parallel()
		crossing(t, redisDatabase(t, 1), goProgram, python, "python")
	})
	t.Run("from Python to Go", func(t *testing.T) {
		t.Parallel()
		crossing(t, redisDatabase(t, 2), python, goProgram, "go")
	})
}

func crossing(t *testing.T, ledgerURL string, producer, worker []string, lang string) {
	t.Helper()
	queue := "goworker-" + strings.ToLower(rand.Text())
	env := []string{
		childVariable + "=1", "DRAMATIQ_BROKER_URL=" + testenv.RabbitMQURL(t), "INTEROP_LEDGER_URL=" + ledgerURL,
		"INTEROP_QUEUES=" + queue, "INTEROP_RESULTS_URL=", "INTEROP_CONCURRENCY=4", "INTEROP_MAX_PRIORITY=", "INTEROP_CRASH_LIMIT=",
	}
	store, err := ledgers.NewRedis(ledgerURL, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = store.Delete(context.Background())
		_ = store.Close()
	}()
	jobs := []struct {
		actor, args string
		retries     int
		outcomes    string
	}{
		{"add", `[9007199254740993,1.5]`, 0, "ok "},
		{"note", `["\u00e9\u2028\"<",{"a":[null,true]}]`, 0, "ok "},
		{"note", `[]`, 0, "ok "},
		{"flaky", `["` + queue + `",2]`, 2, "error error ok "},
		{"fail", `["no luck"]`, 0, "error "},
	}
	var input strings.Builder
	for i, job := range jobs {
		fmt.Fprintf(&input, `{"actor":%q,"queue":%q,"args":%s,"options":{"max_retries":%d},"delay_ms":%d}`+"\n",
			job.actor, queue, job.args, job.retries, 100*i)
	}
	enqueue := exec.CommandContext(t.Context(), producer[0], append(producer[1:], "enqueue", "--stdin")...)
	enqueue.Env, enqueue.Stdin, enqueue.Stderr = append(os.Environ(), env...), strings.NewReader(input.String()), os.Stderr
	printed, err := enqueue.Output()
	if err != nil {
		t.Fatal(err)
	}
	ids := strings.Fields(string(printed))
	w := process.Start(t, process.Config{Args: append(worker, "worker"), Env: env, Name: lang})
	if _, err := w.WaitOutput("worker started", patience); err != nil {
		t.Fatal(err)
	}
	entries := awaitEntries(t, store, len(jobs)+2)
	stop(t, w)
	outcomes := map[string]string{}
	for _, e := range entries {
		outcomes[e.MessageID] += e.Outcome + " "
		if e.Lang != lang || e.Attempt != strings.Count(outcomes[e.MessageID], " ") {
			t.Errorf("entry %+v: want language %s and attempt %d", e, lang, strings.Count(outcomes[e.MessageID], " "))
		}
	}
	for i, job := range jobs {
		if len(ids) != len(jobs) || outcomes[ids[i]] != job.outcomes {
			t.Errorf("%s: outcomes %q, want %q", job.actor, outcomes[ids[i]], job.outcomes)
		}
	}
}

func awaitEntries(t *testing.T, store ledgers.Store, n int) []ledgers.Entry {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		entries, err := store.Entries(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) >= n {
			return entries
		}
		if time.Now().After(deadline) {
			t.Fatalf("the ledger has %d of %d entries: %+v", len(entries), n, entries)
		}
	}
}
