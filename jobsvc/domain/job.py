"""
The job: what its events add up to, and the fold that adds them.

``evolve`` never rejects and never acts: no clock, no id, no IO, no callback. What was recorded has happened; whether it
should have is the machine's question, asked before. The next state is looked up in the table that machine.py reads off
the one state machine, so the fold knows no rule of its own. Sources: emmett's decider (decide, evolve, initial state)
and Chassaing's ``isTerminal``, which for us is *the* part: terminal means that the active row is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from jobsvc.domain.events import (
    TYPE_OF_FACTS,
    AttemptFailed,
    Cancelled,
    CancelRequested,
    Completed,
    Created,
    Due,
    Erased,
    Event,
    Expired,
    Failed,
    Failure,
    FollowupRequested,
    LateResult,
    LeaseExpired,
    OwnerChanged,
    Payload,
    Progressed,
    Released,
    Started,
    Submission,
    Terms,
)
from jobsvc.domain.machine import next_state
from jobsvc.domain.words import ACTIVE, ERASED, JobId, Micros, State

if TYPE_CHECKING:
    from collections.abc import Iterable


class Progress(Struct, frozen=True, omit_defaults=True, gc=False):
    """
    How far the worker said it is: percent 0…100 or unknown, a message, and data of its own as raw JSON.
    """

    percent: float | None = None
    message: str | None = None
    data: Raw | UnsetType = UNSET


class Followup(Struct, frozen=True, gc=False):
    """
    The request that becomes a job when this one ends by itself; ``count`` is how often it was replaced, plus one.
    """

    kind: str
    terms: Terms
    submission: Submission
    count: int


class Job(Struct, frozen=True, omit_defaults=True, gc=False):
    """
    A job as it stands after one of its events. Immutable; each event makes another.

    Moments are microseconds since the epoch. ``ready_at`` is when it last began to wait for a worker, the third key of
    the claim order; a release keeps its place. ``late_digests`` are the digests of the late results that were kept.
    ``leased_at`` is when an event last proved the worker alive; the lease itself lives in memory and is laid over when
    read.
    """

    id: JobId
    kind: str
    state: State
    version: int
    position: int
    submission: Submission
    terms: Terms
    created_at: Micros
    ready_at: Micros
    progress: Progress | None = None
    attempt: int = 0
    lost_leases: int = 0
    fence: int = 0
    result: Raw | UnsetType = UNSET
    failure: Failure | None = None
    reason: str | None = None
    retry_of: JobId | None = None
    superseded_by: JobId | None = None
    followed_by: JobId | None = None
    follows: JobId | None = None
    started_at: Micros | None = None
    first_started_at: Micros | None = None
    finished_at: Micros | None = None
    ended_position: int | None = None
    due_at: Micros | None = None
    deadline: Micros | None = None
    start_by: Micros | None = None
    active_until: Micros | None = None
    grace_until: Micros | None = None
    cancel_requested: bool = False
    lease_us: int | None = None
    leased_at: Micros | None = None
    worker: str | None = None
    claim: str | None = None
    followup: Followup | None = None
    late_digests: tuple[str, ...] = ()

    @property
    def active(self) -> bool:
        """
        True until a terminal event. Clients read this, never a list of states.
        """
        return self.state in ACTIVE

    @property
    def ready(self) -> bool:
        """
        True while it waits for a worker and nothing else.
        """
        return self.state == "queued"

    @property
    def owner(self) -> str:
        """
        Whose job it is; ``erased`` after an erasure, which is nobody.
        """
        return self.submission.owner

    @property
    def key(self) -> str | None:
        """
        What deduplicates it within (owner, kind), or None.
        """
        return self.submission.key


_FORGOTTEN = Payload(actor=ERASED)
_FORGOTTEN_SUBMISSION = Submission(owner=ERASED)


def evolve(job: Job | None, event: Event) -> Job:
    """
    The job as it stands after *event*.

    Args:
        job: As it stood before; None before its first event, and only then.
        event: The next of its stream. Its payload may have been erased.

    Cost: about 1.5 µs.
    """
    facts, payload = event.facts, event.payload or _FORGOTTEN
    if isinstance(facts, Created):
        return _created(event, facts, submission=payload.submission or _FORGOTTEN_SUBMISSION)
    if job is None:
        message = f"the stream of {event.job_id} does not begin with job.created"
        raise ValueError(message)
    state = next_state(job.state, TYPE_OF_FACTS[type(facts)])
    if isinstance(facts, Started):
        return _started(job, event, facts, state=state)
    if isinstance(facts, Progressed):
        return _progressed(job, event, payload, state=state)
    job = replace(job, state=state, version=event.version, position=event.position)
    match facts:
        case Completed():
            ended = _ended(job, event.at, fence=job.fence, reason=None, followed_by=facts.followed_by)
            return replace(ended, result=payload.result, failure=None)
        case Due():
            return replace(job, due_at=None, ready_at=event.at)
        case AttemptFailed():
            job = _let_go(job, fence=facts.fence, attempt=job.attempt)
            return replace(job, failure=payload.failure, due_at=facts.due_at, ready_at=facts.due_at)
        case LeaseExpired():
            job = _let_go(job, fence=job.fence, attempt=facts.attempt)
            return replace(job, lost_leases=facts.lost_leases, due_at=facts.due_at, ready_at=facts.due_at)
        case Released():
            return _let_go(job, fence=facts.fence, attempt=facts.attempt)
        case CancelRequested():
            return _asked_to_stop(job, facts, reason=payload.reason)
        case Failed():
            ended = _ended(job, event.at, fence=facts.fence, reason=payload.reason, followed_by=facts.followed_by)
            attempt = ended.attempt if facts.attempt is None else facts.attempt
            return replace(ended, failure=payload.failure, lost_leases=facts.lost_leases, attempt=attempt)
        case Cancelled():
            ended = _ended(job, event.at, fence=facts.fence, reason=payload.reason)
            attempt = ended.attempt if facts.attempt is None else facts.attempt
            return replace(ended, superseded_by=facts.superseded_by, attempt=attempt)
        case Expired():
            return _ended(job, event.at, fence=facts.fence, reason=payload.reason, followed_by=facts.followed_by)
        case LateResult():
            return replace(job, late_digests=(*job.late_digests, facts.report.digest))
        case FollowupRequested():
            return replace(job, followup=_followup(facts, payload))
        case OwnerChanged():
            return _handed_over(job, payload.owner or ERASED)
        case Erased():
            return _erased(job)
        case _:
            assert_never(facts)


def fold(events: Iterable[Event], job: Job | None = None) -> Job | None:
    """
    *job* after all of *events*, which are the next of its stream in order; None if there were none at all.
    """
    for event in events:
        job = evolve(job, event)
    return job


def _created(event: Event, facts: Created, *, submission: Submission) -> Job:
    # A run_at that had passed already does not let a job jump the queue.
    due_at = facts.terms.run_at if facts.state == "scheduled" else None
    return Job(
        event.job_id,
        facts.kind,
        facts.state,
        event.version,
        event.position,
        submission,
        facts.terms,
        event.at,
        event.at if due_at is None else due_at,
        due_at=due_at,
        deadline=facts.deadline,
        start_by=facts.start_by,
        active_until=facts.active_until,
        retry_of=facts.retry_of,
        follows=facts.follows,
    )


def _started(job: Job, event: Event, facts: Started, *, state: State) -> Job:
    at = event.at
    return replace(
        job,
        state=state,
        version=event.version,
        position=event.position,
        fence=facts.fence,
        attempt=facts.attempt,
        lease_us=facts.lease_us,
        leased_at=at,
        worker=facts.worker,
        claim=facts.claim,
        started_at=at,
        first_started_at=job.first_started_at or at,
        progress=None,
        failure=None,
    )


def _progressed(job: Job, event: Event, payload: Payload, *, state: State) -> Job:
    progress = Progress(payload.percent, payload.message, payload.progress_data)
    return replace(
        job, state=state, version=event.version, position=event.position, progress=progress, leased_at=event.at
    )


def _asked_to_stop(job: Job, facts: CancelRequested, *, reason: str | None) -> Job:
    """
    *job* as its worker is to see it: given up, and what was to follow it too, even if a success still comes first.
    """
    return replace(job, cancel_requested=True, grace_until=facts.grace_until, reason=reason, followup=None)


def _let_go(job: Job, *, fence: int, attempt: int) -> Job:
    """
    *job* held by nobody: what belonged to the lease is gone.
    """
    return replace(
        job, fence=fence, attempt=attempt, started_at=None, worker=None, claim=None, lease_us=None, leased_at=None
    )


def _ended(job: Job, at: Micros, *, fence: int, reason: str | None, followed_by: JobId | None = None) -> Job:
    """
    *job* at its end: nothing waits any more, and a follow-up request is either taken up or dropped.
    """
    return replace(
        job,
        fence=fence,
        reason=reason,
        finished_at=at,
        ended_position=job.position,
        due_at=None,
        grace_until=None,
        lease_us=None,
        leased_at=None,
        claim=None,
        followup=None,
        followed_by=followed_by,
    )


def _followup(facts: FollowupRequested, payload: Payload) -> Followup | None:
    if payload.submission is None:
        return None
    return Followup(kind=facts.kind, terms=facts.terms, submission=payload.submission, count=facts.count)


def _handed_over(job: Job, owner: str) -> Job:
    followup = job.followup
    if followup is not None:
        followup = replace(followup, submission=replace(followup.submission, owner=owner))
    return replace(job, submission=replace(job.submission, owner=owner), followup=followup)


def _erased(job: Job) -> Job:
    return replace(
        job, submission=_FORGOTTEN_SUBMISSION, progress=None, result=UNSET, failure=None, reason=None, worker=None
    )
