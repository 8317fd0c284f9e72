"""
The entries of the workers' routes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobsvc.http import bodies, samples, shapes
from jobsvc.http import entry as e
from jobsvc.http.entry import Entry, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

_GRANTED: Final = {
    "parameters": {"id": "$response.body#/jobs/0/job/id"},
    "requestBody": {"lease_token": "$response.body#/jobs/0/lease_token"},
}
_WHOLE: Final = Reply("The job as the report left it.", shapes.JobAnswer, {"job": samples.DONE})
_LEASE: Final = Reply("The lease goes on.", shapes.LeaseAnswer, samples.LEASE)

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
