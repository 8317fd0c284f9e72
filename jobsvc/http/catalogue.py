"""
The catalogue: for every route of the table, what a caller must know that its row does not say.

Facts only, as data: what a request may hold, what is answered when, and which problems may come. A route without its
entry fails the build. How an entry becomes a piece of the OpenAPI document is openapi.py's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobsvc.http import bodies, frames, samples, shapes
from jobsvc.http import entry as e
from jobsvc.http.bodies import SCHEMAS
from jobsvc.http.entry import Entry, Parameter, Reply
from jobsvc.resource import Id

if TYPE_CHECKING:
    from collections.abc import Mapping

_JOB_LINKS: Final = {
    name: {"operationId": name, "parameters": {"id": "$response.body#/job/id"}}
    for name in ("readJob", "readJobEvents", "cancelJob", "retryJob", "cleanUpJob")
}
_GRANTED: Final = {
    "parameters": {"id": "$response.body#/jobs/0/job/id"},
    "requestBody": {"lease_token": "$response.body#/jobs/0/lease_token"},
}
_CREATED: Final = Reply(
    "A new job.",
    shapes.CreateAnswer,
    samples.CREATED | {"deduplicated": False, "dedup_reason": None},
    headers=e.REPLAYED | {"Location": "The job's path.", "Preference-Applied": "`wait` if the answer was held."},
    links=_JOB_LINKS,
)
_ATTACHED: Final = Reply(
    "The job that does the same work, or its fresh result.",
    shapes.CreateAnswer,
    samples.CREATED,
    headers=e.REPLAYED | {"Preference-Applied": "`wait` if the answer was held."},
    links=_JOB_LINKS,
)
_FRAMES: Final = {"$ref": SCHEMAS + "StreamFrame"}
_STREAMED: Final = {
    "text/event-stream": {
        "schema": {
            "type": "string",
            "description": (
                "Frames of `event:`, `id:`, `retry:` and one `data:` line of JSON, each closed by an empty line; line "
                "feeds only. Each frame, read as `{event, id, data, retry}`, is a StreamFrame. Never an event named "
                "`error`, nor one without a name."
            ),
        },
        "x-item-schema": _FRAMES,
    },
    "application/x-ndjson": {
        "schema": {"type": "string", "description": "The same frames, one line of JSON each: a StreamFrame."},
        "x-item-schema": _FRAMES,
    },
}
_WHOLE: Final = Reply("The job as the report left it.", shapes.JobAnswer, {"job": samples.DONE})
_LEASE: Final = Reply("The lease goes on.", shapes.LeaseAnswer, samples.LEASE)
_TEXT: Final = {"schema": {"type": "string"}}

JOBS: Final[Mapping[tuple[str, str], Entry]] = {
    ("POST", "/api/jobs"): Entry(
        "createJob",
        "Jobs",
        {201: _CREATED, 200: _ATTACHED},
        bodies.CreateBody,
        samples.CREATE,
        (e.OWNER, e.IDEMPOTENCY_KEY, e.PREFER),
        ("duplicate-job", "idempotency-key-reused", "too-many-active"),
        more="With neither `url` nor `key` nothing is deduplicated; with both, `key` decides and `url` is kept.",
    ),
    ("GET", "/api/jobs"): Entry(
        "listJobs",
        "Jobs",
        {200: Reply("A page of jobs.", shapes.JobsAnswer, {"jobs": [samples.DONE], "next": None})},
        parameters=(
            e.STATE,
            e.KIND,
            e.KEY,
            e.OWNER,
            Parameter("limit", e.Limit, "How many at most; 500 unless a setting says otherwise.", 50),
            e.AFTER_JOB,
        ),
    ),
    ("POST", "/api/jobs/batch"): Entry(
        "createJobs",
        "Jobs",
        {
            200: Reply(
                "The results, in order.",
                shapes.BatchAnswer,
                {"results": [{"status": 200} | samples.CREATED]},
                headers=e.REPLAYED,
            )
        },
        bodies.BatchBody,
        {"jobs": [samples.CREATE]},
        (e.OWNER, e.IDEMPOTENCY_KEY),
        ("idempotency-key-reused",),
    ),
    ("GET", "/api/jobs/active"): Entry(
        "listActiveJobs",
        "Jobs",
        {200: Reply("The active jobs.", shapes.ActiveAnswer, {"jobs": [samples.JOB], "cursor": e.CURSOR})},
        parameters=(
            Parameter("url", str, "Jobs of this URL, in any spelling.", samples.JOB["url"]),
            e.KEY,
            e.KIND,
            e.OWNER,
            Parameter("limit", e.LongLimit, "How many at most; for viewers and operators.", 1_000),
            e.AFTER_JOB,
        ),
    ),
    ("POST", "/api/jobs/cleanup/{id}"): Entry(
        "cleanUpJob",
        "Jobs",
        {
            200: Reply(
                "It is off the list; harmless to repeat.",
                shapes.CleanupAnswer,
                {"success": True, "removed": False, "reason": "already_ended"},
            )
        },
        bodies.CancelBody,
        {"force": False},
        (e.OWNER, e.IF_MATCH),
        ("job-active", "version-mismatch"),
    ),
    ("GET", "/api/jobs/{id}"): Entry(
        "readJob",
        "Jobs",
        {
            200: Reply("The job.", shapes.JobAnswer, {"job": samples.JOB}, headers={"ETag": "Its version."}),
            304: Reply("The version is known.", headers={"ETag": "Its version."}),
        },
        parameters=(
            e.WAIT,
            Parameter("since", e.Digits, "With `wait_s`: the version that is known.", 3),
            e.OWNER,
            e.IF_NONE_MATCH,
        ),
        # Where the id is a word that stands in another path, such as batch.
        codes=("method-not-allowed",),
    ),
    ("GET", "/api/jobs/{id}/events"): Entry(
        "readJobEvents",
        "Jobs",
        {
            200: Reply(
                "The job's history; or its stream, for who accepts one.",
                shapes.EventsAnswer | frames.LongPollAnswer,
                {"events": [samples.EVENT], "next": None},
                _STREAMED,
            ),
            204: Reply("A stream was asked for from a cursor that has seen the job end."),
        },
        parameters=(e.AFTER_POSITION, e.LIMIT_EVENTS, e.WAIT, e.OWNER, e.LAST_EVENT_ID),
        more=(
            "With `Accept: text/event-stream` or `application/x-ndjson` the job's own stream, which ends with the job; "
            "`after` is then a cursor, and with `wait_s` the frames come as a long poll."
        ),
    ),
    ("POST", "/api/jobs/{id}/cancel"): Entry(
        "cancelJob",
        "Jobs",
        {
            200: Reply(
                "Cancelled, or ended already.",
                shapes.CancelAnswer,
                {"job": samples.CANCELLED, "cursor": e.CURSOR},
            ),
            202: Reply(
                "Its worker was asked to stop.",
                shapes.CancelAnswer,
                {"job": samples.JOB | {"state": "cancelling", "cancel_requested": True}, "cursor": e.CURSOR},
            ),
        },
        bodies.CancelBody,
        {"force": False, "reason": "no longer wanted"},
        (e.OWNER, e.IF_MATCH),
        ("version-mismatch",),
    ),
    ("POST", "/api/jobs/{id}/retry"): Entry(
        "retryJob",
        "Jobs",
        {201: _CREATED, 200: _ATTACHED},
        bodies.ReasonBody,
        {},
        (e.OWNER, e.IF_MATCH, e.IDEMPOTENCY_KEY),
        ("job-active", "version-mismatch", "idempotency-key-reused", "too-many-active"),
    ),
}

STREAM: Final[Mapping[tuple[str, str], Entry]] = {
    ("GET", "/api/stream"): Entry(
        "readStream",
        "Stream",
        {
            200: Reply("The frames.", frames.LongPollAnswer, samples.LONG_POLL, _STREAMED),
            204: Reply("The ticket was used, or has run out: what makes an EventSource stop asking."),
        },
        parameters=(
            Parameter("job", Id, "These jobs only, 100 at most.", e.JOB_ID, repeats=True),
            Parameter("kind", str, "Jobs of these kinds only.", "x-post", repeats=True),
            e.AFTER_CURSOR,
            e.WAIT,
            e.OWNER,
            e.LAST_EVENT_ID,
        ),
        codes=("not-found",),
        more=(
            "Server-sent events; lines of JSON with `Accept: application/x-ndjson`; a long poll with `wait_s`. A bad "
            "cursor is never an HTTP error: it is answered in band, by a `reset` and a fresh snapshot."
        ),
    ),
    ("POST", "/api/stream/tickets"): Entry(
        "createTicket",
        "Stream",
        {
            201: Reply(
                "Open the stream with it: `GET /api/stream?ticket=`.",
                shapes.TicketAnswer,
                {"ticket": "pk0lrJ2b0vB1", "expires_at": samples.JOB["lease_expires_at"]},
            )
        },
    ),
}

WORKERS: Final[Mapping[tuple[str, str], Entry]] = {
    ("POST", "/api/worker/claim"): Entry(
        "claimJobs",
        "Workers",
        {
            200: Reply(
                "What the worker was given.",
                shapes.ClaimAnswer,
                {"jobs": [samples.GRANT]},
                links={
                    name: _GRANTED | {"operationId": name}
                    for name in ("heartbeatJob", "reportProgress", "completeJob", "releaseJob")
                },
            ),
            204: Reply("No job came in time."),
        },
        bodies.ClaimBody,
        {"kinds": ["x-post"], "max": 1, "wait_s": 20, "worker": "w1"},
    ),
    ("POST", "/api/worker/reports"): Entry(
        "reportSeveral",
        "Workers",
        {200: Reply("The results, in order.", shapes.ReportsAnswer, {"results": [{"status": 200} | samples.LEASE]})},
        bodies.ReportsBody,
        {"reports": [{"report": "heartbeat", "job_id": e.JOB_ID, "lease_token": samples.LEASE_TOKEN}]},
    ),
    ("POST", "/api/worker/jobs/{id}/heartbeat"): Entry(
        "heartbeatJob",
        "Workers",
        {200: _LEASE},
        bodies.HeartbeatBody,
        {"lease_token": samples.LEASE_TOKEN},
        codes=("lease-lost",),
    ),
    ("POST", "/api/worker/jobs/{id}/progress"): Entry(
        "reportProgress",
        "Workers",
        {200: _LEASE},
        bodies.ProgressBody,
        {"lease_token": samples.LEASE_TOKEN, "percent": 40, "message": "reading replies"},
        codes=("lease-lost",),
    ),
    ("POST", "/api/worker/jobs/{id}/complete"): Entry(
        "completeJob",
        "Workers",
        {200: _WHOLE},
        bodies.CompleteBody,
        {"lease_token": samples.LEASE_TOKEN, "result": {"pages": 3}},
        codes=("lease-lost",),
    ),
    ("POST", "/api/worker/jobs/{id}/fail"): Entry(
        "failJob",
        "Workers",
        {200: _WHOLE},
        bodies.FailBody,
        {"lease_token": samples.LEASE_TOKEN, "error": {"code": "not-there", "message": "the post is gone"}},
        codes=("lease-lost",),
    ),
    ("POST", "/api/worker/jobs/{id}/release"): Entry(
        "releaseJob",
        "Workers",
        {200: _WHOLE},
        bodies.ReleaseBody,
        {"lease_token": samples.LEASE_TOKEN},
        codes=("lease-lost",),
    ),
}

SESSIONS: Final[Mapping[tuple[str, str], Entry]] = {
    ("POST", "/api/sessions/guest"): Entry(
        "openGuestSession",
        "Sessions",
        {
            201: Reply("A new guest.", shapes.SessionAnswer, samples.SESSION, headers={"Set-Cookie": "The session."}),
            200: Reply("The same one.", shapes.SessionAnswer, samples.SESSION, headers={"Set-Cookie": "The session."}),
        },
        codes=("access-denied", "slow-down"),
        proofs=("none", "bearer", "cookie"),
    ),
    ("POST", "/api/sessions/claim"): Entry(
        "claimGuest",
        "Sessions",
        {
            200: Reply(
                "What the guest had is the user's, and its token counts no more.",
                shapes.ClaimedAnswer,
                {"moved": 4, "merged": 1},
                headers={"Set-Cookie": "Takes the guest's session away, if the request brought it."},
            )
        },
        bodies.SessionClaimBody,
        {"guest_token": samples.SESSION["token"]},
        more=(
            "Each of the guest's jobs counts once: as merged if the user had an active one for the same work, else as "
            "moved. Of two for the same work the older stays, unless it is being cancelled already, and the other is "
            "cancelled for it (`superseded`). Ended jobs that have not moved within `handover_wait_max_s` follow soon "
            "after and are not counted. A `guest_token` that is spent or no guest's is refused with 422."
        ),
    ),
    ("POST", "/api/sessions/link"): Entry(
        "spendLink",
        "Sessions",
        {201: Reply("An operator's token.", shapes.LinkAnswer, {"token": samples.SESSION["token"]})},
        bodies.LinkBody,
        {"code": "w1Yk0m3v"},
        codes=("unauthenticated",),
    ),
}

OPERATORS: Final[Mapping[tuple[str, str], Entry]] = {
    ("GET", "/api/log"): Entry(
        "readLog",
        "Operators",
        {
            200: Reply(
                "A page of the log, oldest first.",
                shapes.EventsAnswer,
                {"events": [samples.EVENT], "next": 1841},
                {
                    "application/x-ndjson": {
                        "schema": {"type": "string", "description": "An event a line."},
                        "x-item-schema": {"$ref": SCHEMAS + "EventResource"},
                    }
                },
            )
        },
        parameters=(
            e.AFTER_PLACE,
            e.LIMIT_EVENTS,
            Parameter("job", Id, "Events of this job only.", e.JOB_ID),
            e.EVENT_TYPE,
        ),
    ),
    ("GET", "/api/log/head"): Entry(
        "readHead",
        "Operators",
        {
            200: Reply(
                "The end of the log.",
                shapes.HeadAnswer,
                {"position": 1841, "chain": samples.EVENT["chain"], "epoch": "5f0c1a9b"},
            )
        },
    ),
    ("GET", "/api/streams"): Entry(
        "readStreams",
        "Operators",
        {
            200: Reply(
                "The sums, and those furthest behind.",
                shapes.StreamsAnswer,
                {
                    "open": 1,
                    "by_transport": {"sse": 1},
                    "by_state": {"live": 1},
                    "lag_max": 0,
                    "catch_ups": 0,
                    "resets": {},
                    "byes": {},
                    "cuts": 0,
                    "bytes": 5120,
                    "streams": [
                        {
                            "principal": "user:ann",
                            "transport": "sse",
                            "state": "live",
                            "position": 1841,
                            "lag": 0,
                            "buffered_bytes": 0,
                            "age_s": 12.5,
                        }
                    ],
                },
            )
        },
    ),
    ("GET", "/api/projections"): Entry(
        "readProjections",
        "Operators",
        {
            200: Reply(
                "How far each view is.",
                shapes.ProjectionsAnswer,
                {
                    "projections": [
                        {
                            "name": "active",
                            "version": 1,
                            "inline": True,
                            "position": 1841,
                            "lag": 0,
                            "failure": None,
                        }
                    ],
                    "head": 1841,
                },
            )
        },
    ),
    ("POST", "/api/projections/{name}/rebuild"): Entry(
        "rebuildProjection",
        "Operators",
        {
            200: Reply("Made anew.", shapes.RebuildAnswer, {"projection": "active", "rows": 12, "position": 1841}),
            202: Reply("Begun.", shapes.RebuildBegun, {"projection": "counts"}),
        },
    ),
    ("POST", "/api/operator/revoke"): Entry(
        "revokeTokens",
        "Operators",
        {
            200: Reply(
                "They count no more, and the streams that they opened end.",
                shapes.RevokeAnswer,
                {"revoked": "user:17", "kept_until": samples.SESSION["expires_at"]},
            )
        },
        bodies.RevokeBody,
        {"subject": "user:17", "reason": "a stolen phone"},
    ),
    ("GET", "/healthz"): Entry(
        "readHealth", "Operators", {200: Reply("It lives.", shapes.HealthAnswer, {"status": "alive"})}
    ),
    ("GET", "/readyz"): Entry(
        "readReadiness",
        "Operators",
        {200: Reply("It takes work.", shapes.ReadyAnswer, {"status": "ready"})},
        codes=("unavailable", "draining"),
    ),
    ("GET", "/metrics"): Entry(
        "readMetrics",
        "Operators",
        {200: Reply("The metrics, as Prometheus reads them.", others={"text/plain": _TEXT})},
        codes=("unauthenticated", "access-denied"),
        proofs=("bearer", "none"),
        more="For viewers and operators, unless the setting `metrics_open` says otherwise.",
    ),
}

PAGES: Final[Mapping[tuple[str, str], Entry]] = {
    ("GET", "/"): Entry("readHome", "Pages", {200: Reply("The page.", others={"text/html": _TEXT})}),
    ("GET", "/home.js"): Entry("readHomeScript", "Pages", {200: Reply("Script.", others={"text/javascript": _TEXT})}),
    ("GET", "/home.css"): Entry("readHomeStyle", "Pages", {200: Reply("Style.", others={"text/css": _TEXT})}),
    ("GET", "/openapi.json"): Entry(
        "readDocument",
        "Pages",
        {
            200: Reply(
                "The document.", others={e.JSON: {"schema": {"type": "object"}}}, headers={"ETag": "Its digest."}
            ),
            304: Reply("It is known.", headers={"ETag": "Its digest."}),
        },
    ),
    ("GET", "/docs"): Entry("readReference", "Pages", {200: Reply("The page.", others={"text/html": _TEXT})}),
    ("GET", "/docs.css"): Entry("readReferenceStyle", "Pages", {200: Reply("Style.", others={"text/css": _TEXT})}),
}

CATALOGUE: Final[Mapping[tuple[str, str], Entry]] = {**JOBS, **STREAM, **WORKERS, **SESSIONS, **OPERATORS, **PAGES}
"""Every entry, by the route that it is about."""
