// Package cli turns a list of actors into a command line program: one that works, and one that sends.
//
//	func main() {
//		cli.Main(cli.Config{Open: connect.Open, Describe: connect.Describe, Actors: tasks.Actors()})
//	}
//
// The program then has the commands
//
//	worker     run the actors until TERM or INT
//	enqueue    send messages, to actors that the program does not know, too
//	version
//
// and explains them with -h. Programs whose actors need a database or whose broker needs middleware write a Setup instead.
//
// Exit codes are 0 for done, 1 for failed (and for a second signal), 2 for a wrong command line or environment. The package
// imports no driver; the program does.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"

	"github.com/dramatiq-go/dramatiq"
	"github.com/dramatiq-go/dramatiq/driver"
)

// URLVariable is the environment variable that names the broker when the flag --broker does not.
const URLVariable = "DRAMATIQ_BROKER_URL"

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// ErrUsage is wrapped by errors that are the caller's: a wrong command line or, from a Setup, a wrong environment. The
// program then ends with exit code 2.
var ErrUsage = errors.New("wrong usage")

// Config describes a program. Either Setup is given, or Open and Actors.
type Config struct {
	// Name is the program's name in its texts; the default is that of its file.
	Name string
	// Version is what the version command prints; the default is that of the program's module.
	Version string

	// Setup makes what the commands work with. url is that of the flag --broker or of DRAMATIQ_BROKER_URL, and empty when
	// neither is given; connect.Open then takes its default. ctx ends at the first signal, and Logger(ctx) is the logger
	// that the flags ask for.
	Setup func(ctx context.Context, url string) (*App, error)

	// Open and Actors are enough for programs that need no Setup. Open is usually connect.Open.
	Open   func(url string) (driver.Driver, error)
	Actors dramatiq.Actors

	// Describe names the broker of a URL in logs, without its password; it is usually connect.Describe. The default is what
	// the driver's String method says, else the URL without password and parameters.
	Describe func(url string) string
}

// App is what a Setup makes.
type App struct {
	// Broker is required. It is closed when the command is done.
	Broker *dramatiq.Broker
	// Actors are what a worker runs. An enqueue looks up their queues.
	Actors dramatiq.Actors
	// Worker configures the worker; flags take precedence.
	Worker dramatiq.WorkerConfig
	// Close, if not nil, is called after Broker was closed.
	Close func() error
}

// Main runs the program on its command line and exits. The first INT or TERM ends it gracefully, the second at once with
// exit code 1. The logger that the flags ask for becomes slog's default.
func Main(cfg Config) {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, stopSignals()...)
	go func() {
		<-signals
		stop()
		<-signals
		os.Exit(exitFailed)
	}()
	p := newProgram(cfg, os.Stdin, os.Stdout, os.Stderr)
	p.logs = slog.SetDefault
	os.Exit(p.run(ctx, os.Args[1:]))
}

// Run runs the program on a command line, without its own name, and returns its exit code. It touches neither signals nor
// anything else that is global; the end of ctx is what a signal is to Main.
func Run(ctx context.Context, cfg Config, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return newProgram(cfg, stdin, stdout, stderr).run(ctx, args)
}

// Logger returns the logger that the command line asks for, from the context that a Setup is given. From any other context
// it is slog.Default().
func Logger(ctx context.Context) *slog.Logger {
	if log, ok := ctx.Value(loggerKey{}).(*slog.Logger); ok {
		return log
	}
	return slog.Default()
}

type loggerKey struct{}

// program is one run.
type program struct {
	cfg    Config
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	logs   func(*slog.Logger) // told of the logger, if not nil

	url     string
	logging logFlags
	log     *slog.Logger
	began   bool // the command line was right
}

func newProgram(cfg Config, stdin io.Reader, stdout, stderr io.Writer) *program {
	if cfg.Name == "" {
		cfg.Name = strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
	}
	return &program{cfg: cfg, stdin: stdin, stdout: stdout, stderr: &lockedWriter{w: stderr}}
}

// run returns the exit code.
func (p *program) run(ctx context.Context, args []string) int {
	root := p.command()                       //nolint:contextcheck // commands get theirs from ExecuteContextC
	root.SetArgs(append([]string{}, args...)) // not nil, which would mean os.Args
	command, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return exitOK
	case !p.began:
		_, _ = fmt.Fprintf(p.stderr, "%s: %v\nSee %q.\n", p.cfg.Name, err, command.CommandPath()+" --help")
		return exitUsage
	}
	code := exitFailed
	if errors.Is(err, ErrUsage) {
		code = exitUsage
	}
	if p.logging.format == formatJSON {
		p.log.LogAttrs(ctx, slog.LevelError, "failed", slog.Any(dramatiq.LogError, err))
	} else {
		_, _ = fmt.Fprintf(p.stderr, "%s: %v\n", p.cfg.Name, err)
	}
	return code
}

// begin is called by each command when its command line is right.
func (p *program) begin(ctx context.Context) context.Context {
	p.began = true
	p.log = p.logging.logger(p.stderr)
	if p.logs != nil {
		p.logs(p.log)
	}
	return context.WithValue(ctx, loggerKey{}, p.log)
}

// setup makes what a command works with.
func (p *program) setup(ctx context.Context) (*App, error) {
	url := p.url
	if url == "" {
		url = os.Getenv(URLVariable)
	}
	app, err := p.app(ctx, url)
	switch {
	case err != nil:
		return nil, err
	case app == nil || app.Broker == nil:
		return nil, errors.New("cli: Config.Setup returned no broker")
	}
	p.log.LogAttrs(ctx, slog.LevelInfo, "using broker", slog.String(dramatiq.LogBroker, p.describe(url, app.Broker.Driver())))
	return app, nil
}

func (p *program) app(ctx context.Context, url string) (*App, error) {
	if p.cfg.Setup != nil {
		if p.cfg.Open != nil || p.cfg.Actors != nil {
			return nil, errors.New("cli: Config has a Setup, so that its Open and Actors must be nil")
		}
		return p.cfg.Setup(ctx, url)
	}
	if p.cfg.Open == nil {
		return nil, errors.New("cli: Config has neither Setup nor Open; Open is usually connect.Open")
	}
	d, err := p.cfg.Open(url)
	if err != nil {
		return nil, err
	}
	broker, err := dramatiq.NewBroker(d, dramatiq.BrokerConfig{Logger: p.log})
	if err != nil {
		return nil, errors.Join(err, d.Close(ctx))
	}
	return &App{Broker: broker, Actors: p.cfg.Actors}, nil
}

// describe names the broker without its password.
func (p *program) describe(url string, d driver.Driver) string {
	if p.cfg.Describe != nil {
		return p.cfg.Describe(url)
	}
	if s, ok := d.(fmt.Stringer); ok {
		return s.String()
	}
	return redact(url)
}

// close releases what a Setup made.
func (a *App) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	err := a.Broker.Close(ctx)
	if a.Close != nil {
		err = errors.Join(err, a.Close())
	}
	return err
}

// lockedWriter lets the logger and the program itself write to one stream.
type lockedWriter struct {
	mu sync.Mutex // guards below
	w  io.Writer
}

// Write implements io.Writer.
func (l *lockedWriter) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(data)
}
