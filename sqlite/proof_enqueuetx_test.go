package sqlite

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
)

// shopEnv makes a copy of TestProofSQLite_EnqueueTx, started as a child, the program that is killed: its value is the
// database file and the prefix of the ids, separated by a space.
const shopEnv = "DRAMATIQ_SQLITE_TEST_SHOP"

// TestProofSQLite_EnqueueTx kills a program that takes orders, each with its message in one transaction: a message is there
// if and only if its order is, whether the transaction was committed, rolled back or cut short.
func TestProofSQLite_EnqueueTx(t *testing.T) {
	if shop := os.Getenv(shopEnv); shop != "" {
		path, prefix, _ := strings.Cut(shop, " ")
		t.Fatal(keepShop(path, prefix))
	}
	t.Parallel()
	rounds := 15
	if os.Getenv("DRAMATIQ_PROOF") == "full" {
		rounds = 200
	}
	d := openTest(t, Config{})
	db := openForeign(t, d.path)
	if _, err := db.Exec("CREATE TABLE orders (id TEXT NOT NULL)"); err != nil {
		t.Fatal(err)
	}
	startChild(t, "flood", "sqlite://"+d.path) // somebody else who writes all the time
	said := map[string]int{}
	for round := range rounds {
		for _, line := range runShop(t, d.path, fmt.Sprintf("%d", round), rand.N(80*time.Millisecond)) {
			verb, id, _ := strings.Cut(line, " ")
			said[verb]++
			// What was said to be committed must be there, what was rolled back must not.
			want := map[string]int{"committed": 1, "rolled-back": 0}[verb]
			if got := count(t, db, "SELECT count(*) FROM orders WHERE id = ?", id); got != want {
				t.Fatalf("round %d: %s, and there are %d of it", round, line, got)
			}
		}
		if err := unpaired(t, db); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	orders := count(t, db, "SELECT count(*) FROM orders")
	t.Logf("%d kills: %d orders, %d said to be committed and %d rolled back", rounds, orders, said["committed"], said["rolled-back"])
	if said["committed"] < rounds || said["rolled-back"] < rounds || orders < said["committed"] {
		t.Errorf("too little has happened to prove anything")
	}
	// It must be possible to fail.
	for _, forgery := range []string{
		"DELETE FROM orders WHERE rowid = (SELECT max(rowid) FROM orders)",
		"DELETE FROM dramatiq_messages WHERE queue = 'orders' AND id = (SELECT max(id) FROM dramatiq_messages WHERE queue = 'orders')",
		"INSERT INTO dramatiq_messages (queue, body) SELECT queue, body FROM dramatiq_messages WHERE queue = 'orders' LIMIT 1",
	} {
		if _, err := db.Exec(forgery); err != nil {
			t.Fatal(err)
		}
		if unpaired(t, db) == nil {
			t.Errorf("nobody noticed: %s", forgery)
		}
		if _, err := db.Exec("DELETE FROM orders; DELETE FROM dramatiq_messages WHERE queue = 'orders'"); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(takeOrder(t.Context(), d, db, "a", true), takeOrder(t.Context(), d, db, "b", true), unpaired(t, db)); err != nil {
			t.Fatal(err)
		}
	}
}

// runShop runs the shop for a while, kills it, and returns what it said.
func runShop(t *testing.T, path, prefix string, life time.Duration) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProofSQLite_EnqueueTx$")
	cmd.Env = append(os.Environ(), shopEnv+"="+path+" "+prefix)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	hung := time.AfterFunc(testPatience, func() { _ = cmd.Process.Kill() })
	defer hung.Stop()
	var lines []string
	for s := bufio.NewScanner(out); s.Scan(); {
		line := s.Text()
		switch {
		case line == "open":
			// A kill at any moment is a good one, but not before the shop has taken two orders.
		case strings.HasPrefix(line, "committed ") || strings.HasPrefix(line, "rolled-back "):
			lines = append(lines, line)
			if len(lines) == 2 {
				time.AfterFunc(life, func() { _ = cmd.Process.Kill() })
			}
		default:
			t.Errorf("the shop said %q", line)
		}
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("the shop ended by itself: %v", err)
	}
	return lines
}

// keepShop takes orders until it is killed.
func keepShop(path, prefix string) error {
	ctx := context.Background()
	d, err := Open("sqlite://" + path)
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	fmt.Println("open")
	for n := 0; ; n++ {
		id, commit := fmt.Sprintf("%s-%d", prefix, n), n%2 == 0
		if n > 1 {
			commit = rand.N(3) > 0
		}
		if err := takeOrder(ctx, d, db, id, commit); err != nil {
			return err
		}
		if commit {
			fmt.Println("committed", id)
		} else {
			fmt.Println("rolled-back", id)
		}
	}
}

// takeOrder stores an order and its message, in any order, and commits or rolls back.
func takeOrder(ctx context.Context, d *Driver, db *sql.DB, id string, commit bool) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	steps := []func() error{
		func() error {
			_, err := tx.ExecContext(ctx, "INSERT INTO orders (id) VALUES (?)", id)
			return err
		},
		func() error {
			return errors.Join(d.EnqueueTx(tx).Enqueue(ctx, []driver.Message{newMessage("orders", id)})...)
		},
	}
	if rand.N(2) == 0 {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	if !commit {
		return tx.Rollback()
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	d.Wake()
	return nil
}

// unpaired returns an error that names the orders without exactly one message, and the messages without an order.
func unpaired(t *testing.T, db *sql.DB) error {
	t.Helper()
	const query = `WITH sent AS (SELECT json_extract(CAST(body AS TEXT), '$.message_id') AS id FROM dramatiq_messages WHERE queue = 'orders')
		SELECT count(*) FROM (
			SELECT id FROM (SELECT id, 1 AS n FROM orders UNION ALL SELECT id, -1 FROM sent) GROUP BY id HAVING sum(n) <> 0)`
	if n := count(t, db, query); n != 0 {
		return fmt.Errorf("%d ids are an order without exactly one message or a message without an order", n)
	}
	return nil
}

func count(t *testing.T, db *sql.DB, query string, args ...any) int {
	t.Helper()
	var n int
	if err := db.QueryRow(query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
