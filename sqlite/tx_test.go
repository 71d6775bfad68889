package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dramatiq-go/dramatiq/driver"
)

func beginForeign(t *testing.T, db *sql.DB) *sql.Tx {
	t.Helper()
	tx, err := db.BeginTx(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

func TestEnqueueTx_CommitStartsTheMessage(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{})
	c := consumeTest(t, d, "default")
	db := openForeign(t, d.path)
	for _, wake := range []bool{true, false} { // without it the commit is noticed a little later
		tx := beginForeign(t, db)
		if _, err := tx.Exec("CREATE TABLE IF NOT EXISTS orders (id INTEGER)"); err != nil {
			t.Fatal(err)
		}
		enqueueTest(t, d.EnqueueTx(tx), newMessages(3)...)
		wantStats(t, d, "default", driver.Stats{})
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if wake {
			d.Wake()
		}
		settleTest(t, c, driver.Ack, fetchTest(t, c, 3)...)
	}
}

func TestEnqueueTx_RollbackStoresNothing(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{})
	tx := beginForeign(t, openForeign(t, d.path))
	enqueueTest(t, d.EnqueueTx(tx), newMessages(3)...)
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	wantStats(t, d, "default", driver.Stats{})
	if errs := d.EnqueueTx(tx).Enqueue(testContext(t), newMessages(2)); len(errs) != 2 || !errors.Is(errs[0], sql.ErrTxDone) {
		t.Errorf("Enqueue after the end of the transaction = %v", errs)
	}
}

func TestEnqueueTx_BadMessageLeavesTheTransaction(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{})
	tx := beginForeign(t, openForeign(t, d.path))
	messages := newMessages(3)
	messages[1].Envelope.Actor = ""
	errs := d.EnqueueTx(tx).Enqueue(testContext(t), messages)
	if len(errs) != 3 || errs[0] != nil || errs[1] == nil || errs[2] != nil {
		t.Errorf("Enqueue = %v, want one error for the second", errs)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	wantStats(t, d, "default", driver.Stats{Waiting: 2})
}

func TestEnqueueTx_RefusesWhatWouldBeLost(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{})
	elsewhere := beginForeign(t, openForeign(t, filepath.Join(t.TempDir(), "other.db")))
	here := beginForeign(t, openForeign(t, d.path))
	foreign := *d.EnqueueTx(here).(*txEnqueuer)
	foreign.d = &Driver{path: d.path, engine: "2026-01-01 another build"}
	for name, tt := range map[string]struct {
		enqueuer driver.Enqueuer
		reason   string
	}{
		"another file":    {d.EnqueueTx(elsewhere), "on the file"},
		"another library": {&foreign, "another SQLite library"},
	} {
		errs := tt.enqueuer.Enqueue(testContext(t), newMessages(2))
		if len(errs) != 2 || !errors.Is(errs[1], driver.ErrMisconfigured) || !strings.Contains(errs[1].Error(), tt.reason) {
			t.Errorf("%s: Enqueue = %v", name, errs)
		}
	}
}

func TestEnqueueTx_OwnerKilledAroundTheCommit(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{})
	for _, commit := range []bool{false, true} {
		c := startChild(t, "tx", "sqlite://"+d.path)
		c.say("enqueue")
		c.want("enqueue: <nil>")
		if commit {
			c.say("commit")
			c.want("commit: <nil>")
		}
		c.kill()
		want := driver.Stats{}
		if commit {
			want.Waiting = 3
		}
		wantStats(t, d, "default", want)
	}
}
