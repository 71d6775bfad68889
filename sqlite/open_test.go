package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/dramatiq-go/dramatiq/driver"
)

func TestOpen_ExplainsWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := filepath.Join(dir, "letter.txt")
	if err := os.WriteFile(text, []byte(strings.Repeat("Dear Sir or Madam, ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, reason := range map[string]string{
		text:                               "not an SQLite database",
		dir:                                "no regular file",
		filepath.Join(dir, "none", "a.db"): "directory of the database must exist",
	} {
		_, err := Open(path)
		if err == nil || !strings.Contains(err.Error(), reason) || !strings.HasPrefix(err.Error(), "sqlite: ") {
			t.Errorf("Open(%q) = %v, want an error with %q", path, err, reason)
		}
	}
}

func TestOpen_NewerTables(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	openTest(t, Config{Path: path})
	if _, err := openForeign(t, path).Exec("UPDATE dramatiq_meta SET value = '2' WHERE name = 'version'"); err != nil {
		t.Fatal(err)
	}
	_, err := Open(path)
	if !errors.Is(err, driver.ErrMisconfigured) || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("Open = %v, want an error about the version", err)
	}
}

func TestOpen_WithoutWAL(t *testing.T) {
	t.Parallel()
	db, err := sql.Open(engine, ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	err = prepareFile(context.Background(), Config{}.withDefaults(), db)
	if !errors.Is(err, driver.ErrMisconfigured) || !strings.Contains(err.Error(), "WAL") {
		t.Errorf("preparing a database that cannot have WAL = %v", err)
	}
}

func TestOpen_LeavesForeignTablesAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop.db")
	db := openForeign(t, path)
	if _, err := db.Exec("CREATE TABLE orders (id INTEGER); INSERT INTO orders VALUES (7); PRAGMA user_version = 42"); err != nil {
		t.Fatal(err)
	}
	d := openTest(t, Config{Path: path})
	enqueueTest(t, d, newMessage("default", "a"))
	var id, version int
	if err := db.QueryRow("SELECT id FROM orders").Scan(&id); err != nil || id != 7 {
		t.Errorf("the user's table holds %d, %v", id, err)
	}
	if err := db.QueryRow("PRAGMA user_version").Scan(&version); err != nil || version != 42 {
		t.Errorf("user_version is %d, %v", version, err)
	}
}

func TestOpen_ManyAtOnceCreateOneSchema(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "odd name?100%#.db")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			d, err := New(Config{Path: path})
			if err != nil {
				t.Error(err)
				return
			}
			if errs := d.Enqueue(testContext(t), newMessages(3)); errs != nil {
				t.Error(errs)
			}
			if err := d.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantStats(t, openTest(t, Config{Path: path}), "default", driver.Stats{Waiting: 24})
}
