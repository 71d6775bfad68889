package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/dramatiq-go/dramatiq/driver"
)

// Driver is one open database file. It is safe for concurrent use, and several Drivers, in one process or many, may have
// the same file open.
type Driver struct {
	cfg    Config
	path   string // absolute, without symbolic links
	dir    string // path.d: locks and sockets of workers
	engine string // identifies the SQLite library, see EnqueueTx

	writeDB, readDB *sql.DB
	read            *readStmts
	writer          *writer
	sender          *sender

	mu        sync.Mutex // guards below
	closed    bool
	consumers map[*consumer]struct{}
	watcher   *background // looks at data_version
	janitor   *background // recovers and expires
}

var (
	_ driver.Driver    = (*Driver)(nil)
	_ driver.Inspector = (*Driver)(nil)
)

// Open opens the database that a URL or a plain path names, see ParseURL, and creates it when it is missing. Its errors
// wrap driver.ErrMisconfigured where no waiting helps: a wrong URL, tables of a newer version, no WAL.
func Open(url string) (*Driver, error) {
	cfg, err := ParseURL(url)
	if err != nil {
		return nil, err
	}
	return New(cfg)
}

// New is Open with the settings in a Config.
func New(cfg Config) (*Driver, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("sqlite: %w: %w", driver.ErrMisconfigured, err)
	}
	d, err := open(cfg)
	if err != nil {
		return nil, fmt.Errorf("sqlite: open %q: %w", cfg.Path, err)
	}
	return d, nil
}

func open(cfg Config) (*Driver, error) {
	path, err := locate(cfg.Path)
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	write, read, err := openDB(ctx, cfg, path)
	if err != nil {
		return nil, err
	}
	d := &Driver{
		cfg: cfg, path: path, dir: path + ".d",
		writeDB: write, readDB: read,
		consumers: map[*consumer]struct{}{},
	}
	d.sender = newSender(socketDir(d.dir))
	if d.engine, err = engineOf(ctx, read); err == nil {
		d.read, err = prepareReads(ctx, read)
	}
	if err != nil {
		return nil, errors.Join(explain(err), read.Close(), write.Close())
	}
	d.writer = startWriter(ctx, write, cfg, d.dir, d.Wake)
	return d, nil
}

// Declare does nothing: a queue exists when a message is in it.
func (d *Driver) Declare(ctx context.Context, _ []string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	return ctx.Err()
}

// Wake tells all workers of the file that something may have been stored. The driver does so itself after each of its own
// commits; call it after the commit of a transaction that was given to EnqueueTx, or the messages are found by the next
// look, see Config.PollInterval. It does not block.
func (d *Driver) Wake() {
	d.wakeLocal()
	d.sender.wakeOthers()
}

func (d *Driver) wakeLocal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.consumers {
		c.signal()
	}
}

// Consume registers a consumer. It touches nothing but the directory <database>.d; when that cannot be written to, the
// consumer works without the lock and the socket in it, and logs so.
func (d *Driver) Consume(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("sqlite: consume: %w", err)
	}
	if len(cfg.Queues) == 0 {
		return nil, fmt.Errorf("sqlite: consume: %w: no queues", driver.ErrMisconfigured)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errClosed
	}
	c := newConsumer(ctx, d, cfg)
	d.consumers[c] = struct{}{}
	d.sender.own(c.sockName(), true)
	if d.watcher == nil {
		d.watcher = startBackground(ctx, d.watch)
		d.janitor = startBackground(ctx, d.clean)
	}
	return c, nil
}

// forget removes a closed consumer.
func (d *Driver) forget(c *consumer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.consumers, c)
	d.sender.own(c.sockName(), false)
}

// logger returns the logger of any consumer, for what the driver does on its own.
func (d *Driver) logger() *slog.Logger {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.consumers {
		return c.log
	}
	return slog.New(slog.DiscardHandler)
}

// Close waits for the transaction under way, fails what waits behind it with driver.ErrClosed, and closes the file. Closing
// twice is fine.
func (d *Driver) Close(context.Context) error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	watcher, janitor := d.watcher, d.janitor
	open := make([]*consumer, 0, len(d.consumers))
	for c := range d.consumers {
		open = append(open, c)
	}
	d.mu.Unlock()

	for _, c := range open {
		c.release() // a mistake of the caller's; leak nothing
	}
	watcher.stop()
	janitor.stop()
	d.writer.stop()
	d.sender.close()
	err := errors.Join(d.read.close(), d.readDB.Close(), d.writeDB.Close())
	if err != nil {
		return fmt.Errorf("sqlite: close %q: %w", filepath.Base(d.path), err)
	}
	return nil
}

// background is a goroutine that ends when it is told to.
type background struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// startBackground starts a goroutine, which outlives ctx.
func startBackground(ctx context.Context, run func(context.Context)) *background {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b := &background{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(b.done)
		run(ctx)
	}()
	return b
}

// stop ends the goroutine and waits for it. It may be called on nil and more than once.
func (b *background) stop() {
	if b == nil {
		return
	}
	b.cancel()
	<-b.done
}
