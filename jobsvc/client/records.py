"""
The records of the client: what is asked for, what comes back, and what a watched stream tells.

The contract's shapes, as frozen values. A field that is added to the contract later has to be added here to be seen;
nothing breaks until then. Nothing here talks to anybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping

JobState = Literal[
    "scheduled", "queued", "running", "retrying", "cancelling", "completed", "failed", "cancelled", "expired"
]


class Progress(Struct, frozen=True):
    """How far a job is, as its worker said last."""

    percent: float | None = None
    message: str | None = None
    data: Any = None


class JobError(Struct, frozen=True):
    """Why a job failed."""

    code: str
    message: str = ""


class Job(Struct, frozen=True):
    """
    A job as it stood at ``version``. Fields that a newer service adds are ignored.

    ``omitted`` names what was too large to be shown in a list or frame; `Client.get` has it.
    """

    id: str
    kind: str
    state: JobState
    active: bool
    version: int
    owner: str | None = None
    position: int | None = None
    key: str | None = None
    url: str | None = None
    title: str | None = None
    input: Any = None
    metadata: Any = None
    priority: int = 0
    progress: Progress | None = None
    attempt: int = 0
    max_attempts: int = 3
    lost_leases: int = 0
    cancel_requested: bool = False
    result: Any = None
    late_result: Any = None
    error: JobError | None = None
    reason: str | None = None
    retry_of: str | None = None
    superseded_by: str | None = None
    followed_by: str | None = None
    follows: str | None = None
    created_at: str | None = None
    run_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    due_at: str | None = None
    deadline: str | None = None
    lease_expires_at: str | None = None
    worker: str | None = None
    omitted: tuple[str, ...] = ()


class Submitted(Struct, frozen=True):
    """The answer to a create: the job that does the work, and whether it was there before."""

    job: Job
    deduplicated: bool = False
    dedup_reason: str | None = None
    input_differs: bool = False
    cursor: str | None = None


class ActiveJobs(Struct, frozen=True):
    """The active jobs as of ``cursor``; a stream opened after that cursor continues them without a gap."""

    jobs: tuple[Job, ...]
    cursor: str
    next: str | None = None


class JobPage(Struct, frozen=True):
    """Jobs, newest first, ended ones included; ``next`` is the ``after`` of the next page."""

    jobs: tuple[Job, ...]
    next: str | None = None


class Event(Struct, frozen=True):
    """A fact from a job's history."""

    position: int
    job_id: str
    version: int
    type: str
    at: str
    actor: str | None = None
    request_id: str | None = None
    data: Any = None
    chain: str | None = None


class EventPage(Struct, frozen=True):
    """Events in order; ``next`` is the ``after`` of the next page."""

    events: tuple[Event, ...]
    next: Any = None


class Cleanup(Struct, frozen=True):
    """What a cleanup did: ``reason`` is ``already_ended``, ``expired`` or ``cancelled``."""

    success: bool
    removed: bool
    reason: str | None = None


class GuestSession(Struct, frozen=True):
    """A guest: its owner name and its token."""

    owner: str
    token: str
    expires_at: str


class JobAnswer(Struct, frozen=True):
    """One job, as it is answered."""

    job: Job


class BatchAnswer(Struct, frozen=True):
    """The results of a batch, in order, each to be read by its status."""

    results: tuple[msgspec.Raw, ...]


class Status(Struct, frozen=True):
    """What a result of a batch begins with."""

    status: int = 200


class Dedup(TypedDict, total=False):
    """What to do when the same work is active, or completed. Left out: attach, and run again."""

    on_active: Literal["attach", "reject", "replace", "run_after"]
    on_completed: Literal["rerun", "reuse", "reject"]
    max_age_s: float


class JobRequest(TypedDict, total=False):
    """What a create may say besides the kind. Left out means the service's default. ``owner`` is for services only."""

    url: str
    key: str
    input: Any
    title: str
    metadata: Mapping[str, Any]
    priority: int
    run_at: str
    deadline_s: float
    start_within_s: float
    max_attempts: int
    dedup: Dedup
    owner: str


class KindedJobRequest(JobRequest):
    """One job of a batch."""

    kind: str


class Snapshot(Struct, frozen=True):
    """All active jobs as of ``cursor``: whatever was known before is to be forgotten."""

    jobs: tuple[Job, ...]
    cursor: str


class Change(Struct, frozen=True):
    """An event, and the job as it stood after it. ``cursor`` is where to go on after it."""

    type: str
    job: Job
    position: int
    version: int
    at: str
    cursor: str
    data: Any = None


class Ready(Struct, frozen=True):
    """Everything up to ``cursor`` has been told; what comes from here on is news. Comes again after each reconnect."""

    cursor: str


class Ended(Struct, frozen=True):
    """The job whose own stream this is has ended; nothing more will come."""

    job: Job


Told = Snapshot | Change | Ready | Ended
