-- Step 2: the archive. Streams of jobs that ended long ago, as segments: compressed, chained, read through.
-- They lie in the database itself, so that moving a stream there is one transaction, and a copy of the file has all.

-- The manifest and the bodies. Only an erasure changes a body, and nothing that the chain of the manifest is over.
CREATE TABLE segments (
    number INTEGER PRIMARY KEY CHECK (number > 0),
    first_position INTEGER NOT NULL CHECK (first_position > 0),
    last_position INTEGER NOT NULL CHECK (last_position >= first_position),
    events INTEGER NOT NULL CHECK (events > 0),
    archived_at INTEGER NOT NULL,
    content BLOB NOT NULL CHECK (length(content) = 32),
    chain BLOB NOT NULL CHECK (length(chain) = 32),
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    body BLOB NOT NULL
) STRICT;

-- Segments overlap as jobs do: a page of the log needs those that begin before it ends and end after it begins.
CREATE INDEX segments_by_first ON segments (first_position, last_position);

CREATE INDEX segments_by_last ON segments (last_position);

-- Where a job's stream lies, or parts of it, and whose the job is now; nobody's once it was erased.
CREATE TABLE archived_jobs (
    job_id TEXT NOT NULL,
    segment INTEGER NOT NULL REFERENCES segments (number),
    owner TEXT,
    PRIMARY KEY (job_id, segment)
) STRICT, WITHOUT ROWID;

-- Ends with the job, so that an owner's jobs come in order.
CREATE INDEX archived_jobs_by_owner ON archived_jobs (owner) WHERE owner IS NOT NULL;

CREATE TRIGGER segments_never_change
BEFORE UPDATE ON segments
WHEN NOT (
    EXISTS (SELECT 1 FROM maintenance WHERE act = 'erase')
    AND new.number = old.number
    AND new.first_position = old.first_position
    AND new.last_position = old.last_position
    AND new.events = old.events
    AND new.archived_at = old.archived_at
    AND new.content = old.content
    AND new.chain = old.chain
)
BEGIN
    SELECT raise(ABORT, 'a segment never changes');
END;

CREATE TRIGGER segments_never_go
BEFORE DELETE ON segments
BEGIN
    SELECT raise(ABORT, 'a segment never goes');
END;
