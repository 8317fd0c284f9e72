"""
The commands: what somebody wants to happen, in the imperative, with who wants it.

http parses a request into one of these, once; the sweeper makes them like anyone else. A command is frozen and carries
everything that its decision needs but the state and the time. No rules here: a command may well be refused.
"""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Raw, Struct, UnsetType

from jobsvc.domain.events import Failure, Submission, Terms
from jobsvc.domain.words import SYSTEM, JobId, Principal

OnActive = Literal["attach", "reject", "replace", "run_after"]
OnCompleted = Literal["rerun", "reuse", "reject"]


class Dedup(Struct, frozen=True, gc=False):
    """
    What to do when the same work exists: while it is active, and after it completed.

    ``max_age_us`` bounds how old a completed job may be to count as fresh; None for any age.
    """

    on_active: OnActive = "attach"
    on_completed: OnCompleted = "rerun"
    max_age_us: int | None = None


class Create(Struct, frozen=True, gc=False):
    """
    Make a job, or attach to the one that does the same work. ``job_id`` is the id that a new one gets.

    ``reason`` is why a retry asks for it, else None.
    """

    job_id: JobId
    who: Principal
    kind: str
    submission: Submission
    terms: Terms
    dedup: Dedup = Dedup()
    reason: str | None = None
    request_id: str | None = None


class Retry(Struct, frozen=True, gc=False):
    """
    Make a job that asks for the same as an ended one. ``new_id`` is the id that it gets.
    """

    job_id: JobId
    new_id: JobId
    who: Principal
    if_version: int | None = None
    reason: str | None = None
    request_id: str | None = None


class Cancel(Struct, frozen=True, gc=False):
    """
    Stop a job: at once where nobody works on it or with force, else by asking its worker.
    """

    job_id: JobId
    who: Principal
    force: bool = False
    reason: str | None = None
    if_version: int | None = None
    request_id: str | None = None


class CleanUp(Struct, frozen=True, gc=False):
    """
    Take a job off the active list if it has no right to be there, or with force in any case.
    """

    job_id: JobId
    who: Principal
    force: bool = False
    reason: str | None = None
    if_version: int | None = None
    request_id: str | None = None


class Claim(Struct, frozen=True, gc=False):
    """
    Give a worker up to *limit* jobs of its kinds. Resolved to a ``Start`` a job by the ready line.
    """

    who: Principal
    kinds: frozenset[str]
    limit: int
    lease_us: int
    worker: str
    claim: str | None = None
    request_id: str | None = None


class Start(Struct, frozen=True, gc=False):
    """
    Give this job to this worker.
    """

    job_id: JobId
    who: Principal
    lease_us: int
    worker: str
    claim: str | None = None
    request_id: str | None = None


class Heartbeat(Struct, frozen=True, gc=False):
    """
    The worker still works on it.
    """

    job_id: JobId
    who: Principal
    fence: int
    request_id: str | None = None


class ReportProgress(Struct, frozen=True, gc=False):
    """
    The worker tells how far it is.
    """

    job_id: JobId
    who: Principal
    fence: int
    percent: float | None = None
    message: str | None = None
    progress_data: Raw | UnsetType = UNSET
    request_id: str | None = None


class Complete(Struct, frozen=True, gc=False):
    """
    The worker has the result. ``digest`` is SHA-256 of the report without its token, hexadecimal.
    """

    job_id: JobId
    who: Principal
    fence: int
    digest: str
    result: Raw
    request_id: str | None = None


class Fail(Struct, frozen=True, gc=False):
    """
    The attempt failed; ``retry_after_us`` None leaves the delay to the service.
    """

    job_id: JobId
    who: Principal
    fence: int
    digest: str
    failure: Failure
    retryable: bool = True
    retry_after_us: int | None = None
    request_id: str | None = None


class Release(Struct, frozen=True, gc=False):
    """
    The worker gives the job back unharmed, or the service does because the grant never reached the worker.
    """

    job_id: JobId
    who: Principal
    fence: int
    digest: str
    request_id: str | None = None


class ComeDue(Struct, frozen=True, gc=False):
    """
    The moment that the job waits for has come.
    """

    job_id: JobId
    who: Principal = SYSTEM
    request_id: None = None


class Lapse(Struct, frozen=True, gc=False):
    """
    The job's lease has run out.
    """

    job_id: JobId
    who: Principal = SYSTEM
    request_id: None = None


class Expire(Struct, frozen=True, gc=False):
    """
    The job has outlived what it may.
    """

    job_id: JobId
    who: Principal = SYSTEM
    request_id: None = None


class EndGrace(Struct, frozen=True, gc=False):
    """
    The worker had its time to stop.
    """

    job_id: JobId
    who: Principal = SYSTEM
    request_id: None = None


class ChangeOwner(Struct, frozen=True, gc=False):
    """
    The job is the new owner's from now on.

    Only of a job whose key the new owner's jobs leave free: of two for one key a ``Merge`` comes first.
    """

    job_id: JobId
    who: Principal
    owner: str
    request_id: str | None = None


class Merge(Struct, frozen=True, gc=False):
    """
    The job gives way to another active one for the same work, since a claim made both one owner's.

    ``into`` is the other, which stays; the situation brings it as ``holder``.
    """

    job_id: JobId
    into: JobId
    who: Principal
    request_id: str | None = None


class Erase(Struct, frozen=True, gc=False):
    """
    The payloads of an ended job are to be forgotten.
    """

    job_id: JobId
    who: Principal
    reason: str | None = None
    request_id: str | None = None


EndingReport = Complete | Fail | Release
"""
The reports that are looked up first: the same one again gets the first answer.
"""

JobCommand = (
    Create
    | Retry
    | Cancel
    | CleanUp
    | Start
    | Heartbeat
    | ReportProgress
    | Complete
    | Fail
    | Release
    | ComeDue
    | Lapse
    | Expire
    | EndGrace
    | ChangeOwner
    | Merge
    | Erase
)
