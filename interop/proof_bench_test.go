package interop_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// producer starts a program that sends a message for each line that is written to it, and returns how to read the ids.
func (f *farm) producer() (io.Writer, *bufio.Scanner) {
	f.tb.Helper()
	cmd := exec.CommandContext(f.tb.Context(), goworker(f.tb), "enqueue", "--stdin")
	cmd.Env = append(os.Environ(), f.env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		f.tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		f.tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		f.tb.Fatal(err)
	}
	f.tb.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return in, bufio.NewScanner(out)
}

// BenchmarkIdleToStart measures from before a line is written to a producing process to the start of the handler in an idle
// worker process, on SQLite. Starts are recorded in whole milliseconds, which are rounded up here. How long the producer
// took to store the message, most of it for one flush of the disk, is reported too.
func BenchmarkIdleToStart(b *testing.B) {
	f := newSQLiteFarm(b)
	w := f.started()
	to, ids := f.producer()
	line := f.message("note", "[]", "") + "\n"
	begun := map[string]time.Time{}
	var stored []time.Duration
	pace := time.NewTicker(15 * time.Millisecond)
	defer pace.Stop()
	for b.Loop() {
		<-pace.C // so that the worker is idle
		begin := time.Now()
		if _, err := io.WriteString(to, line); err != nil || !ids.Scan() {
			b.Fatal(err, ids.Err())
		}
		stored = append(stored, time.Since(begin))
		begun[ids.Text()] = begin
	}
	f.await("all have run", func() bool { return len(f.entries()) == len(begun) })
	f.stop(w)
	var took []time.Duration
	for _, e := range f.entries() {
		took = append(took, time.UnixMilli(e.StartMS+1).Sub(begun[e.MessageID]))
	}
	percentiles(b, took, "")
	percentiles(b, stored, "stored-")
}

func percentiles(b *testing.B, took []time.Duration, prefix string) {
	b.Helper()
	slices.Sort(took)
	for _, p := range []int{50, 99} {
		b.ReportMetric(took[(len(took)-1)*p/100].Seconds()*1000, fmt.Sprintf("%sp%d-ms", prefix, p))
	}
	b.ReportMetric(took[len(took)-1].Seconds()*1000, prefix+"max-ms")
}

// BenchmarkThroughput measures how long a producing process and a worker process need together for a number of messages on
// SQLite, each flushed to the disk when it is stored and when it is settled.
func BenchmarkThroughput(b *testing.B) {
	const messages = 5000
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			f := newSQLiteFarm(b)
			for range workers {
				f.started()
			}
			to, ids := f.producer()
			line := []byte(f.message("echo", `["some argument"]`, "") + "\n")
			for b.Loop() {
				go func() {
					out := bufio.NewWriter(to)
					for range messages {
						_, _ = out.Write(line)
					}
					_ = out.Flush() // what is not accepted is missed below
				}()
				for range messages {
					if !ids.Scan() {
						b.Fatal("the producer has ended: ", ids.Err())
					}
				}
				f.await("all have run", func() bool { return f.left() == 0 })
			}
			b.ReportMetric(float64(messages*b.N)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}
