"""
The errors, split by who must act. No HTTP here: http/problems.py maps codes to statuses.

    JobsvcError
    ├── Rejected                  the caller must act; nothing was changed
    │   ├── InvalidCommand        what was asked for makes no sense or breaks a bound
    │   ├── AccessDenied          another's job, or a role that may not
    │   ├── JobNotFound           there is no such job
    │   ├── JobActive             the job still runs or waits
    │   ├── LeaseLost             the lease no longer gives the right to report
    │   ├── DuplicateActiveJob    the key has a holder, and the caller wanted to know
    │   ├── VersionMismatch       the job moved on since the caller read it
    │   ├── IdempotencyKeyReused  the key came with another request before
    │   ├── SpentGuest            a user has taken over all that this guest had
    │   ├── TooManyActive         an owner, or all together, hold as many active jobs as is allowed
    │   └── SlowDown              asked too often; later is fine
    ├── Conflict                  we retry, the caller never sees it
    │   └── Behind                the log grew since the decision (store/seam.py carries the events)
    ├── Unavailable               the operator must act, soon; the caller may try again
    │   ├── StoreBusy             the queue is full
    │   ├── StoreDown             the commit failed, or its outcome is unknown
    │   ├── Unsound               work is taken, and something is known to be wrong
    │   └── Draining              the service is going away
    └── Corrupt                   the operator must act, now
        ├── UnreadableEvent       a row of the log does not decode
        └── ViewMismatch          a view is not what its replay gives

Each class has a stable ``code``; its docstring's first line is the message where none is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from jobsvc.domain.job import Job

StoreFault = Literal["full", "busy", "io", "corrupt", "other"]
"""
Why a store is down: no space, locked, the disk, the file itself, or none of these.
"""


class JobsvcError(Exception):
    """
    Something went wrong.
    """

    code: ClassVar[str] = "internal"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or _first_line(type(self)))

    @property
    def message(self) -> str:
        """
        What went wrong and what to do about it, in a sentence.
        """
        return str(self.args[0])


class Rejected(JobsvcError):
    """
    The command was refused; nothing was changed.
    """

    code = "invalid"


class InvalidCommand(Rejected):
    """
    What was asked for is not possible.
    """

    code = "invalid"

    def __init__(self, message: str | None = None, *, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer
        """
        JSON pointer to the field at fault, empty for the whole body.
        """


class AccessDenied(Rejected):
    """
    This job belongs to someone else.
    """

    code = "access-denied"


class JobNotFound(Rejected):
    """
    There is no such job.
    """

    code = "not-found"


class RejectedWithJob(Rejected):
    """
    The command was refused because of how the job stands; the job is shown.
    """

    def __init__(self, message: str | None = None, *, job: Job | None = None) -> None:
        super().__init__(message)
        self.job = job
        """
        The job as it stands, if the caller may see it.
        """


class JobActive(RejectedWithJob):
    """
    The job is still active.
    """

    code = "job-active"


class LeaseLost(RejectedWithJob):
    """
    This lease no longer gives the right to report on the job.
    """

    code = "lease-lost"

    def __init__(self, message: str | None = None, *, job: Job | None = None, may_complete: bool = False) -> None:
        super().__init__(message, job=job)
        self.may_complete = may_complete
        """
        True if a complete under this lease would still be accepted: it lapsed and nobody has claimed since.
        """


class DuplicateActiveJob(RejectedWithJob):
    """
    A job with this key exists already.
    """

    code = "duplicate-job"


class VersionMismatch(RejectedWithJob):
    """
    The job has moved on since it was read; read it again.
    """

    code = "version-mismatch"


class IdempotencyKeyReused(Rejected):
    """
    This Idempotency-Key came with another request before; take a new key for a new request.
    """

    code = "idempotency-key-reused"


class SpentGuest(Rejected):
    """
    This guest was claimed by a user, and nobody can act as it any more.
    """

    code = "unauthenticated"


class TooManyActive(Rejected):
    """
    There are as many active jobs as are allowed; wait for some to end, or cancel some.
    """

    code = "too-many-active"


class SlowDown(Rejected):
    """
    Too many of these requests; try again later.
    """

    code = "slow-down"

    def __init__(self, message: str | None = None, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """
        How soon it may be otherwise.
        """


class Conflict(JobsvcError):
    """
    Someone else wrote first; decide again.
    """


class Unavailable(JobsvcError):
    """
    The service cannot take this now; try again.
    """

    code = "unavailable"


class StoreBusy(Unavailable):
    """
    More is waiting to be written than may wait; try again in a moment.
    """


class StoreDown(Unavailable):
    """
    The store did not confirm the write; whether it happened is being found out.
    """

    def __init__(self, message: str | None = None, *, kind: StoreFault = "other") -> None:
        super().__init__(message)
        self.kind: StoreFault = kind
        """
        What the engine complained of. After ``full`` and ``busy`` it may come back by itself.
        """


class Unsound(Unavailable):
    """
    The service takes work, but something is wrong that an operator has to see to.
    """


class Draining(Unavailable):
    """
    The service is stopping; try again in a moment.
    """

    code = "draining"


class Corrupt(JobsvcError):
    """
    What is stored contradicts itself.
    """


class UnreadableEvent(Corrupt):
    """
    An event of the log cannot be read by this version of the service.
    """


class ViewMismatch(Corrupt):
    """
    A view differs from the replay of its log.
    """


def _first_line(error: type[JobsvcError]) -> str:
    return (error.__doc__ or error.__name__).strip().splitlines()[0]
