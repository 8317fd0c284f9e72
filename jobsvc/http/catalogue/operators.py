"""
The entries of what operators and monitors read and do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from msgspec import Meta

from jobsvc.http import bodies, samples, shapes
from jobsvc.http import entry as e
from jobsvc.http.bodies import SCHEMAS
from jobsvc.http.entry import Entry, Parameter, Reply
from jobsvc.resource import Id

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOMENT: Final = "2026-11-24T06:46:39.000000Z"
_LENGTHS: Final = {"count": 2, "mean_s": 0.25, "p50_s": 0.2, "p95_s": 0.4, "max_s": 0.4}
_STEP: Final = {
    "at": _MOMENT,
    "events": {"job.started": 2, "job.completed": 2},
    "avoided": 1,
    "waits": _LENGTHS,
    "runs": _LENGTHS,
    "levels": {"streams_max": 3, "stream_lag_max": 0, "projection_lag_max": 2},
}
_TEXT: Final = {"schema": {"type": "string"}}


def act_reply(says: str, shape: Any, example: Any) -> Reply:  # noqa: ANN401  # a record, and an instance of it
    """The answer of a verb that may take long: as JSON when it has ended, or as lines that say how far it is."""
    says_lines = "Lines with `verb`, `done` and `of` while it is under way, and last one with `result` or `problem`."
    members = {
        "verb": {"type": "string"},
        "done": {"type": "integer"},
        "of": {"type": "integer"},
        "result": {"$ref": SCHEMAS + shape.__name__},
        "problem": {"$ref": SCHEMAS + "Problem"},
    }
    line = {"type": "object", "properties": members, "additionalProperties": False}
    lines = {"schema": {"type": "string", "description": says_lines}, "x-item-schema": line}
    return Reply(says, shape, example, {"application/x-ndjson": lines})


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
    ("GET", "/api/workers"): Entry(
        "readWorkers",
        "Operators",
        {
            200: Reply(
                "Every worker that holds a job.",
                shapes.WorkersAnswer,
                {
                    "workers": [
                        {
                            "worker": "w1",
                            "held": 1,
                            "kinds": {"x-post": 1},
                            "jobs": [
                                {
                                    "id": e.JOB_ID,
                                    "kind": "x-post",
                                    "owner": "user:17",
                                    "state": "running",
                                    "attempt": 1,
                                    "fence": 1,
                                    "started_at": _MOMENT,
                                    "lease_expires_at": _MOMENT,
                                    "deadline": None,
                                }
                            ],
                        }
                    ],
                    "leases": 1,
                    "ready": 0,
                    "claims_waiting": 1,
                    "waiting_for": {"x-post": 1},
                },
            )
        },
        parameters=(Parameter("limit", Annotated[int, Meta(ge=0, le=1_000)], "Jobs of each worker at most.", 100),),
    ),
    ("GET", "/api/stats"): Entry(
        "readStats",
        "Operators",
        {
            200: Reply(
                "The steps, oldest first, and all of them together.",
                shapes.StatsAnswer,
                {
                    "window_s": 3600,
                    "step_s": 60,
                    "since": _MOMENT,
                    "until": _MOMENT,
                    "position": 1841,
                    "wrong": [],
                    "total": _STEP,
                    "steps": [_STEP],
                },
            )
        },
        parameters=(
            Parameter("window_s", Annotated[int, Meta(ge=1, le=86_400)], "How far back.", 3600),
            Parameter(
                "step_s", Annotated[int, Meta(ge=1, le=86_400)], "How long a step is; beyond an hour in minutes.", 60
            ),
        ),
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
                            "parked_jobs": 0,
                            "parked": [],
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
            200: Reply(
                "Made anew.",
                shapes.RebuildAnswer,
                {"projection": "active", "rows": 12, "position": 1841, "parked": 0},
            )
        },
        bodies.RebuildBody,
        {"reason": "it differed from its replay"},
    ),
    ("POST", "/api/projections/{name}/parked"): Entry(
        "settleParked",
        "Operators",
        {
            200: Reply(
                "How many wait no more, and which still do.",
                shapes.SettledAnswer,
                {"projection": "counts", "released": 1, "parked": []},
            )
        },
        bodies.ParkedBody,
        {"act": "retry", "job_id": samples.JOB["id"], "reason": "mended in 1.4.2"},
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
    ("POST", "/api/operator/doctor"): Entry(
        "examineLog",
        "Operators",
        {
            200: act_reply(
                "What each check finds.",
                shapes.DoctorAnswer,
                {
                    "ok": True,
                    "position": 1841,
                    "checks": [{"check": "parked", "ok": True, "says": "No projection has events parked."}],
                },
            )
        },
        bodies.ActBody,
        {"reason": "the morning round"},
    ),
    ("POST", "/api/operator/verify"): Entry(
        "verifyLog",
        "Operators",
        {
            200: act_reply(
                "What was looked at, and what was found wrong, gravest first.",
                shapes.VerifyAnswer,
                {"ok": True, "position": 1841, "chain": "0" * 64, "first_wrong_position": None, "findings": []},
            )
        },
        bodies.VerifyBody,
        {"against": f"1200:{'0' * 64}", "reason": "before the backup"},
    ),
    ("POST", "/api/operator/backup"): Entry(
        "backUp",
        "Operators",
        {
            200: act_reply(
                "The copy is there, and verified. It is another log: cursors of this one mean nothing in it.",
                shapes.BackupAnswer,
                {"position": 1841, "chain": "0" * 64, "epoch": "5f0c1a9b5f0c1a9b", "bytes": 1_048_576},
            )
        },
        bodies.BackupBody,
        {"file": "/var/backups/jobs-2026-11-24.db", "reason": "nightly"},
        more="The file is written by the service, on its machine, readable by its user alone.",
    ),
    ("POST", "/api/operator/erase"): Entry(
        "eraseJobs",
        "Operators",
        {200: act_reply("What was erased.", shapes.EraseAnswer, {"jobs": 3})},
        bodies.EraseBody,
        {"owner": "user:17", "reason": "asked to be forgotten"},
        codes=("not-found", "job-active"),
        more="Jobs have to have ended. Running it again is harmless.",
    ),
    ("POST", "/api/operator/archive"): Entry(
        "archiveLog",
        "Operators",
        {
            200: act_reply(
                "What was archived.",
                shapes.ArchiveAnswer,
                {"jobs": 120, "events": 731, "archived_through": 1200, "until": 1204, "held_back_by": None},
            )
        },
        bodies.ArchiveBody,
        {"older_than_s": 2_592_000, "reason": "the disk fills up"},
        more="The service does this by itself for what is older than the setting `archive_older_than_s`.",
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
