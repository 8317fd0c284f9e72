"""
The answers: what the ledger says once a command is committed, and how the same request gets the same answer again.

A mark keeps an answer as (outcome, job, version): the whole job is folded anew as of that version when it is asked for,
so nothing is stored twice and nothing can be remembered wrongly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct, json

from jobsvc.domain.decisions.decision import Outcome
from jobsvc.domain.errors import InvalidCommand, JobsvcError, Rejected, RejectedWithJob
from jobsvc.domain.job import Job
from jobsvc.domain.words import JobId, Micros
from jobsvc.store.seam import Mark

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobsvc.store.seam import MarkKey


class Answer(Struct, frozen=True, gc=False):
    """
    What became of a command, once it is committed.

    Attributes:
        outcome: See ``decision.Outcome``.
        job: As it stood right after the command.
        position: A stream resumed from here misses nothing that came after *job*.
        input_differs: The job attached to has another input than was asked for.
        lease_expires_at: Where a lease was granted or renewed, until when.
        replayed: The command was not carried out: this is the answer that the same request had before.
    """

    outcome: Outcome
    job: Job
    position: int
    lease_expires_at: Micros | None = None
    input_differs: bool = False
    replayed: bool = False


Result = Answer | JobsvcError
"""Of one command among several: its answer, or why it was refused."""


class Grants(Struct, frozen=True):
    """The jobs that a claim gave, as of the commit; ``fresh`` are those that no earlier call of it had given."""

    jobs: Sequence[Job]
    fresh: Sequence[Job]


class TakenOver(Struct, frozen=True, gc=False):
    """What became of a guest's active jobs: each moved, or was one of two for the same work that became one."""

    moved: int
    merged: int


class MarkRequest(Struct, frozen=True, gc=False):
    """That the answer is to be remembered under this key, for this very request."""

    principal: str
    scope: str
    key: str
    digest: str

    @property
    def mark_key(self) -> MarkKey:
        """Under which the mark is stored."""
        return (self.principal, self.scope, self.key)


class Recorded(Struct, frozen=True, omit_defaults=True, gc=False):
    """One answer as a mark keeps it. A refusal (in a batch) has a code, a message, and a job if it showed one."""

    outcome: Outcome | None = None
    job_id: JobId | None = None
    version: int = 0
    position: int = 0
    input_differs: bool = False
    code: str | None = None
    message: str | None = None
    pointer: str = ""


class Again(Struct, frozen=True):
    """That the answers of a mark are to be given again."""

    recorded: list[Recorded]

    @property
    def versions(self) -> list[tuple[JobId, int]]:
        """The (job, version) pairs that the answers show."""
        return [(one.job_id, one.version) for one in self.recorded if one.job_id is not None]


_ENCODE: Final = json.Encoder().encode
_DECODE: Final = json.Decoder(list[Recorded]).decode


def remember(request: MarkRequest, results: Sequence[Result], expires_at: Micros) -> Mark:
    """The mark that makes *results* the answer of *request* until *expires_at*."""
    answer = _ENCODE([_record(result) for result in results])
    return Mark(request.principal, request.scope, request.key, request.digest, answer, expires_at)


def recall(mark: Mark) -> Again:
    """What *mark* remembers."""
    return Again(_DECODE(mark.answer))


def repeat(again: Again, jobs: Mapping[tuple[JobId, int], Job]) -> list[Result]:
    """The answers given again; *jobs* holds each job as of the version that it showed then."""
    return [_repeat_one(one, jobs) for one in again.recorded]


def _record(result: Result) -> Recorded:
    if isinstance(result, Answer):
        job = result.job
        return Recorded(result.outcome, job.id, job.version, result.position, result.input_differs)
    job_shown = result.job if isinstance(result, RejectedWithJob) else None
    pointer = result.pointer if isinstance(result, InvalidCommand) else ""
    refused = Recorded(code=result.code, message=result.message, pointer=pointer)
    if job_shown is None:
        return refused
    return Recorded(job_id=job_shown.id, version=job_shown.version, code=result.code, message=result.message)


def _repeat_one(one: Recorded, jobs: Mapping[tuple[JobId, int], Job]) -> Result:
    job = None if one.job_id is None else jobs.get((one.job_id, one.version))
    if one.outcome is not None and job is not None:
        return Answer(one.outcome, job, one.position, input_differs=one.input_differs, replayed=True)
    return _refusal(one, job)


def _refusal(one: Recorded, job: Job | None) -> JobsvcError:
    for kind in _all_rejections(Rejected):
        if kind.code == one.code and kind is not Rejected:
            if issubclass(kind, RejectedWithJob):
                return kind(one.message, job=job)
            if issubclass(kind, InvalidCommand):
                return kind(one.message, pointer=one.pointer)
            return kind(one.message)
    return Rejected(one.message)


def _all_rejections(kind: type[Rejected]) -> list[type[Rejected]]:
    return [kind, *(deeper for direct in kind.__subclasses__() for deeper in _all_rejections(direct))]
