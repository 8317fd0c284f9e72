"""
The Python client: typed calls, and a stream that goes on by itself.

It knows the contract, and nothing of the service: no import of the service is allowed here, and no rule about jobs.
Read ``job.active``, never a list of states.
"""

from __future__ import annotations

from jobsvc.client.caller import Client
from jobsvc.client.problems import ClientError, Problem, Unreachable
from jobsvc.client.records import (
    ActiveJobs,
    Change,
    Cleanup,
    Dedup,
    Ended,
    Event,
    EventPage,
    GuestSession,
    Job,
    JobError,
    JobPage,
    JobRequest,
    JobState,
    KindedJobRequest,
    Progress,
    Ready,
    Snapshot,
    Submitted,
    Told,
)
from jobsvc.client.watching import Backoff, digest

__all__ = [
    "ActiveJobs",
    "Backoff",
    "Change",
    "Cleanup",
    "Client",
    "ClientError",
    "Dedup",
    "Ended",
    "Event",
    "EventPage",
    "GuestSession",
    "Job",
    "JobError",
    "JobPage",
    "JobRequest",
    "JobState",
    "KindedJobRequest",
    "Problem",
    "Progress",
    "Ready",
    "Snapshot",
    "Submitted",
    "Told",
    "Unreachable",
    "digest",
]
