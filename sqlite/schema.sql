-- The tables of package sqlite, version 1. All names start with dramatiq_, because the file may hold your own tables too.
-- Times are milliseconds since the Unix epoch. Read as you like; write only through the package.

-- Facts about the tables themselves: name 'version' holds the version of this schema.
CREATE TABLE dramatiq_meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- The messages that wait, are delayed, or are being worked on. A settled message is gone from here. A delayed message that
-- becomes due is given a place behind all others of the time, out of the same sequence as the ids.
CREATE TABLE dramatiq_messages (
    id       INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused, never changed
    place    INTEGER,                           -- the place in the queue; NULL: the id
    queue    TEXT    NOT NULL,
    priority INTEGER NOT NULL DEFAULT 0,        -- 0 to 255, higher first
    due      INTEGER NOT NULL DEFAULT 0,        -- 0: may be fetched; otherwise not before this time
    owner    INTEGER,                           -- dramatiq_workers.id of the claim's holder; NULL: unclaimed
    claim    INTEGER NOT NULL DEFAULT 0,        -- how often it was claimed; owner and claim together name one claim
    suspect  INTEGER NOT NULL DEFAULT 0,        -- 1: a worker that held it died
    started  INTEGER NOT NULL DEFAULT 0,        -- 1: it is a suspect and its handler was started under this claim
    crashes  INTEGER NOT NULL DEFAULT 0,        -- workers that died while started was 1
    body     BLOB    NOT NULL                   -- the envelope
);

-- Each row is in exactly one of these three, so a million delayed messages cost a fetch nothing.
CREATE INDEX dramatiq_ready ON dramatiq_messages (queue, priority DESC, ifnull(place, id)) WHERE owner IS NULL AND due = 0;
CREATE INDEX dramatiq_delayed ON dramatiq_messages (queue, due) WHERE owner IS NULL AND due > 0;
CREATE INDEX dramatiq_claimed ON dramatiq_messages (owner) WHERE owner IS NOT NULL;

-- The consumers that may hold claims. Without its row a worker holds nothing: recovery deletes the row and unclaims the
-- messages in one transaction.
CREATE TABLE dramatiq_workers (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    name      TEXT    NOT NULL, -- <database>.d/<name>.lock is locked while its process lives
    heartbeat INTEGER NOT NULL, -- when the lease was last renewed
    lease     INTEGER NOT NULL, -- how long it lasts
    pid       INTEGER NOT NULL, -- for people
    host      TEXT    NOT NULL  -- for people
);

-- Messages that will not run again by themselves.
CREATE TABLE dramatiq_dead (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    queue  TEXT    NOT NULL,
    died   INTEGER NOT NULL,
    reason TEXT    NOT NULL,
    detail TEXT    NOT NULL,
    body   BLOB    NOT NULL
);

CREATE INDEX dramatiq_dead_queue ON dramatiq_dead (queue, id);
CREATE INDEX dramatiq_dead_died ON dramatiq_dead (died);

INSERT INTO dramatiq_meta (name, value) VALUES ('version', '1');
