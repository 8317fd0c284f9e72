-- Every statement of the SQLite engine, in named blocks: a name, a line of description, the statement.
-- Parameters by name; a list comes as one JSON parameter. Three marks are filled in when a block is asked for:
--   {rows}    so many rows of values as are written at once, by place (one step for all of them)
--   {table}   a view or its shadow
--   {packed}  the block of that name


-- == The views ======================================================================================================

-- name: create_active
-- The active jobs as they stand. No row can outlive its job: a terminal state is refused. OR, not IN: of more than two
-- values SQLite makes a table to look in, anew for each row that it checks.
CREATE TABLE {table} (
    job_id TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (
        state = 'queued' OR state = 'running' OR state = 'scheduled' OR state = 'retrying' OR state = 'cancelling'
    ),
    body BLOB NOT NULL
) STRICT;

-- name: create_keys
-- Which active job holds which key: one, always. The key comes first, since keys of one time are near each other and
-- owners are not, and each page that a batch touches is written to the log.
CREATE TABLE {table} (
    job_id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    UNIQUE (key, kind, owner)
) STRICT, WITHOUT ROWID;

-- name: create_history
-- How to find a job that has ended; job ids rise with time. No row can come before the end: an active state is refused,
-- and the states stand in the order in which rows come.
CREATE TABLE {table} (
    job_id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    kind TEXT NOT NULL,
    key TEXT,
    state TEXT NOT NULL CHECK (
        state = 'completed' OR state = 'failed' OR state = 'cancelled' OR state = 'expired'
    ),
    created_at INTEGER NOT NULL,
    finished_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- name: create_history_by_owner
-- For an owner's list, newest first.
CREATE INDEX history_{side}_by_owner ON {table} (owner, job_id);

-- name: create_history_by_key
-- For the list of a key, newest first.
CREATE INDEX history_{side}_by_key ON {table} (key, job_id) WHERE key IS NOT NULL;

-- name: create_history_completed
-- For the newest result of a key, which comes first, as in keys.
CREATE INDEX history_{side}_completed ON {table} (key, kind, owner, finished_at) WHERE state = 'completed';

-- name: index_in_use
-- Whether the indexes of that side belong to the live history, so that its shadow takes the other side's names.
SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'history' AND name = :name;

-- name: drop_table
-- The table is gone.
DROP TABLE IF EXISTS {table};

-- name: set_aside
-- The view is out of the way of its shadow.
ALTER TABLE {table} RENAME TO {table}_before;

-- name: swap_table
-- The shadow has the name of the view.
ALTER TABLE {table}_shadow RENAME TO {table};

-- name: has_live_after
-- Whether any event above a position is not archived.
SELECT EXISTS (SELECT 1 FROM events WHERE position > :after);

-- name: has_table
-- Whether there is that table.
SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = :name;

-- name: indexes_of
-- The indexes that were made for a table.
SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = :name AND sql IS NOT NULL;

-- name: drop_index
-- The index is gone.
DROP INDEX {table};

-- name: clear_some
-- Some rows of a table that is on its way out: dropping all of a large one at once keeps the writer waiting.
DELETE FROM {table} WHERE job_id IN (SELECT job_id FROM {table} LIMIT :limit);

-- name: count_rows
-- How many rows a view has.
SELECT count(*) FROM {table};


-- == Opening ========================================================================================================

-- name: schema_version
-- Which steps this file has been through.
PRAGMA user_version;

-- name: count_tables
-- Whether the file holds anything at all.
SELECT count(*) FROM sqlite_schema;

-- name: head
-- The end of the log.
SELECT position, chain, at, epoch FROM head;

-- name: standing
-- Whether the log is open, being loaded, or sealed.
SELECT standing FROM head;

-- name: last_event
-- The last event, to compare with the head.
SELECT position, chain FROM events ORDER BY position DESC LIMIT 1;

-- name: last_archived
-- The segment that holds the newest of all archived events.
SELECT number, digest, body FROM segments ORDER BY last_position DESC LIMIT 1;

-- name: all_active
-- Every active job.
SELECT body FROM active ORDER BY job_id;

-- name: all_keys
-- Every key that is held.
SELECT job_id, owner, kind, key FROM keys;


-- == Appending ======================================================================================================

-- name: advance_head
-- The head moves from where the caller decided to where its batch ends; changes no row if it has moved already.
UPDATE head SET position = :position, chain = :chain, at = :at WHERE position = :decided_at;

-- name: insert_events
-- Events at the end of the log.
INSERT INTO events
(position, job_id, version, type, schema, at, owner, facts, payload, salt, payload_digest, chain, previous_owner)
VALUES {rows:13};

-- name: put_active
-- Rows of active, new or instead of the ones before.
INSERT INTO {table} (job_id, position, state, body)
VALUES {rows:4}
ON CONFLICT (job_id) DO UPDATE SET position = excluded.position, state = excluded.state, body = excluded.body;

-- name: put_keys
-- Rows of keys, new or instead of the ones before; a second holder of a key is refused.
INSERT INTO {table} (job_id, owner, kind, key)
VALUES {rows:4}
ON CONFLICT (job_id) DO UPDATE SET owner = excluded.owner, kind = excluded.kind, key = excluded.key;

-- name: put_history
-- Rows of history, new or instead of the ones before.
INSERT INTO {table} (job_id, owner, kind, key, state, created_at, finished_at)
VALUES {rows:7}
ON CONFLICT (job_id) DO UPDATE SET
    owner = excluded.owner, kind = excluded.kind, key = excluded.key, state = excluded.state,
    created_at = excluded.created_at, finished_at = excluded.finished_at;

-- name: put_marks
-- Marks, new or instead of expired ones.
INSERT INTO marks (principal, scope, key, digest, answer, expires_at)
VALUES {rows:6}
ON CONFLICT (principal, scope, key) DO UPDATE SET
    digest = excluded.digest, answer = excluded.answer, expires_at = excluded.expires_at;

-- name: drop_rows
-- Rows of a view, by job.
DELETE FROM {table} WHERE job_id IN (VALUES {rows:1});

-- name: forget_marks
-- Some of the marks that had expired by then.
DELETE FROM marks WHERE (principal, scope, key) IN (
    SELECT principal, scope, key FROM marks WHERE expires_at <= :expired_at LIMIT :limit
);


-- == Reading events =================================================================================================
-- A page comes as one row, its events packed one after the other: each step of SQLite gives up and takes back the
-- interpreter's lock, which under a busy event loop costs up to 5 ms, and a page of 2,000 rows would pay that 2,000 times.

-- name: packed
-- One event in a page, behind its place: a list of JSON that ends with a line feed, with the lengths in bytes of facts and
-- payload, then both.
concat_ws(
    ',', e.position, json_quote(e.job_id), e.version, json_quote(e.type), e.schema, e.at, octet_length(e.facts),
    coalesce(octet_length(e.payload), -1)
) || ']' || char(10) || e.facts || coalesce(e.payload, '')

-- name: size
-- How many bytes of one event grow with what its caller sent; read off the row's header, however large it is.
octet_length(e.facts) + coalesce(octet_length(e.payload), 0)

-- name: page_end
-- Where a page of the sized events ends: a large one is the last of its page, so that a page is bounded in bytes too.
SELECT max(position) FROM (SELECT position, sum(size) OVER (ORDER BY position) - size AS before FROM sized)
WHERE before < :bytes_max

-- name: archived_through
-- The position of the newest event in any segment, 0 for none.
SELECT coalesce(max(last_position), 0) FROM segments

-- name: events_of_log
-- A page of the log.
WITH sized AS (
    SELECT e.position AS position, {size} AS size
    FROM events AS e
    WHERE e.position > :after AND e.position <= :until
    ORDER BY e.position
    LIMIT :limit
)
SELECT CAST(group_concat(line, '') AS BLOB), ({archived_through}) FROM (
    SELECT '[0,' || {packed} AS line
    FROM events AS e
    WHERE e.position > :after AND e.position <= ({page_end})
    ORDER BY e.position
);

-- name: events_of_owner
-- A page of what happened under one owner, and of what took a job away from it.
WITH happened AS (
    SELECT e.position AS position
    FROM events AS e INDEXED BY events_by_owner
    WHERE e.owner = :owner AND e.position > :after AND e.position <= :until
    ORDER BY e.position
    LIMIT :limit
),
moved AS (
    SELECT e.position AS position
    FROM events AS e INDEXED BY events_by_previous_owner
    WHERE e.previous_owner = :owner AND e.position > :after AND e.position <= :until
    ORDER BY e.position
    LIMIT :limit
),
sized AS (
    SELECT e.position AS position, {size} AS size
    FROM (SELECT position FROM happened UNION SELECT position FROM moved) AS seen
    CROSS JOIN events AS e ON e.position = seen.position
    ORDER BY e.position
    LIMIT :limit
)
SELECT CAST(group_concat(line, '') AS BLOB), ({archived_through}) FROM (
    SELECT '[0,' || {packed} AS line
    FROM sized AS s CROSS JOIN events AS e ON e.position = s.position
    WHERE s.position <= ({page_end})
    ORDER BY s.position
);

-- name: events_of_job
-- A page of one job's stream, all of it or what happened under one owner or took it away from that.
WITH sized AS (
    SELECT e.position AS position, {size} AS size
    FROM events AS e
    WHERE
        e.job_id = :job_id AND e.position > :after AND e.position <= :until
        AND (:owner IS NULL OR e.owner = :owner OR e.previous_owner = :owner)
    ORDER BY e.version
    LIMIT :limit
)
SELECT CAST(group_concat(line, '') AS BLOB), ({archived_through}) FROM (
    SELECT '[0,' || {packed} AS line
    FROM events AS e
    WHERE
        e.job_id = :job_id AND e.position > :after AND e.position <= ({page_end})
        AND (:owner IS NULL OR e.owner = :owner OR e.previous_owner = :owner)
    ORDER BY e.version
);

-- name: streams
-- What folds to each of [[job, version or null], ...]: the states up to that version, and the last progress before it.
-- Nothing above the position until; it is the rowid, so that the index tells it and no later row is fetched.
-- With it: where parts of these streams are archived, as [[place, segment], ...].
SELECT
    CAST(group_concat(line, '' ORDER BY place, version) AS BLOB),
    (
        SELECT json_group_array(json_array(w.key, a.segment))
        FROM json_each(:wanted) AS w CROSS JOIN archived_jobs AS a ON a.job_id = w.value ->> 0
    )
FROM (
    SELECT w.key AS place, e.version AS version, '[' || w.key || ',' || {packed} AS line
    FROM json_each(:wanted) AS w
    CROSS JOIN events AS e INDEXED BY events_without_progress ON e.job_id = w.value ->> 0
    WHERE
        e.type <> 'job.progressed' AND e.version <= coalesce(w.value ->> 1, 9223372036854775807)
        AND e.position <= :until
    UNION ALL
    SELECT w.key AS place, e.version AS version, '[' || w.key || ',' || {packed} AS line
    FROM json_each(:wanted) AS w
    CROSS JOIN events AS e ON e.position = (
        SELECT p.position
        FROM events AS p
        WHERE
            p.job_id = w.value ->> 0 AND p.type = 'job.progressed'
            AND p.version <= coalesce(w.value ->> 1, 9223372036854775807) AND p.position <= :until
        ORDER BY p.version DESC
        LIMIT 1
    )
);

-- name: records
-- A page of the log, byte for byte.
SELECT position, job_id, version, type, schema, at, owner, facts, payload, salt, payload_digest, chain, previous_owner
FROM events
WHERE position > :after AND (:type IS NULL OR type = :type)
ORDER BY position
LIMIT :limit;

-- name: records_of_job
-- A page of a job's stream, byte for byte; + keeps the planner on the job's own index.
SELECT position, job_id, version, type, schema, at, owner, facts, payload, salt, payload_digest, chain, previous_owner
FROM events
WHERE job_id = :job_id AND +position > :after AND (:type IS NULL OR type = :type)
ORDER BY version
LIMIT :limit;

-- name: records_by_stream
-- A page of the log in the order of its jobs, byte for byte, above one version of one job.
SELECT position, job_id, version, type, schema, at, owner, facts, payload, salt, payload_digest, chain, previous_owner
FROM events
WHERE (job_id, version) > (:job_id, :version) AND position <= :until
ORDER BY job_id, version
LIMIT :limit;


-- == Looking up =====================================================================================================

-- name: find_marks
-- The marks under [[principal, scope, key], ...].
SELECT m.principal, m.scope, m.key, m.digest, m.answer, m.expires_at
FROM json_each(:wanted) AS w
CROSS JOIN marks AS m ON m.principal = w.value ->> 0 AND m.scope = w.value ->> 1 AND m.key = w.value ->> 2;

-- name: marks_of
-- The marks of one principal that have not expired, in the order of their scopes.
SELECT principal, scope, key, digest, answer, expires_at
FROM marks
WHERE principal = :principal AND expires_at > :now
ORDER BY scope, key
LIMIT :limit;

-- name: find_history
-- The history rows of [job, ...].
SELECT h.job_id, h.owner, h.kind, h.key, h.state, h.created_at, h.finished_at
FROM json_each(:wanted) AS w CROSS JOIN history AS h ON h.job_id = w.value;

-- name: find_completed
-- For each of [[owner, kind, key], ...] its place in the list and the job of that key that completed last.
SELECT
    w.key,
    (
        SELECT h.job_id
        FROM history AS h
        WHERE h.owner = w.value ->> 0 AND h.kind = w.value ->> 1 AND h.key = w.value ->> 2 AND h.state = 'completed'
        ORDER BY h.finished_at DESC, h.job_id DESC
        LIMIT 1
    )
FROM json_each(:wanted) AS w;

-- name: find_reports
-- For each of [[job, verb, fence, digest], ...] its place in the list and the version that this report made. A late result
-- is no such version: the answer it got was that the lease is lost, and it gets that again.
SELECT w.key, min(e.version)
FROM json_each(:wanted) AS w
CROSS JOIN events AS e INDEXED BY events_without_progress ON e.job_id = w.value ->> 0
WHERE
    e.type <> 'job.progressed' AND e.type <> 'job.late_result'
    AND e.facts ->> '$.report.verb' = w.value ->> 1
    AND e.facts ->> '$.report.fence' = w.value ->> 2
    AND e.facts ->> '$.report.digest' = w.value ->> 3
GROUP BY w.key;


-- == Reading views ==================================================================================================
-- A history that was made by an earlier version holds active jobs too, without an end: they are passed over here, and
-- each becomes a row like the others when its job ends.

-- name: history_of_all
-- Ended jobs, newest first.
SELECT job_id, owner, kind, key, state, created_at, finished_at
FROM history
WHERE
    finished_at IS NOT NULL AND job_id < :before AND (:kind IS NULL OR kind = :kind)
    AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
ORDER BY job_id DESC
LIMIT :limit;

-- name: history_of_owner
-- Ended jobs of one owner, newest first.
SELECT job_id, owner, kind, key, state, created_at, finished_at
FROM history
WHERE
    finished_at IS NOT NULL AND owner = :owner AND job_id < :before AND (:kind IS NULL OR kind = :kind)
    AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
ORDER BY job_id DESC
LIMIT :limit;

-- name: history_of_key
-- Ended jobs of one key, newest first.
SELECT job_id, owner, kind, key, state, created_at, finished_at
FROM history
WHERE
    finished_at IS NOT NULL AND key = :key AND job_id < :before AND (:kind IS NULL OR kind = :kind)
    AND (:owner IS NULL OR owner = :owner)
    AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
ORDER BY job_id DESC
LIMIT :limit;

-- name: view_active
-- A page of active, as stored.
SELECT job_id, position, state, body FROM active WHERE job_id > :after AND job_id <= :through ORDER BY job_id LIMIT :limit;

-- name: view_keys
-- A page of keys, as stored.
SELECT job_id, owner, kind, key FROM keys WHERE job_id > :after AND job_id <= :through ORDER BY job_id LIMIT :limit;

-- name: view_history
-- A page of history, as stored.
SELECT job_id, owner, kind, key, state, created_at, finished_at
FROM history
WHERE finished_at IS NOT NULL AND job_id > :after AND job_id <= :through
ORDER BY job_id
LIMIT :limit;


-- name: rows_of_active
-- The rows of [job, ...].
SELECT t.job_id, t.position, t.state, t.body
FROM json_each(:wanted) AS w CROSS JOIN {table} AS t ON t.job_id = w.value;

-- name: rows_of_keys
-- The rows of [job, ...].
SELECT t.job_id, t.owner, t.kind, t.key FROM json_each(:wanted) AS w CROSS JOIN {table} AS t ON t.job_id = w.value;

-- name: rows_of_history
-- The rows of [job, ...].
SELECT t.job_id, t.owner, t.kind, t.key, t.state, t.created_at, t.finished_at
FROM json_each(:wanted) AS w CROSS JOIN {table} AS t ON t.job_id = w.value;


-- == Catch-up projections ===========================================================================================

-- name: find_rows
-- A projection's rows under [key, ...].
SELECT r.key, r.body
FROM json_each(:wanted) AS w CROSS JOIN projection_rows AS r ON r.projection = :projection AND r.key = w.value;

-- name: put_rows
-- Rows of projections, new or instead of the ones before.
INSERT INTO projection_rows (projection, key, body)
VALUES {rows:3}
ON CONFLICT (projection, key) DO UPDATE SET body = excluded.body;

-- name: drop_projection_rows
-- A projection's rows under [key, ...] are gone.
DELETE FROM projection_rows WHERE projection = :projection AND key IN (SELECT value FROM json_each(:wanted));

-- name: drop_all_projection_rows
-- All rows of a projection are gone.
DELETE FROM projection_rows WHERE projection = :projection;

-- name: parked
-- What a projection could not take in.
SELECT projection, position, job_id, failure, passed_over FROM parked WHERE projection = :projection ORDER BY position;

-- name: free_parked
-- Events of [position, ...] are not parked any more.
DELETE FROM parked WHERE projection = :projection AND position IN (SELECT value FROM json_each(:wanted));

-- name: put_parked
-- Events that a projection could not take in.
INSERT INTO parked (projection, position, job_id, failure, passed_over)
VALUES {rows:5};

-- name: drop_parked
-- A projection has nothing parked.
DELETE FROM parked WHERE projection = :projection;

-- name: checkpoint
-- How far a projection is.
SELECT version, position FROM checkpoints WHERE projection = :projection;

-- name: put_checkpoint
-- A projection is that far.
INSERT INTO checkpoints (projection, version, position)
VALUES (:projection, :version, :position)
ON CONFLICT (projection) DO UPDATE SET version = excluded.version, position = excluded.position;

-- name: drop_checkpoint
-- A projection has not begun.
DELETE FROM checkpoints WHERE projection = :projection;

-- name: rename_rows
-- The rows of one projection are the other's.
UPDATE projection_rows SET projection = :projection WHERE projection = :beside;

-- name: rename_parked
-- What one projection has parked, the other has.
UPDATE parked SET projection = :projection WHERE projection = :beside;

-- name: rename_checkpoint
-- One projection is where the other was.
UPDATE checkpoints SET projection = :projection WHERE projection = :beside;

-- name: all_checkpoints
-- How far each projection is, and how many rows it keeps.
SELECT
    c.projection, c.version, c.position,
    (SELECT count(*) FROM projection_rows AS r WHERE r.projection = c.projection)
FROM checkpoints AS c;


-- == Carrying a log =================================================================================================

-- name: begin_load
-- The log is being loaded; changes no row if there is something in it that no broken load left there.
UPDATE head SET standing = 'loading'
WHERE standing = 'loading' OR (standing = 'open' AND position = 0 AND NOT EXISTS (SELECT 1 FROM marks));

-- name: advance_load
-- The head moves to where a loaded page ends.
UPDATE head SET position = :position, chain = :chain, at = :at WHERE standing = 'loading' AND position = :loaded_to;

-- name: end_load
-- The log is open, under its own epoch or the one that it brought.
UPDATE head SET standing = 'open', epoch = coalesce(:epoch, epoch) WHERE standing = 'loading';

-- name: seal
-- Nothing is appended under this epoch any more, here.
UPDATE head SET standing = 'sealed' WHERE standing = 'open';

-- name: begin_epoch
-- The log is another one from here on.
UPDATE head SET epoch = lower(hex(randomblob(8))), standing = 'open';

-- name: all_marks
-- Every mark, in one order for ever.
SELECT principal, scope, key, digest, answer, expires_at FROM marks ORDER BY principal, scope, key;

-- name: vacuum_into
-- The whole database as of one moment, in a file of its own.
VACUUM INTO :path;

-- name: look_only
-- Writes are refused again.
PRAGMA query_only = ON;

-- name: look_and_copy
-- A copy counts as a write, though the file itself was opened to be read only.
PRAGMA query_only = OFF;

-- name: integrity
-- What SQLite finds wrong with the file: one row, ok, if nothing.
PRAGMA integrity_check(1);

-- name: leave_wal
-- The database is one file.
PRAGMA journal_mode = DELETE;

-- name: page_count
-- How many pages the database has.
PRAGMA page_count;

-- name: page_size
-- How many bytes each of them has.
PRAGMA page_size;


-- == The archive ====================================================================================================

-- name: segments_between
-- The segments that a page after one position and up to another may be read from; who begins first comes first.
SELECT first_position, number, digest, body
FROM segments INDEXED BY segments_by_first
WHERE first_position <= :until AND last_position > :after
ORDER BY first_position, number;

-- name: segments_of_job
-- The same, of those that hold some of one job's stream.
SELECT s.first_position, s.number, s.digest, s.body
FROM archived_jobs AS a CROSS JOIN segments AS s ON s.number = a.segment
WHERE a.job_id = :job_id AND s.first_position <= :until AND s.last_position > :after
ORDER BY s.first_position, s.number;

-- name: find_parts
-- For each of [job, ...] its place in the list and the segments that hold some of its stream.
SELECT w.key, a.segment FROM json_each(:wanted) AS w CROSS JOIN archived_jobs AS a ON a.job_id = w.value;

-- name: find_segments
-- The bodies of [segment, ...].
SELECT s.number, s.digest, s.body FROM json_each(:wanted) AS w CROSS JOIN segments AS s ON s.number = w.value;

-- name: manifest
-- A page of the manifest.
SELECT number, first_position, last_position, events, archived_at, content, chain, digest
FROM segments
WHERE number > :after
ORDER BY number
LIMIT :limit;

-- name: last_segment
-- The end of the manifest.
SELECT number, chain FROM segments ORDER BY number DESC LIMIT 1;

-- name: find_archived
-- Those of [job, ...] that have some of their stream in a segment.
SELECT DISTINCT a.job_id FROM json_each(:wanted) AS w CROSS JOIN archived_jobs AS a ON a.job_id = w.value;

-- name: archived_from
-- Where the streams of one job and all that follow it, up to another if that is named, lie.
SELECT job_id, segment FROM archived_jobs
WHERE job_id >= :job_id AND (:last IS NULL OR job_id <= :last)
ORDER BY job_id, segment;

-- name: archived_of_owner
-- A page of the archived jobs of one owner.
SELECT DISTINCT job_id FROM archived_jobs WHERE owner = :owner AND job_id > :after ORDER BY job_id LIMIT :limit;

-- name: may_be_archived
-- In a stretch of the log: how far it goes, and the jobs that have ended and whose newest event is not above until, each
-- with its first position there, its newest version and its owner.
WITH stretch AS MATERIALIZED (
    SELECT position, job_id FROM events WHERE position > :after AND position <= :until ORDER BY position LIMIT :limit
),
jobs AS (SELECT job_id, min(position) AS first_position FROM stretch GROUP BY job_id)
SELECT (SELECT max(position) FROM stretch), j.job_id, j.first_position, e.version, e.owner
FROM jobs AS j
CROSS JOIN events AS e ON e.job_id = j.job_id AND e.version = (SELECT max(version) FROM events WHERE job_id = j.job_id)
WHERE
    e.position <= :until
    AND NOT EXISTS (SELECT 1 FROM active AS a WHERE a.job_id = j.job_id)
UNION ALL
SELECT (SELECT max(position) FROM stretch), NULL, NULL, NULL, NULL
ORDER BY 3;

-- name: count_settled
-- How many of [[job, version], ...] still end with that version.
SELECT count(*)
FROM json_each(:wanted) AS w
WHERE (SELECT max(version) FROM events WHERE job_id = w.value ->> 0) = w.value ->> 1;

-- name: open_door
-- The guarded way to the events is open for this act, until the door is closed in the same transaction.
INSERT INTO maintenance (act) VALUES (:act);

-- name: close_door
-- Nothing can be changed any more.
DELETE FROM maintenance;

-- name: drop_archived
-- The events at [position, ...] lie in a segment now.
DELETE FROM events WHERE position IN (SELECT value FROM json_each(:positions));

-- name: put_segment
-- A segment at the end of the manifest.
INSERT INTO segments (number, first_position, last_position, events, archived_at, content, chain, digest, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: put_archived_jobs
-- Where streams lie, and whose they are.
INSERT INTO archived_jobs (job_id, segment, owner)
VALUES {rows:3};

-- name: set_archived_owner
-- An archived job is another's, or nobody's any more.
UPDATE archived_jobs SET owner = ? WHERE job_id = ?;


-- == Erasing ========================================================================================================

-- name: erase_stream
-- What may have to be forgotten is gone from the events of one job; that it was erased stays said.
UPDATE events SET payload = NULL, salt = NULL, owner = NULL, previous_owner = NULL
WHERE job_id = :job_id AND type <> 'job.erased' AND (payload IS NOT NULL OR owner IS NOT NULL);

-- name: forget_answers
-- The marks of requests whose answers show one of [job, ...].
DELETE FROM marks WHERE scope = 'request' AND EXISTS (
    SELECT 1 FROM json_each(:wanted) AS w WHERE instr(marks.answer, CAST(w.value AS BLOB)) > 0
);

-- name: segments_with
-- The segments that hold some of one job's stream.
SELECT s.number, s.digest, s.body
FROM archived_jobs AS a CROSS JOIN segments AS s ON s.number = a.segment
WHERE a.job_id = :job_id;

-- name: renew_segment
-- A segment has another body, of the same events.
UPDATE segments SET digest = :digest, body = :body WHERE number = :number;

-- name: forget_principal
-- The marks of requests that somebody made are gone, and nobody is named as whom a guest became.
DELETE FROM marks WHERE scope = 'request' AND principal = :principal;

-- name: forget_claimant
-- That a guest is spent stays; who it became is not said any more.
UPDATE marks SET answer = CAST('erased' AS BLOB) WHERE scope = 'claimed' AND answer = CAST(:principal AS BLOB);


-- == Housekeeping ===================================================================================================

-- name: copy_wal_back
-- What of the write-ahead log no reader needs is copied into the database.
PRAGMA wal_checkpoint(PASSIVE);

-- name: truncate_wal
-- The write-ahead log is copied into the database and is empty, unless a reader still needs it (first column 1).
PRAGMA wal_checkpoint(TRUNCATE);
