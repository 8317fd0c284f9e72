"""
The events: what can have happened to a job, each in two parts.

*Facts* are what folds and counts need for ever: times, numbers, the state at birth, digests. *Payload* is what may
have to be forgotten: owner, key, URL, texts, input, result, actor, request id. An erasure takes the payload away and
leaves the facts, so whatever reads a payload must bear its absence (``payload is None``).

Events are past tense and never change. A field that is added later has a default; a field whose meaning changes gets a
new ``SCHEMA`` and an upcaster in store/codec.py. Raw values are JSON bytes exactly as received.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

from msgspec import UNSET, Raw, Struct, UnsetType

from jobsvc.domain.words import JobId, Micros

EventType = Literal[
    "job.created",
    "job.due",
    "job.started",
    "job.progressed",
    "job.attempt_failed",
    "job.lease_expired",
    "job.released",
    "job.cancel_requested",
    "job.completed",
    "job.failed",
    "job.cancelled",
    "job.expired",
    "job.late_result",
    "job.followup_requested",
    "job.owner_changed",
    "job.erased",
]

SCHEMA: Final = 1
"""
The form of facts and payload that this code writes. Stored with each event.
"""


class Terms(Struct, frozen=True, omit_defaults=True, gc=False):
    """
    Under which conditions a job is to run, as asked for; kept so that a retry asks for the same again.

    Attributes:
        priority: −100…100, larger first.
        max_attempts: How many attempts may fail before the job does.
        run_at: Not before this moment; None for at once.
        deadline_us: Wanted only for this long, from run_at or creation.
        start_within_us: Wanted only if first started within this long, from run_at or creation.
    """

    priority: int = 0
    max_attempts: int = 3
    run_at: Micros | None = None
    deadline_us: int | None = None
    start_within_us: int | None = None


class Submission(Struct, frozen=True, omit_defaults=True, gc=False):
    """
    What was asked to be done and for whom: the part of a create that an erasure takes away.
    """

    owner: str
    key: str | None = None
    key_rule: str | None = None
    """
    Which profile and rule version made the key from the URL, for example ``x-post/1``; None for a key as given.
    """
    url: str | None = None
    title: str | None = None
    input: Raw = Raw(b"{}")
    metadata: Raw = Raw(b"{}")


class Failure(Struct, frozen=True, gc=False):
    """
    Why an attempt failed, as the worker (or the service, ``worker_lost``) said it.
    """

    code: str
    message: str


class Report(Struct, frozen=True, gc=False):
    """
    Which report of which lease made this event: the key by which the same report is known again.

    Attributes:
        verb: ``complete``, ``fail`` or ``release``.
        fence: Of the lease that reported.
        digest: SHA-256 over the body without its token, hexadecimal.
    """

    verb: str
    fence: int
    digest: str


class Created(Struct, frozen=True, omit_defaults=True, gc=False):
    """
    A job exists. ``state`` is ``scheduled`` or ``queued``.
    """

    kind: str
    state: Literal["scheduled", "queued"]
    terms: Terms
    deadline: Micros | None = None
    start_by: Micros | None = None
    active_until: Micros | None = None
    """
    The last moment it may be active whatever else holds (``active_max_s``).
    """
    retry_of: JobId | None = None
    follows: JobId | None = None


class Due(Struct, frozen=True, gc=False):
    """
    Its time has come: it waits for a worker.
    """


class Started(Struct, frozen=True, omit_defaults=True, gc=False):
    """
    A worker holds it until the lease runs out.

    ``claim`` names the claim call, so that a lost answer can be given again.
    """

    fence: int
    attempt: int
    lease_us: int
    worker: str
    claim: str | None = None


class Progressed(Struct, frozen=True, gc=False):
    """
    The worker told how far it is; how far stands in the payload.
    """


class AttemptFailed(Struct, frozen=True, gc=False):
    """
    This attempt failed and another will start at ``due_at``.
    """

    fence: int
    due_at: Micros
    report: Report


class LeaseExpired(Struct, frozen=True, gc=False):
    """
    The worker fell silent.

    The attempt is given back; the fence stays, so that a late success that nobody overtook still counts.
    """

    attempt: int
    lost_leases: int
    due_at: Micros


class Released(Struct, frozen=True, gc=False):
    """
    The worker gave it back unharmed, attempt included.
    """

    fence: int
    attempt: int
    report: Report


class CancelRequested(Struct, frozen=True, gc=False):
    """
    Somebody wants it to stop; the worker has until ``grace_until``.
    """

    grace_until: Micros


class Completed(Struct, frozen=True, omit_defaults=True, gc=False):
    """
    It ended with a result.
    """

    report: Report
    followed_by: JobId | None = None


class Failed(Struct, frozen=True, omit_defaults=True, gc=False):
    """
    It ended without a result: no attempts left, not retryable, or its workers lost (``report`` is None).
    """

    fence: int
    lost_leases: int
    report: Report | None = None
    followed_by: JobId | None = None
    attempt: int | None = None
    """Where the last lease was lost, the attempts that are left counted: a lapse gives its attempt back."""


class Cancelled(Struct, frozen=True, omit_defaults=True, gc=False):
    """
    It was given up: on request, by force, or for another job (``superseded_by``).
    """

    fence: int
    superseded_by: JobId | None = None
    report: Report | None = None
    attempt: int | None = None
    """Where a release or a lapse was the end, since both give the attempt back."""


class Expired(Struct, frozen=True, omit_defaults=True, gc=False):
    """
    It outlived its deadline, its first start, its lease at a cleanup, or the longest a job may be active.
    """

    fence: int
    followed_by: JobId | None = None


class LateResult(Struct, frozen=True, gc=False):
    """
    A success came under an old fence. It changed nothing and is kept.
    """

    report: Report


class FollowupRequested(Struct, frozen=True, gc=False):
    """
    The same work is wanted once more after this job; of several such requests the last counts.
    """

    kind: str
    terms: Terms
    count: int


class OwnerChanged(Struct, frozen=True, gc=False):
    """
    A user claimed the guest's job; both names stand in the payload.
    """


class Erased(Struct, frozen=True, gc=False):
    """
    All payloads of this job were taken away, here and in all earlier events.
    """


Facts = (
    Created
    | Due
    | Started
    | Progressed
    | AttemptFailed
    | LeaseExpired
    | Released
    | CancelRequested
    | Completed
    | Failed
    | Cancelled
    | Expired
    | LateResult
    | FollowupRequested
    | OwnerChanged
    | Erased
)

ENDS: Final = frozenset({Completed, Failed, Cancelled, Expired})
"""
The types of the facts by which a job ends.
"""

FACTS_OF_TYPE: Final[dict[EventType, type[Facts]]] = dict(zip(get_args(EventType), get_args(Facts), strict=True))
TYPE_OF_FACTS: Final[dict[type[Facts], EventType]] = {facts: name for name, facts in FACTS_OF_TYPE.items()}


class Payload(Struct, frozen=True, omit_defaults=True, gc=False):
    """
    The forgettable part of any event. Which fields are used follows from the event's type.

    One form for all types, so that an erasure, an export and a log line need to know only one.
    """

    actor: str
    request_id: str | None = None
    submission: Submission | None = None
    percent: float | None = None
    message: str | None = None
    progress_data: Raw | UnsetType = UNSET
    """UNSET for none; ``Raw | None`` would be read back as null only."""
    result: Raw | UnsetType = UNSET
    failure: Failure | None = None
    reason: str | None = None
    owner: str | None = None
    previous_owner: str | None = None


class NewEvent(Struct, frozen=True, gc=False):
    """
    An event as decided: it has no place in the log yet.
    """

    job_id: JobId
    facts: Facts
    payload: Payload


class Event(Struct, frozen=True, gc=False):
    """
    An event at its place in the log.

    Attributes:
        position: Place in the whole log, from 1, no holes.
        job_id: The job whose stream it belongs to.
        version: Place in that stream, from 1.
        at: When it was decided; never before the ``at`` of a lower position.
        facts: What stays for ever.
        payload: What can be forgotten; None once it was.
    """

    position: int
    job_id: JobId
    version: int
    at: Micros
    facts: Facts
    payload: Payload | None

    @property
    def type(self) -> EventType:
        """
        The event's name on the wire and in the log.
        """
        return TYPE_OF_FACTS[type(self.facts)]
