-- Step 1: the log, its head, the marks, and what catch-up projections keep.
-- The views active, keys and history are made by the blocks create_* of queries.sql, as their shadows are.
-- A step runs in one transaction and is never changed after a release; the next change is the next file.

-- The end of the log, one row. A position is head + 1: AUTOINCREMENT burns numbers, a bare rowid reuses them.
CREATE TABLE head (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    position INTEGER NOT NULL CHECK (position >= 0),
    chain BLOB NOT NULL CHECK (length(chain) = 32),
    at INTEGER NOT NULL,
    epoch TEXT NOT NULL CHECK (length(epoch) = 16),
    standing TEXT NOT NULL DEFAULT 'open' CHECK (standing IN ('open', 'loading', 'sealed'))
) STRICT;

INSERT INTO head (only_row, position, chain, at, epoch)
VALUES (1, 0, zeroblob(32), 0, lower(hex(randomblob(8))));

-- Facts are TEXT, so that SQL can look into them. The payload is a BLOB: it is kept byte for byte, and nobody looks in.
CREATE TABLE events (
    position INTEGER PRIMARY KEY CHECK (position > 0),
    job_id TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    type TEXT NOT NULL,
    schema INTEGER NOT NULL,
    at INTEGER NOT NULL,
    owner TEXT,
    facts TEXT NOT NULL,
    payload BLOB,
    salt BLOB,
    payload_digest BLOB NOT NULL CHECK (length(payload_digest) = 32),
    chain BLOB NOT NULL CHECK (length(chain) = 32),
    previous_owner TEXT,
    CHECK ((payload IS NULL) = (salt IS NULL)),
    UNIQUE (job_id, version)
) STRICT;

-- The position is the rowid, so each index ends with it.
CREATE INDEX events_by_owner ON events (owner);

-- A change of owner concerns both; of every other event this holds nothing, and an append has nothing to keep.
CREATE INDEX events_by_previous_owner ON events (previous_owner) WHERE previous_owner IS NOT NULL;

-- A fold needs the states and only the last progress: with this it does not walk over the ticks between.
CREATE INDEX events_without_progress ON events (job_id, version) WHERE type <> 'job.progressed';

-- Always empty. Who refers to it cannot commit.
CREATE TABLE nobody (
    id INTEGER PRIMARY KEY CHECK (id < 0 AND id > 0)
) STRICT;

-- The guarded way to the events. A row opens the door, in its own transaction only: the reference is checked at COMMIT
-- and can never hold, so whoever leaves the door open loses all that was done.
CREATE TABLE maintenance (
    act TEXT PRIMARY KEY CHECK (act IN ('erase', 'archive')),
    left_open INTEGER NOT NULL DEFAULT 1 REFERENCES nobody (id) DEFERRABLE INITIALLY DEFERRED
) STRICT, WITHOUT ROWID;

-- A sealed log has moved: under this epoch it goes on elsewhere, and nowhere else. A copy under another epoch may go on.
CREATE TRIGGER sealed_never_moves
BEFORE UPDATE ON head
WHEN old.standing = 'sealed' AND new.epoch = old.epoch
BEGIN
    SELECT raise(ABORT, 'this log is sealed');
END;

CREATE TRIGGER sealed_never_opens
BEFORE INSERT ON maintenance
WHEN EXISTS (SELECT 1 FROM head WHERE standing = 'sealed')
BEGIN
    SELECT raise(ABORT, 'this log is sealed');
END;

CREATE TRIGGER events_never_change
BEFORE UPDATE ON events
WHEN NOT (
    EXISTS (SELECT 1 FROM maintenance WHERE act = 'erase')
    AND new.payload IS NULL
    AND new.salt IS NULL
    AND (new.owner IS NULL OR new.owner IS old.owner)
    AND (new.previous_owner IS NULL OR new.previous_owner IS old.previous_owner)
    AND new.position = old.position
    AND new.job_id = old.job_id
    AND new.version = old.version
    AND new.type = old.type
    AND new.schema = old.schema
    AND new.at = old.at
    AND new.facts = old.facts
    AND new.payload_digest = old.payload_digest
    AND new.chain = old.chain
)
BEGIN
    SELECT raise(ABORT, 'an event never changes');
END;

CREATE TRIGGER events_never_go
BEFORE DELETE ON events
WHEN NOT EXISTS (SELECT 1 FROM maintenance WHERE act = 'archive')
BEGIN
    SELECT raise(ABORT, 'an event never goes');
END;

-- That a request was answered: an Idempotency-Key, who used it for what, and what the answer is built from.
CREATE TABLE marks (
    principal TEXT NOT NULL,
    scope TEXT NOT NULL,
    key TEXT NOT NULL CHECK (length(key) <= 255),
    digest TEXT NOT NULL,
    answer BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (principal, scope, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX marks_by_expiry ON marks (expires_at);

CREATE TABLE projection_rows (
    projection TEXT NOT NULL,
    key TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (projection, key)
) STRICT;

CREATE TABLE checkpoints (
    projection TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    position INTEGER NOT NULL CHECK (position >= 0)
) STRICT, WITHOUT ROWID;

-- Events that a projection could not take in. One that is not passed over parks its job: nothing of that job is taken in
-- from there on. One that an operator had passed over is left out of that projection for good.
CREATE TABLE parked (
    projection TEXT NOT NULL,
    position INTEGER NOT NULL CHECK (position > 0),
    job_id TEXT NOT NULL,
    failure TEXT NOT NULL,
    passed_over INTEGER NOT NULL CHECK (passed_over IN (0, 1)),
    PRIMARY KEY (projection, position)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX parked_jobs ON parked (projection, job_id) WHERE passed_over = 0;
