"""
The answers as records: what stands in the body of each, problems included.

Handlers answer with these, and the OpenAPI document describes these, so the two cannot differ. A job and an event as
such are resource.py's, the frames of a stream frames.py's, and what a request may say bodies.py's.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from jobsvc.domain.words import State
from jobsvc.http.bodies import any_of
from jobsvc.operate.archive import ArchiveReport
from jobsvc.operate.backup import Copied
from jobsvc.operate.doctor import DoctorReport
from jobsvc.operate.erase import EraseReport
from jobsvc.operate.parked import ParkedJob, ParkedReport
from jobsvc.operate.verify import VerifyReport
from jobsvc.operate.views import Rebuilt
from jobsvc.resource import Count, EventResource, Id, JobResource, Moment, Place, Position

StreamCursor = Annotated[
    str, Meta(pattern=r"^[^\s]+\.\d+$", description="`<epoch>.<position>`: the log's identity and a place in it.")
]
NextJob = Annotated[Id | None, Meta(description="Send it as `after` for the next page; null on the last.")]
NextPosition = Annotated[Position | None, Meta(description="Send it as `after` for the next page; null on the last.")]

DedupReason = Literal["active", "fresh_result"]

# Sessions


class SessionAnswer(Struct, frozen=True):
    """A guest, with the token that proves it. The cookie holds the same token."""

    owner: Annotated[str, Meta(pattern="^guest:")]
    token: str
    expires_at: Moment


class ClaimedAnswer(Struct, frozen=True):
    """How many of the guest's jobs moved, and how many were one of two for the same work that became one."""

    moved: int
    merged: int


class LinkAnswer(Struct, frozen=True):
    """An operator's token."""

    token: str


class TicketAnswer(Struct, frozen=True):
    """What opens a stream once, and until when."""

    ticket: str
    expires_at: Moment


# Jobs


class Links(Struct, frozen=True):
    """Where the job is, was, and will be told of."""

    self: str
    events: str
    stream: str


class CreateAnswer(Struct, frozen=True):
    """What a create says: always a whole job, the winner's where there was a race."""

    job: JobResource
    deduplicated: Annotated[bool, Meta(description="True if no job was made for this call.")]
    dedup_reason: DedupReason | None
    input_differs: Annotated[bool, Meta(description="The job has another input than this call asked for.")]
    cursor: Annotated[StreamCursor, Meta(description="A stream from here misses nothing that came after `job`.")]
    links: Links


class JobAnswer(Struct, frozen=True):
    """One job."""

    job: JobResource


class CancelAnswer(Struct, frozen=True):
    """The job as the cancel left it."""

    job: JobResource
    cursor: StreamCursor


class CleanupAnswer(Struct, frozen=True):
    """Whether the job was taken off the list now, and why or why not."""

    success: Literal[True]
    removed: bool
    reason: Annotated[str, Meta(description="`already_ended`, or the state in which the job ended just now.")]


class ActiveAnswer(Struct, frozen=True):
    """The active jobs, as of the cursor; ``next`` is for viewers and operators, whose list comes in pages."""

    jobs: list[JobResource]
    cursor: StreamCursor
    next: NextJob | UnsetType = UNSET


class JobsAnswer(Struct, frozen=True):
    """A page of jobs, newest first."""

    jobs: list[JobResource]
    next: NextJob


class EventsAnswer(Struct, frozen=True):
    """A page of events, oldest first."""

    events: list[EventResource]
    next: NextPosition


class StateAtAnswer(Struct, frozen=True):
    """Jobs as they stood at a position, by id."""

    position: Place
    jobs: list[JobResource]
    next: NextJob


# Workers


class Grant(Struct, frozen=True):
    """A job given to a worker, and the right to report on it."""

    job: JobResource
    lease_token: str
    fence: Annotated[int, Meta(ge=1, description="Grows with every grant; give it on to third parties.")]
    lease_expires_at: Moment | None


class ClaimAnswer(Struct, frozen=True):
    """The jobs that the worker was given: one at least."""

    jobs: list[Grant]


class LeaseAnswer(Struct, frozen=True):
    """How a worker's lease stands, and whether its job is still wanted."""

    lease_expires_at: Moment | None
    cancel_requested: bool
    deadline: Moment | None


# Operators


class HeadAnswer(Struct, frozen=True):
    """The end of the log: what to keep beside a backup, so that a cut tail is found."""

    position: Place
    chain: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    epoch: str


class OpenStream(Struct, frozen=True):
    """One open stream; ``lag`` is in events of the log, whosever they are."""

    principal: str
    transport: str
    state: str
    position: int
    lag: int
    buffered_bytes: int
    age_s: float


class StreamsAnswer(Struct, frozen=True):
    """
    All open streams.

    ``catch_ups``, ``resets``, ``byes``, ``cuts`` and ``bytes`` are sums since the service started. ``streams`` lists up
    to as many as were asked for, those furthest behind first.
    """

    open: int
    by_transport: dict[str, int]
    by_state: dict[str, int]
    lag_max: int
    catch_ups: int
    resets: dict[str, int]
    byes: dict[str, int]
    cuts: int
    bytes: int
    streams: list[OpenStream]


class HeldJob(Struct, frozen=True):
    """A job that a worker holds."""

    id: Id
    kind: str
    owner: str
    state: State
    attempt: Count
    fence: Count
    started_at: Moment | None
    lease_expires_at: Moment | None
    deadline: Moment | None


