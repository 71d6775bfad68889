package interop_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/faults/testenv"
)

// shell asks the sqlite3 shell, which opens the file read-only.
func (f *farm) shell(query string) string {
	f.tb.Helper()
	ctx, cancel := context.WithTimeout(f.tb.Context(), patience)
	defer cancel()
	output, err := exec.CommandContext(ctx, "sqlite3", "-readonly", f.db, query).CombinedOutput()
	if err != nil {
		f.tb.Fatalf("sqlite3: %v: %s: %s", err, query, output)
	}
	return strings.TrimSpace(string(output))
}

// TestProofSQLite_LookFromOutside reads the tables with the sqlite3 shell while messages are sent and run: it sees what the
// schema documents, and keeps nobody from working.
func TestProofSQLite_LookFromOutside(t *testing.T) {
	t.Parallel()
	messages := 2000
	if testenv.Full(t) {
		messages = 50_000
	}
	f := newSQLiteFarm(t)
	ids := f.enqueueAll(
		f.message("fail", `["no luck"]`, `{"max_retries":0}`),
		f.message("sleep", "[600000]", ""),
		f.message("sleep", "[600000]", ""),
		`{"actor":"note","queue":"later","delay_ms":3600000}`,
		`{"actor":"note","queue":"unread"}`,
		`{"actor":"note","queue":"unread"}`,
	)
	w := f.started("--worker-shutdown-timeout", "100ms")
	var lines []string
	for i := range messages {
		lines = append(lines, f.message("echo", fmt.Sprintf("[%d]", i), ""))
	}
	sent := make(chan error, 1)
	go func() {
		more, err := f.enqueue(lines...)
		ids = append(ids, more...)
		sent <- err
	}()
	looks, seen := 0, map[string]bool{}
	for sending := true; sending || f.left() > 5; looks++ {
		select {
		case err := <-sent:
			if err != nil {
				t.Fatal(err)
			}
			sending = false
		default:
		}
		seen[f.shell("SELECT count(*), sum(length(body)) FROM dramatiq_messages WHERE queue = 'default'")] = true
		if looks > 5000 {
			t.Fatal("the worker does not get on")
		}
	}
	if len(seen) < 2 {
		t.Errorf("the shell always saw the same: %v", seen)
	}
	f.await("the failed message is given up", func() bool { return f.shell("SELECT count(*) FROM dramatiq_dead") == "1" })
	now := time.Now().UnixMilli()
	for query, want := range map[string]string{
		"SELECT value FROM dramatiq_meta WHERE name = 'version'": "1",
		"SELECT queue, reason, detail <> '', died > 0 AND died <= " + fmt.Sprint(now) + ", json_extract(CAST(body AS TEXT), '$.actor_name') " +
			"FROM dramatiq_dead": "default|retries exhausted|1|1|fail",
		"SELECT count(*) FROM dramatiq_messages WHERE queue = 'unread' AND owner IS NULL AND due = 0":                 "2",
		"SELECT count(*) FROM dramatiq_messages WHERE queue = 'later' AND owner IS NULL AND due > " + fmt.Sprint(now): "1",
		"SELECT w.pid, w.host <> '', w.heartbeat + w.lease > " + fmt.Sprint(now) + ", count(*), max(m.suspect), max(m.crashes), " +
			"min(m.claim) FROM dramatiq_messages m JOIN dramatiq_workers w ON w.id = m.owner GROUP BY w.id": fmt.Sprintf("%d|1|1|2|0|0|1", w.Pid()),
		"SELECT queue, count(*) FROM dramatiq_messages WHERE queue <> 'unused' GROUP BY queue ORDER BY queue": "default|2\nlater|1\nunread|2",
		"PRAGMA integrity_check": "ok",
	} {
		if got := f.shell(query); got != want {
			t.Errorf("%s\ngave %q, want %q", query, got, want)
		}
	}
	f.stop(w)
	if f.shell("SELECT count(*) FROM dramatiq_workers") != "0" {
		t.Error("the worker's row is left")
	}
	t.Logf("%d looks saw %d different states", looks, len(seen))
	f.check(f.evidence(ids))
}
