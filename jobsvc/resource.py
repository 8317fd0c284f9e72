"""
The job and the event as the outside sees them: the records of the contract, and their JSON.

Inside a moment is a number and a payload a bag of fields; out here a moment is text and every field has its place. The
lease is laid over when a job is read: it is in no view, no version and no digest. Nothing here decides who may see it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, json, structs

from jobsvc.domain.events import EventType, FollowupRequested, Started
from jobsvc.domain.moments import SECOND_US, rfc3339
from jobsvc.domain.words import ACTIVE, State

if TYPE_CHECKING:
    from jobsvc.changes import Change
    from jobsvc.domain.events import Event, Payload
    from jobsvc.domain.job import Job, Progress
    from jobsvc.domain.words import Micros

BRIEF_BYTES_MAX: Final = 16_384
"""A larger input or result is left out of lists and frames, and named in ``omitted``."""

_NULL: Final = Raw(b"null")

Id = Annotated[
    str,
    Meta(
        pattern="^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
        description="A UUIDv7 as text.",
        extra_json_schema={"format": "uuid"},
    ),
]
Moment = Annotated[
    str,
    Meta(
        pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$",
        description="A moment in UTC (RFC 3339), with microseconds.",
        extra_json_schema={"format": "date-time"},
    ),
]
Position = Annotated[int, Meta(ge=1, description="A place in the log.")]
Place = Annotated[int, Meta(ge=0, description="A place in the log, 0 before its beginning.")]
Version = Annotated[int, Meta(ge=1, description="A place in the job's stream: grows with each of its events.")]
Count = Annotated[int, Meta(ge=0)]


class ProgressResource(Struct, frozen=True, gc=False):
    """How far the worker says it is."""

    percent: Annotated[float, Meta(ge=0, le=100)] | None
    message: str | None
    data: Raw


class FailureResource(Struct, frozen=True, gc=False):
    """Why the last attempt, or the job, failed."""

    code: Annotated[str, Meta(description="For programs. worker_lost is the service's own: the third lost lease.")]
    message: Annotated[str, Meta(description="For people.")]


class JobResource(Struct, frozen=True, gc=False):
    """A job, whole. Clients read ``active``, never a list of states."""

    id: Id
    kind: str
    state: State
    active: Annotated[bool, Meta(description="False for ever once the job has ended.")]
    version: Annotated[Version, Meta(description="Grows with each event of the job; the ETag.")]
    position: Annotated[Position, Meta(description="Of the job's newest event, in the log.")]
    owner: str
    key: Annotated[str | None, Meta(description="What deduplicates, over owner and kind; null for no deduplication.")]
    url: Annotated[str | None, Meta(description="As it was sent.")]
    title: str | None
    metadata: Annotated[Raw, Meta(extra_json_schema={"type": "object"})]
    priority: Annotated[int, Meta(ge=-100, le=100, description="Larger first.")]
    progress: ProgressResource | None
    attempt: Annotated[int, Meta(ge=0, description="0 until the first claim; a release and a lapse give it back.")]
    max_attempts: Annotated[int, Meta(ge=1)]
    lost_leases: Count
    cancel_requested: bool
    error: FailureResource | None
    reason: str | None
    retry_of: Id | None
    superseded_by: Id | None
    followed_by: Id | None
    follows: Id | None
    created_at: Moment
    run_at: Moment | None
    started_at: Annotated[Moment | None, Meta(description="Of the current attempt.")]
    finished_at: Moment | None
    due_at: Moment | None
    deadline: Moment | None
    lease_expires_at: Annotated[Moment | None, Meta(description="Laid over when read: in no version.")]
    worker: str | None
    input: Annotated[Raw | UnsetType, Meta(description="Any JSON; left out where `omitted` names it.")] = UNSET
    result: Annotated[Raw | UnsetType, Meta(description="Any JSON; left out where `omitted` names it.")] = UNSET
    omitted: Annotated[
        list[str] | UnsetType, Meta(description="Which of input and result are larger than 16 KiB, so left out.")
    ] = UNSET


def job_resource(job: Job, *, lease_expires_at: Micros | None = None, brief: bool = False) -> JobResource:
    """
    *job* as the contract shows it.

    Args:
        job: As committed.
        lease_expires_at: Laid over; None where nobody holds the job, or for a moment long past.
        brief: Leave out an input or result above 16 KiB, as lists and frames do.

    Cost: 2 µs.
    """
    submission, terms, progress, failure = job.submission, job.terms, job.progress, job.failure
    given: Raw | UnsetType = submission.input
    result: Raw | UnsetType = _NULL if job.result is UNSET else job.result
    omitted: list[str] | UnsetType = UNSET
    if brief and (_is_large(submission.input) or _is_large(result)):
        omitted = []
        if _is_large(submission.input):
            given = UNSET
            omitted.append("input")
        if _is_large(result):
            result = UNSET
            omitted.append("result")
    # By place, in the order of the record, and each moment asked for here: names and calls would cost as much again.
    return JobResource(
        job.id,
        job.kind,
        job.state,
        job.state in ACTIVE,
        job.version,
        job.position,
        submission.owner,
        submission.key,
        submission.url,
        submission.title,
        submission.metadata,
        terms.priority,
        None if progress is None else _progress_resource(progress),
        job.attempt,
        terms.max_attempts,
        job.lost_leases,
        job.cancel_requested,
        None if failure is None else FailureResource(failure.code, failure.message),
        job.reason,
        job.retry_of,
        job.superseded_by,
        job.followed_by,
        job.follows,
        rfc3339(job.created_at),
        None if terms.run_at is None else rfc3339(terms.run_at),
        None if job.started_at is None else rfc3339(job.started_at),
        None if job.finished_at is None else rfc3339(job.finished_at),
        None if job.due_at is None else rfc3339(job.due_at),
        None if job.deadline is None else rfc3339(job.deadline),
        None if lease_expires_at is None else rfc3339(lease_expires_at),
        job.worker,
        given,
        result,
        omitted,
    )


def _progress_resource(progress: Progress) -> ProgressResource:
    told = _NULL if progress.data is UNSET else progress.data
    return ProgressResource(progress.percent, progress.message, told)


def _is_large(raw: Raw | UnsetType) -> bool:
    return isinstance(raw, Raw) and len(memoryview(raw)) > BRIEF_BYTES_MAX


class EventResource(Struct, frozen=True, gc=False):
    """An event of the log, as the history and the log show it."""

    position: Position
    job_id: Id
    version: Version
    type: EventType
    at: Moment
    actor: Annotated[str | None, Meta(description="Who; to guests and users the role only. Null once erased.")]
    request_id: str | None
    data: Annotated[dict[str, Any], Meta(description="All else that the event says: facts and payload in one.")]
    chain: Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="SHA-256 over this event and the chain before.")]


def event_resource(event: Event, chain: bytes, *, role_only: bool) -> EventResource:
    """*event* as the contract shows it; guests and users see of the actor only the role (*role_only*)."""
    payload = event.payload
    actor = None if payload is None else payload.actor
    if actor is not None and role_only:
        actor = actor.partition(":")[0]
    return EventResource(
        position=event.position,
        job_id=event.job_id,
        version=event.version,
        type=event.type,
        at=rfc3339(event.at),
        actor=actor,
        request_id=None if payload is None else payload.request_id,
        data=event_data(event),
        chain=chain.hex(),
    )


def event_data(event: Event) -> dict[str, Any]:
    """Everything an event says besides its envelope: facts and payload in one, moments as text, raw JSON as it came."""
    told = _fields(event.facts)
    if event.payload is not None:
        told |= _payload_fields(event.payload)
    return told


def change_data(change: Change) -> dict[str, Any]:
    """What *change*'s event says that the job after it does not carry."""
    match change.event.facts:
        case Started(fence=fence, lease_us=lease_us):
            return {"fence": fence, "lease_s": lease_us / SECOND_US}
        case FollowupRequested(count=count):
            return {"count": count}
        case _:
            return {"previous_owner": change.previous_owner} if change.previous_owner is not None else {}


