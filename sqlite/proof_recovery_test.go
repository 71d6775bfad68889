package sqlite

import (
	"testing"
	"time"
)

// A recovery of a worker without a lock is put off while somebody else keeps the file from being written.
func TestRecovery_IsPutOffWhileTheFileIsLocked(t *testing.T) {
	t.Parallel()
	d := openTest(t, Config{BusyTimeout: 50 * time.Millisecond})
	db := openForeign(t, d.path)
	if _, err := db.Exec("INSERT INTO dramatiq_workers VALUES (1, 'nobody', 1, 100, 0, '')"); err != nil {
		t.Fatal(err)
	}
	c := &cleaner{d: d, sightings: map[int64]sighting{1: {heartbeat: 1, since: time.Now().Add(-time.Hour)}}}
	tx := beginForeign(t, db)
	if err := c.look(testContext(t)); err == nil {
		t.Errorf("look = %v, want an error", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := c.look(testContext(t)); err != nil {
		t.Error(err)
	}
	if workers, err := d.workers(testContext(t)); err != nil || len(workers) != 0 {
		t.Errorf("workers are %+v, %v, want none", workers, err)
	}
}