class WorkerShown(Struct, frozen=True):
    """One worker by the name that it claims under, and up to as many of its jobs as were asked for."""

    worker: str
    held: Count
    kinds: dict[str, int]
    jobs: list[HeldJob]


class WorkersAnswer(Struct, frozen=True):
    """Who holds what, and who waits for work: ``waiting_for`` counts claims by kind, ``any`` where they take all."""

    workers: list[WorkerShown]
    leases: Count
    ready: Annotated[Count, Meta(description="Jobs that could be claimed now.")]
    claims_waiting: Count
    waiting_for: dict[str, int]


class LengthsShown(Struct, frozen=True):
    """How long something took; ``p50_s`` and ``p95_s`` to a fifth."""

    count: Count
    mean_s: float
    p50_s: float
    p95_s: float
    max_s: float


class LevelsShown(Struct, frozen=True):
    """The most that was met at any look; lags are in events of the log."""

    streams_max: Annotated[Count, Meta(description="Streams that were open.")]
    stream_lag_max: Annotated[Count, Meta(description="How far behind the stream was that was furthest behind.")]
    projection_lag_max: Annotated[Count, Meta(description="The same of the projections that catch up.")]


class StatsStep(Struct, frozen=True):
    """What happened from a moment on: events by type, how long jobs had waited that began, and run that ended."""

    at: Moment
    events: dict[str, int]
    avoided: Annotated[Count, Meta(description="Requests for a job that were given one that there was.")]
    waits: LengthsShown
    runs: LengthsShown
    levels: Annotated[
        LevelsShown | None,
        Meta(description="Looked at every few seconds (`stats_look_s`) while the service runs; null where nobody did."),
    ]


class StatsAnswer(Struct, frozen=True):
    """
    What happened lately, in steps that begin at multiples of ``step_s``; the last one is not over.

    Before ``since`` something may be missing: the service had not started, and more had happened than it reads again.
    """

    window_s: int
    step_s: int
    since: Moment
    until: Moment
    position: Annotated[Place, Meta(description="Of the newest event that is counted, in the log.")]
    wrong: Annotated[list[str], Meta(description="What the doctor's rounds have found, in sentences.")]
    total: StatsStep
    steps: list[StatsStep]


class Standing(Struct, frozen=True):
    """How far a view is."""

    name: str
    version: int
    inline: Annotated[bool, Meta(description="Written with each event; others catch up.")]
    position: Place
    lag: Count
    failure: Annotated[str | None, Meta(description="Why it holds, if it does.")] = None
    parked_jobs: Annotated[int, Meta(ge=0, description="How many jobs it has parked.")] = 0
    parked: Annotated[list[ParkedJob], Meta(description="The first 100 of them, by position.")] = []


class ProjectionsAnswer(Struct, frozen=True):
    """How far each view is, and how far the log."""

    projections: list[Standing]
    head: Place


RebuildAnswer = Rebuilt
SettledAnswer = ParkedReport
VerifyAnswer = VerifyReport
BackupAnswer = Copied
DoctorAnswer = DoctorReport
ArchiveAnswer = ArchiveReport
EraseAnswer = EraseReport


class RevokeAnswer(Struct, frozen=True):
    """Whose tokens count no more, and until when that is remembered: as long as any of them could last."""

    revoked: Annotated[str, Meta(description="The subject, or `jti:` and the id of the one token.")]
    kept_until: Moment


class HealthAnswer(Struct, frozen=True):
    """The process answers."""

    status: Literal["alive"]


class ReadyAnswer(Struct, frozen=True):
    """Commands are taken and can be written."""

    status: Literal["ready"]


# Problems


class Fault(Struct, frozen=True):
    """One thing that was wrong with a body or a query."""

    pointer: Annotated[str, Meta(description="A JSON pointer (RFC 6901); empty for the whole.")]
    message: str


class Problem(Struct, frozen=True):
    """Why a request was refused or failed (RFC 9457). ``code`` is for programs, ``detail`` for people."""

    type: Annotated[str, Meta(pattern="^urn:jobsvc:problem:")]
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: str
    instance: str
    code: str
    request_id: str
    errors: Annotated[list[Fault] | UnsetType, Meta(description="With `invalid`.")] = UNSET
    job: Annotated[JobResource | UnsetType, Meta(description="As it stands, where that was the reason.")] = UNSET
    may_complete: Annotated[
        bool | UnsetType, Meta(description="With `lease-lost`: a complete would still be accepted.")
    ] = UNSET


class CleanupFailure(Struct, frozen=True):
    """Why nothing was cleaned up."""

    message: str


class CleanupProblem(Problem, frozen=True, kw_only=True):
    """A problem with the members that callers of the cleanup path look for."""

    success: Literal[False]
    error: CleanupFailure


# Several in one: each result has the status that it would have had alone.


class CreateResult(CreateAnswer, frozen=True, kw_only=True):
    """One create of a batch that was answered with a job."""

    status: Literal[200, 201]


class BatchAnswer(Struct, frozen=True):
    """The results of a batch, in order."""

    results: list[Annotated[Any, any_of("CreateResult", "Problem")]]


class LeaseResult(LeaseAnswer, frozen=True, kw_only=True):
    """One report of several, after which the lease goes on."""

    status: Literal[200]


class EndResult(JobAnswer, frozen=True, kw_only=True):
    """One report of several that ended the attempt."""

    status: Literal[200]


class ReportsAnswer(Struct, frozen=True):
    """The results of several reports, in order."""

    results: list[Annotated[Any, any_of("LeaseResult", "EndResult", "Problem")]]