class ChangeResource(Struct, frozen=True, gc=False):
    """The data of a ``job`` frame: an event, and the job as it stood after it."""

    type: EventType
    position: Position
    version: Version
    at: Moment
    job: JobResource
    data: Annotated[dict[str, Any], Meta(description="What the event says that `job` does not carry.")]


def change_resource(change: Change) -> ChangeResource:
    """
    *change* as a stream shows it.

    The lease is laid over as the event left it, so that the frame is the same whenever it is made.
    """
    job, event = change.job, change.event
    lease_expires_at = None if job.leased_at is None or job.lease_us is None else job.leased_at + job.lease_us
    return ChangeResource(
        type=event.type,
        position=event.position,
        version=event.version,
        at=rfc3339(event.at),
        job=job_resource(job, lease_expires_at=lease_expires_at, brief=True),
        data=change_data(change),
    )


encode: Final = json.Encoder().encode
"""The JSON of any of these records, compact, as bytes without a line feed."""


def _fields(record: Struct) -> dict[str, Any]:
    """The fields of *record* that say something, with moments and lengths of time as the outside writes them."""
    told: dict[str, Any] = {}
    for name, value in structs.asdict(record).items():
        if value is None or value is UNSET:
            continue
        if name in _MOMENTS:
            told[name] = rfc3339(value)
        elif name.endswith("_us"):
            told[name.removesuffix("_us") + "_s"] = value / SECOND_US
        elif isinstance(value, Struct):
            told[name] = _fields(value)
        else:
            told[name] = value
    return told


_MOMENTS: Final = frozenset({"run_at", "due_at", "deadline", "start_by", "active_until", "grace_until"})


def _payload_fields(payload: Payload) -> dict[str, Any]:
    told = _fields(payload)
    for name in ("actor", "request_id"):
        told.pop(name, None)
    told |= told.pop("submission", {})
    if "failure" in told:
        told["error"] = told.pop("failure")
    if "progress_data" in told:
        told["data"] = told.pop("progress_data")
    return told
