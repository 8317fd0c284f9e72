"""
The examples of the document: one job on its way, as its front end and its worker see it.

Made of the same records as the real answers; a test holds each against its schema.
"""

from __future__ import annotations

from typing import Any, Final

from jobsvc.http.entry import CURSOR, JOB_ID

_CREATED_AT: Final = "2026-11-24T06:46:39.000000Z"
_STARTED_AT: Final = "2026-11-24T06:46:40.250000Z"
_EXPIRES_AT: Final = "2026-11-24T06:47:10.250000Z"
_TOKEN: Final = "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl"  # noqa: S105  # opens nothing

JOB: Final[dict[str, Any]] = {
    "id": JOB_ID,
    "kind": "x-post",
    "state": "running",
    "active": True,
    "version": 3,
    "position": 1841,
    "owner": "user:17",
    "key": "x:post:1850000000000000000",
    "url": "https://x.com/a/status/1850000000000000000?s=20",
    "title": None,
    "input": {},
    "metadata": {},
    "priority": 0,
    "progress": {"percent": 40.0, "message": "reading replies", "data": None},
    "attempt": 1,
    "max_attempts": 3,
    "lost_leases": 0,
    "cancel_requested": False,
    "result": None,
    "error": None,
    "reason": None,
    "retry_of": None,
    "superseded_by": None,
    "followed_by": None,
    "follows": None,
    "created_at": _CREATED_AT,
    "run_at": None,
    "started_at": _STARTED_AT,
    "finished_at": None,
    "due_at": None,
    "deadline": None,
    "lease_expires_at": _EXPIRES_AT,
    "worker": "w1",
}
DONE: Final = JOB | {
    "state": "completed",
    "active": False,
    "version": 4,
    "position": 1850,
    "result": {"pages": 3},
    "finished_at": "2026-11-24T06:46:52.000000Z",
    "lease_expires_at": None,
}
CANCELLED: Final = DONE | {"state": "cancelled", "result": None}

SESSION: Final = {"owner": f"guest:{JOB_ID}", "token": _TOKEN, "expires_at": "2026-12-24T06:46:39.000000Z"}
CREATE: Final = {"kind": "x-post", "url": JOB["url"], "dedup": {"on_completed": "reuse", "max_age_s": 3600}}
CREATED: Final = {
    "job": JOB,
    "deduplicated": True,
    "dedup_reason": "active",
    "input_differs": False,
    "cursor": CURSOR,
    "links": {
        "self": f"/api/jobs/{JOB_ID}",
        "events": f"/api/jobs/{JOB_ID}/events",
        "stream": f"/api/stream?job={JOB_ID}",
    },
}
EVENT: Final = {
    "position": 1841,
    "job_id": JOB_ID,
    "version": 3,
    "type": "job.progressed",
    "at": "2026-11-24T06:46:45.000000Z",
    "actor": "worker",
    "request_id": "a3f1-9c",
    "data": {"percent": 40.0, "message": "reading replies"},
    "chain": "9f" * 32,
}
LEASE_TOKEN: Final = "1.b0k6f3Zt5q"  # noqa: S105  # opens nothing
LEASE: Final = {"lease_expires_at": _EXPIRES_AT, "cancel_requested": False, "deadline": None}
GRANT: Final = {"job": JOB, "lease_token": LEASE_TOKEN, "fence": 1, "lease_expires_at": _EXPIRES_AT}
LONG_POLL: Final = {
    "frames": [
        {
            "event": "hello",
            "id": None,
            "data": {"cursor": CURSOR, "heartbeat_s": 15.0, "server_time": "2026-11-24T06:46:45.000000Z"},
        },
        {"event": "snapshot", "id": CURSOR, "data": {"jobs": [JOB], "cursor": CURSOR, "more": False}},
    ],
    "cursor": CURSOR,
}
