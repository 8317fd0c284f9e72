"""
The entries of the front ends' routes on jobs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobsvc.http import bodies, frames, samples, shapes
from jobsvc.http import entry as e
from jobsvc.http.catalogue.stream import STREAMED
from jobsvc.http.entry import Entry, Parameter, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

_JOB_LINKS: Final = {
    name: {"operationId": name, "parameters": {"id": "$response.body#/job/id"}}
    for name in ("readJob", "readJobEvents", "cancelJob", "retryJob", "cleanUpJob")
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
            e.AS_OF,
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
            e.AS_OF,
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
                STREAMED,
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
