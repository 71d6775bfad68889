// Package sqlite is the embedded transport: one SQLite file, used by any number of processes of one machine. It needs no
// server and is what a program uses when nothing else is configured.
//
//	driver, err := sqlite.Open("sqlite:///var/lib/shop/jobs.db?heartbeat_timeout=30s")
//
// # What is stored when
//
// The file is in WAL mode with synchronous=FULL: when Enqueue or Settle returns nil, what they stored survives the death of
// the process and a power cut. Concurrent calls share one transaction while another is being committed, so that the price
// of a disk flush is shared too. Claims are not flushed: losing one to a power cut, which ends all workers anyway, only
// means that the message is unclaimed. With synchronous=normal a power cut may also take the last few transactions; the
// death of a process never does.
//
// A message's follow-ups and its removal are one transaction (see package driver).
//
// # Order
//
// A queue hands out higher priorities first, and within a priority the oldest message first. A message that was put back,
// by its worker or because its worker died, keeps its place. Delayed messages take their places when they are due, in the
// order of their due times. A consumer of several queues takes from each in turn.
//
// # Who is alive
//
// Each consumer holds a lease that its own heartbeat renews, and the lock on a file in the directory <database>.d. Where a
// process is killed, the system lets go of the lock and others take over its messages within about two seconds. A process
// that is stopped or hangs keeps its lock and loses its messages when the lease ends; it learns of that from ErrNotHeld
// before it starts or settles anything. A consumer closed while messages run hands back all others; those are taken over
// when the lease ends, at most two heartbeat timeouts later, because their handlers may still be running.
//
// # Waking up
//
// A commit wakes the workers of the same process over a channel and those of others by a byte sent to a Unix socket in
// <database>.d. Foreign writers (the sqlite3 shell, a transaction of EnqueueTx) are noticed within 250 ms; systems without
// such sockets look every 20 ms.
//
// # Taking turns
//
// SQLite lets one process write at a time and keeps no queue. A process that has tried in vain for about a millisecond
// therefore asks the others, through the file <database>.d/turn, to let it go first.
//
// # Limits
//
// The file must lie on a local disk: WAL needs shared memory. Deleted rows leave room that later ones reuse, but the file
// does not shrink; run VACUUM for that. Copy it with VACUUM INTO or the backup API, not with cp. Programs that share the
// file inside one process must use the same SQLite library, see [Driver.EnqueueTx].
package sqlite
