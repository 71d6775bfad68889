package sqlite

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/wire"
)

// child is a process that plays a role of runChild. It obeys lines and answers in lines.
type child struct {
	tb    testing.TB
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
	ended bool
}

func startChild(tb testing.TB, role, url string) *child {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+role, "DRAMATIQ_SQLITE_TEST_URL="+url)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	c := &child{tb: tb, cmd: cmd, in: in, lines: make(chan string, 10000)}
	go func() {
		defer close(c.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			c.lines <- s.Text()
		}
	}()
	tb.Cleanup(c.kill)
	c.want("ready")
	return c
}

// say sends a line.
func (c *child) say(line string) {
	c.tb.Helper()
	if _, err := io.WriteString(c.in, line+"\n"); err != nil {
		c.tb.Fatal(err)
	}
}

// hear returns the next line.
func (c *child) hear() string {
	c.tb.Helper()
	select {
	case line, ok := <-c.lines:
		if !ok {
			c.tb.Fatal("the child process has ended")
		}
		return line
	case <-time.After(testPatience):
		c.tb.Fatal("the child process does not answer")
	}
	return ""
}

func (c *child) want(line string) {
	c.tb.Helper()
	if got := c.hear(); got != line {
		c.tb.Fatalf("the child process said %q, want %q", got, line)
	}
}

func (c *child) signal(s syscall.Signal) {
	c.tb.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.tb.Fatal(err)
	}
}

// kill ends the process as a crash does, and waits for that.
func (c *child) kill() {
	if c.ended {
		return
	}
	c.ended = true
	_ = c.cmd.Process.Kill()
	for range c.lines { // until its end of the pipe is closed
	}
	_ = c.cmd.Wait()
}

// runChild is the main function of a child process.
func runChild(role string) int {
	if err := playRole(role); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	return 0
}

func playRole(role string) error {
	ctx := context.Background()
	d, err := Open(os.Getenv("DRAMATIQ_SQLITE_TEST_URL"))
	if err != nil {
		return err
	}
	defer func() { _ = d.Close(ctx) }()
	in := bufio.NewScanner(os.Stdin)
	switch role {
	case "sender":
		return playSender(ctx, d, in)
	case "flood":
		return playFlood(ctx, d)
	case "worker":
		return playWorker(ctx, d)
	case "puppet":
		return playPuppet(ctx, d, in)
	case "tx":
		return playTx(ctx, d, in)
	default:
		return fmt.Errorf("unknown role %q", role)
	}
}

// playSender stores one message a line, whose argument is the time before that.
func playSender(ctx context.Context, d *Driver, in *bufio.Scanner) error {
	fmt.Println("ready")
	for in.Scan() {
		m := newMessage("default", in.Text())
		m.Envelope.Args = strconv.AppendInt([]byte("["), time.Now().UnixNano(), 10)
		m.Envelope.Args = append(m.Envelope.Args, ']')
		if errs := d.Enqueue(ctx, []driver.Message{m}); errs != nil {
			return errs[0]
		}
	}
	return in.Err()
}

// playFlood stores messages one by one until it is killed.
func playFlood(ctx context.Context, d *Driver) error {
	fmt.Println("ready")
	for i := 0; ; i++ {
		if errs := d.Enqueue(ctx, []driver.Message{newMessage("flood", strconv.Itoa(i))}); errs != nil {
			return errs[0]
		}
	}
}

func childConsumer(ctx context.Context, d *Driver) (driver.Consumer, error) {
	return d.Consume(ctx, driver.ConsumerConfig{
		Queues: []string{"default"}, Concurrency: 8, Encoder: wire.JSON{}, Logger: slog.New(slog.DiscardHandler),
	})
}

// playWorker runs messages until it is killed: it says each one's id before it settles it, and stores a follow-up for each
// in the same step. The message "poison" kills it; one that has crashed three times is rejected.
func playWorker(ctx context.Context, d *Driver) error {
	c, err := childConsumer(ctx, d)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		deliveries, err := c.Fetch(ctx, 8)
		if err != nil {
			return err
		}
		for i := range deliveries { // one at a time, so that a crash has one suspect with a recorded start
			s, err := workOn(ctx, c, &deliveries[i])
			if err != nil {
				return err
			}
			if errs := c.Settle(ctx, []driver.Settlement{s}); errs != nil {
				return errs[0]
			}
		}
	}
}

func workOn(ctx context.Context, c driver.Consumer, d *driver.Delivery) (driver.Settlement, error) {
	s := driver.Settlement{Delivery: d}
	if d.Crashes >= 3 {
		s.Outcome, s.Death.Reason = driver.Reject, "crashed its workers"
		return s, nil
	}
	if err := c.Begin(ctx, d); err != nil {
		return s, err
	}
	e, err := wire.JSON{}.Decode(d.Body)
	if err != nil {
		return s, err
	}
	fmt.Println("ran", e.ID)
	if e.ID == "poison" {
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Kill()
		}
		if err != nil {
			return s, err
		}
		select {} // until it arrives
	}
	s.FollowUps = []driver.Message{newMessage("done", e.ID)}
	return s, nil
}

// playPuppet calls what it is told to.
func playPuppet(ctx context.Context, d *Driver, in *bufio.Scanner) error {
	c, err := childConsumer(ctx, d)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var held []driver.Delivery
	for in.Scan() {
		command, argument, _ := strings.Cut(in.Text(), " ")
		n, _ := strconv.Atoi(argument)
		var err error
		switch command {
		case "fetch":
			held, err = c.Fetch(ctx, n)
		case "begin":
			err = c.Begin(ctx, &held[n])
		case "settle":
			s := driver.Settlement{Delivery: &held[n], FollowUps: []driver.Message{newMessage("done", "late")}}
			if errs := c.Settle(ctx, []driver.Settlement{s}); errs != nil {
				err = errs[0]
			}
		case "close":
			err = c.Close(ctx)
		}
		fmt.Printf("%s: %v\n", command, err)
	}
	return in.Err()
}

// playTx stores messages in a transaction of its own.
func playTx(ctx context.Context, d *Driver, in *bufio.Scanner) error {
	db, err := sql.Open("sqlite", "file:"+d.path+"?_txlock=immediate")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for in.Scan() {
		var err error
		if in.Text() == "commit" {
			err = tx.Commit()
		} else if errs := d.EnqueueTx(tx).Enqueue(ctx, newMessages(3)); errs != nil {
			err = errs[0]
		}
		fmt.Printf("%s: %v\n", in.Text(), err)
	}
	return in.Err()
}
