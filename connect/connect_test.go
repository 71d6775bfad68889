package connect_test

import (
	"context"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/dramatiq-go/dramatiq/connect"
	"github.com/dramatiq-go/dramatiq/driver"
	"github.com/dramatiq-go/dramatiq/memory"
	"github.com/dramatiq-go/dramatiq/rabbitmq"
	"github.com/dramatiq-go/dramatiq/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, url string) driver.Driver {
	t.Helper()
	d, err := connect.Open(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestOpen_picksTheDriverByScheme(t *testing.T) {
	t.Parallel()
	file := filepath.ToSlash(filepath.Join(t.TempDir(), "jobs.db"))
	if _, ok := open(t, "memory:").(*memory.Driver); !ok {
		t.Error("memory: did not open the in-memory driver")
	}
	if _, ok := open(t, "memory://").(*memory.Driver); !ok {
		t.Error("memory:// did not open the in-memory driver")
	}
	if _, ok := open(t, "SQLite:"+file+"?synchronous=normal").(*sqlite.Driver); !ok {
		t.Error("sqlite: did not open the SQLite driver")
	}
	for _, url := range []string{"amqp://localhost:1/", "amqps://u:p@localhost:1/v?heartbeat=5"} {
		if _, ok := open(t, url).(*rabbitmq.Driver); !ok {
			t.Errorf("%s did not open the RabbitMQ driver", url)
		}
	}
}

func TestOpen_refuses(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"kafka://user:hunter2@host/":          `unknown URL scheme "kafka"; the schemes are amqp, amqps, memory, sqlite`,
		"jobs.db":                             "begins with a scheme and a colon",
		"//user:hunter2@host/":                "begins with a scheme and a colon",
		"memory://shared":                     "no name",
		"sqlite:x.db?color=red":               `unknown parameter "color"`,
		"amqp://user:hunter2@host/?heart=4":   `unknown URL parameter "heart"`,
		"amqp://user:hunter2%zz@host/v?a=b":   "cannot be parsed",
		"amqp://user:hunter2#x@localhost:1/v": "",
	} {
		d, err := connect.Open(url)
		if err == nil || d != nil {
			t.Errorf("%s: got driver %v and error %v, want an error alone", url, d, err)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %q, want %q in it", url, err, want)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error contains the password: %v", url, err)
		}
	}
}

func TestOpen_withoutURL(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	t.Run("takes the environment's", func(t *testing.T) {
		t.Setenv(connect.URLVariable, "memory:")
		if _, ok := open(t, "").(*memory.Driver); !ok || connect.URL() != "memory:" {
			t.Errorf("%s was not used; the URL is %s", connect.URLVariable, connect.URL())
		}
	})
	t.Run("says that the environment's is wrong", func(t *testing.T) {
		t.Setenv(connect.URLVariable, "kafka:")
		if _, err := connect.Open(""); err == nil || !strings.HasPrefix(err.Error(), connect.URLVariable+": ") {
			t.Errorf("got %v, want an error that names %s", err, connect.URLVariable)
		}
	})
	t.Run("falls back to a file in the working directory", func(t *testing.T) {
		t.Setenv(connect.URLVariable, "")
		if _, ok := open(t, "").(*sqlite.Driver); !ok {
			t.Error("the default is not SQLite")
		}
		files, err := filepath.Glob(filepath.Join(dir, connect.DefaultFile))
		if err != nil || len(files) != 1 {
			t.Errorf("found %v (%v), want the default file in %s", files, err, dir)
		}
		if got := connect.Describe(""); !strings.HasSuffix(got, filepath.ToSlash(filepath.Join(dir, connect.DefaultFile))) {
			t.Errorf("described as %s, want the file's absolute path", got)
		}
	})
}

func TestDescribe(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("paths look different")
	}
	t.Chdir("/")
	for url, want := range map[string]string{
		"memory:":        "memory:",
		"sqlite:jobs.db": "sqlite:///jobs.db",
		"sqlite:///srv/a%20b.db?heartbeat_timeout=30s": "sqlite:///srv/a%20b.db",
		"sqlite:/srv/jobs.db":                          "sqlite:///srv/jobs.db",
		"amqp://localhost":                             "amqp://localhost",
		"AMQPS://bob:hunter2@h:1/shop?max_priority=5":  "amqps://bob@h:1/shop",
		"redis://:hunter2@h/1?password=hunter2":        "redis://h/1",
		"amqp://bob:hun#ter2@h/":                       "amqp://…",
		"amqp://bob:hun/ter2@h/":                       "amqp://…",
		"amqp://bob:12/ter2@h/":                        "amqp://…",
		"amqp://bob:hun?ter2@h/":                       "amqp://…",
		"amqp:bob:hunter2@h":                           "amqp://…",
		"hunter2":                                      "a URL without a scheme",
	} {
		if got := connect.Describe(url); got != want {
			t.Errorf("%s is described as %s, want %s", url, got, want)
		}
	}
}
