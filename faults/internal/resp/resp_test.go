package resp_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dramatiq-go/dramatiq/faults/internal/resp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve accepts connections one after another; each answers its requests, one line of the script per request, and is
// closed after the last. Requests arrive in the channel with their line ends as spaces.
func serve(t *testing.T, network, address string, scripts ...[]string) (addr string, requests <-chan string) {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan string, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, script := range scripts {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			in := bufio.NewReader(conn)
			for _, reply := range script {
				seen <- readRequest(in)
				_, _ = io.WriteString(conn, reply)
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return listener.Addr().String(), seen
}

// readRequest reads an array of strings of one line each and returns the strings.
func readRequest(in *bufio.Reader) string {
	count, err := in.ReadString('\n')
	if err != nil {
		return "error: " + err.Error()
	}
	var args []string
	for range int(count[1] - '0') {
		_, _ = in.ReadString('\n')
		arg, _ := in.ReadString('\n')
		args = append(args, strings.TrimSpace(arg))
	}
	return strings.Join(args, " ")
}

func newClient(t *testing.T, url string) *resp.Client {
	t.Helper()
	client, err := resp.New(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestClient_repliesOfEveryKind(t *testing.T) {
	t.Parallel()
	for reply, want := range map[string]any{
		"+OK\r\n":                            "OK",
		":-42\r\n":                           int64(-42),
		"$-1\r\n":                            nil,
		"*-1\r\n":                            nil,
		"$0\r\n\r\n":                         "",
		"$4\r\na\r\nb\r\n":                   "a\r\nb",
		"*0\r\n":                             []any(nil),
		"*3\r\n:1\r\n$1\r\nx\r\n-ERR no\r\n": []any{int64(1), "x", resp.Error("ERR no")},
	} {
		addr, _ := serve(t, "tcp", "127.0.0.1:0", []string{reply})
		got, err := newClient(t, "redis://"+addr).Do(t.Context(), "X")
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %#v, %v, want %#v", reply, got, err, want)
		}
	}
}

func TestClient_brokenReplies(t *testing.T) {
	t.Parallel()
	for _, reply := range []string{"", "\r\n", "+OK\n", "?1\r\n", "$x\r\n", "$5\r\nab", "$-2\r\n", "$999999999999\r\n", "*2\r\n:1\r\n"} {
		addr, _ := serve(t, "tcp", "127.0.0.1:0", []string{reply}, []string{"+back\r\n"})
		client := newClient(t, "redis://"+addr)
		var refused resp.Error
		if got, err := client.Do(t.Context(), "X"); err == nil || errors.As(err, &refused) {
			t.Errorf("%q: got %v, %v, want an error of the connection", reply, got, err)
		}
		if got, err := client.Do(t.Context(), "X"); err != nil || got != "back" {
			t.Errorf("%q: afterwards %v, %v, want a new connection", reply, got, err)
		}
	}
}

func TestClient_errorReplyKeepsTheConnection(t *testing.T) {
	t.Parallel()
	addr, _ := serve(t, "tcp", "127.0.0.1:0", []string{"-ERR wrong\r\n", "+OK\r\n"})
	client := newClient(t, "redis://"+addr)
	var refused resp.Error
	if _, err := client.Do(t.Context(), "X"); !errors.As(err, &refused) || string(refused) != "ERR wrong" {
		t.Errorf("got %v, want the server's error", err)
	}
	if got, err := client.Do(t.Context(), "X"); err != nil || got != "OK" {
		t.Errorf("afterwards %v, %v, want the same connection", got, err)
	}
}

func TestClient_authAndSelectOnEachConnection(t *testing.T) {
	t.Parallel()
	hello := []string{"+OK\r\n", "+OK\r\n", ":1\r\n"}
	addr, requests := serve(t, "tcp", "127.0.0.1:0", hello, hello)
	client := newClient(t, "redis://me:secret@"+addr+"/3")
	for range 2 {
		if _, err := client.Do(t.Context(), "INCR", "n"); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"AUTH me secret", "SELECT 3", "INCR n"} {
			if got := <-requests; got != want {
				t.Errorf("request %q, want %q", got, want)
			}
		}
		if _, err := client.Do(t.Context(), "INCR", "n"); err == nil { // the server has closed the connection
			t.Error("a lost connection was not reported")
		}
	}
}

func TestClient_authRefused(t *testing.T) {
	t.Parallel()
	addr, _ := serve(t, "tcp", "127.0.0.1:0", []string{"-WRONGPASS no\r\n"})
	var refused resp.Error
	if _, err := newClient(t, "redis://:secret@"+addr).Do(t.Context(), "X"); !errors.As(err, &refused) {
		t.Errorf("got %v, want the server's error", err)
	}
}

func TestClient_unixSocket(t *testing.T) {
	t.Parallel()
	path, requests := serve(t, "unix", filepath.Join(t.TempDir(), "s"), []string{"+OK\r\n", "+PONG\r\n"})
	if got, err := newClient(t, "unix://"+path+"?db=2").Do(t.Context(), "PING"); err != nil || got != "PONG" {
		t.Fatalf("got %v, %v, want PONG", got, err)
	}
	if got := <-requests; got != "SELECT 2" {
		t.Errorf("request %q, want SELECT 2", got)
	}
}

func TestClient_silentServerMeetsTheDeadline(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := newClient(t, "redis://"+listener.Addr().String()).Do(ctx, "X"); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want a missed deadline", err)
	}
}

func TestNew_badURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"http://x", "redis://x/one", "redis://:secret@%zz", "localhost:6379"} {
		if _, err := resp.New(url); err == nil {
			t.Errorf("%q was accepted", url)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error tells the password: %v", url, err)
		}
	}
}
