"""
Given what happened, when a command comes, then these events follow, or this refusal.

The helper of the decider's tests, after emmett's ``DeciderSpecification``. A story is what happened to one job, told as
facts, or as whole events where their payload matters; each event of it comes one second after the one before. Nothing
here knows a rule of the domain: what is expected stands in the tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import Raw
from msgspec.structs import replace

from jobsvc.domain import commands as c
from jobsvc.domain.decider import decide
from jobsvc.domain.decisions.decision import Decision, Situation
from jobsvc.domain.errors import Rejected
from jobsvc.domain.events import (
    AttemptFailed,
    Cancelled,
    CancelRequested,
    Completed,
    Created,
    Due,
    Event,
    Expired,
    Facts,
    Failed,
    Failure,
    LeaseExpired,
    NewEvent,
    Payload,
    Report,
    Started,
    Submission,
    Terms,
)
from jobsvc.domain.job import Job, fold
from jobsvc.domain.machine import CANCEL_GRACE_US
from jobsvc.domain.moments import SECOND_US
from jobsvc.domain.words import Principal

if TYPE_CHECKING:
    from collections.abc import Iterable

Told = Facts | NewEvent
Story = tuple[Told, ...]

JOB: Final = "019a0000-0000-7000-8000-000000000001"
OTHER: Final = "019a0000-0000-7000-8000-000000000002"
NEW_ID: Final = "019a0000-0000-7000-8000-000000000003"
SPARE: Final = "019a0000-0000-7000-8000-000000000004"

BIRTH: Final = 1_900_000_000 * SECOND_US
HOUR_US: Final = 3_600 * SECOND_US
NOW: Final = BIRTH + HOUR_US
ACTIVE_MAX_US: Final = 7 * 24 * HOUR_US

GUEST: Final = Principal(role="guest", subject="guest:g", owner="guest:g")
STRANGER: Final = Principal(role="guest", subject="guest:s", owner="guest:s")
USER: Final = Principal(role="user", subject="user:u", owner="user:u")
WORKER: Final = Principal(role="worker", subject="w1")
OPERATOR: Final = Principal(role="operator", subject="root")

KIND: Final = "x-post"
SUBMISSION: Final = Submission(owner="guest:g", key="x:post:1", input=Raw(b'{"a":1}'))
KEYLESS: Final = Submission(owner="guest:g")
FAILURE: Final = Failure("boom", "it broke")
RESULT: Final = Raw(b'{"n":1}')


def created(terms: Terms | None = None, *, submission: Submission = SUBMISSION, **facts: object) -> NewEvent:
    """
    The birth of a job: queued unless *facts* say otherwise.
    """
    born = Created(kind=KIND, state="queued", terms=terms or Terms())
    return NewEvent(JOB, replace(born, **facts), Payload(actor="guest:g", submission=submission))


def started(*, fence: int = 1, attempt: int = 1) -> Started:
    """
    A grant to worker w1 for thirty seconds.
    """
    return Started(fence=fence, attempt=attempt, lease_us=30 * SECOND_US, worker="w1", claim="c1")


def told(facts: Facts, **payload: object) -> NewEvent:
    """
    *facts* with a payload of their own.
    """
    return NewEvent(JOB, facts, replace(Payload(actor="w1"), **payload))


QUEUED: Final[Story] = (created(),)
SCHEDULED: Final[Story] = (created(Terms(run_at=NOW), state="scheduled"),)
RUNNING: Final[Story] = (*QUEUED, started())
RETRYING: Final[Story] = (*RUNNING, told(AttemptFailed(2, NOW, Report("fail", 1, "f")), failure=FAILURE))
LAPSED: Final[Story] = (*RUNNING, LeaseExpired(attempt=0, lost_leases=1, due_at=NOW))
LAPSED_AND_DUE: Final[Story] = (*LAPSED, Due())
CANCELLING: Final[Story] = (*RUNNING, told(CancelRequested(grace_until=NOW), reason="requested"))
COMPLETED: Final[Story] = (*RUNNING, told(Completed(Report("complete", 1, "first")), result=RESULT))
FAILED: Final[Story] = (*RUNNING, told(Failed(2, 0, Report("fail", 1, "f")), failure=FAILURE))
CANCELLED: Final[Story] = (*RUNNING, told(Cancelled(2), reason="forced"))
EXPIRED: Final[Story] = (*RUNNING, told(Expired(2), reason="deadline"))

WAITING: Final = (SCHEDULED, QUEUED, RETRYING)
HELD: Final = (RUNNING, CANCELLING)
LIVING: Final = (*WAITING, *HELD)
ENDED: Final = (COMPLETED, FAILED, CANCELLED, EXPIRED)
"""
One story for each state, in groups.
"""


def bounded(story: Story, **facts: object) -> Story:
    """
    *story* of a job that was born with these *facts* too.
    """
    birth = story[0]
    assert isinstance(birth, NewEvent)
    return (replace(birth, facts=replace(birth.facts, **facts)), *story[1:])


def record(story: Iterable[Told], *, job_id: str = JOB) -> list[Event]:
    """
    *story* as the log would hold it, if it were all that the log holds.
    """
    return [_recorded(happening, version, job_id=job_id) for version, happening in enumerate(story, start=1)]


def _recorded(happening: Told, version: int, *, job_id: str) -> Event:
    facts, payload = (
        (happening.facts, happening.payload)
        if isinstance(happening, NewEvent)
        else (happening, Payload(actor="worker:w1"))
    )
    return Event(
        position=version,
        job_id=job_id,
        version=version,
        at=BIRTH + (version - 1) * SECOND_US,
        facts=facts,
        payload=payload,
    )


def job_of(story: Iterable[Told], *, job_id: str = JOB) -> Job:
    """
    The job that *story* adds up to.
    """
    job = fold(record(story, job_id=job_id))
    assert job is not None
    return job


class Answer:
    """
    What came of a command: a decision or a refusal.
    """

    def __init__(self, situation: Situation, came_of_it: Decision | Rejected) -> None:
        self.situation = situation
        self.came_of_it = came_of_it

    def then(self, *facts: Facts, outcome: str = "changed") -> Decision:
        """
        The decision, which is shown to hold exactly events with these *facts* and to have this *outcome*.
        """
        assert isinstance(self.came_of_it, Decision), self.came_of_it
        assert facts == tuple(event.facts for event in self.came_of_it.events)
        assert outcome == self.came_of_it.outcome
        return self.came_of_it

    def then_refused(self, error: type[Rejected]) -> Any:  # noqa: ANN401  # an instance of *error*
        """
        The refusal, which is shown to be exactly of this class.
        """
        assert type(self.came_of_it) is error, self.came_of_it
        return self.came_of_it

    def then_state(self, state: str) -> Job:
        """
        The job as it stands once what was decided has happened, which is shown to be in *state*.
        """
        assert isinstance(self.came_of_it, Decision), self.came_of_it
        job = self.situation.job or self.situation.holder
        version = 0 if job is None else job.version
        for event in self.came_of_it.events:
            if job is None or event.job_id == job.id:
                version += 1
                job = fold([Event(99, event.job_id, version, self.situation.now, event.facts, event.payload)], job)
        assert job is not None
        assert state == job.state
        return job


class Specification:
    """
    A job of which a story is told, waiting for a command.
    """

    def __init__(self, story: Story) -> None:
        self.job = job_of(story) if story else None

    def when(self, command: c.JobCommand, **circumstances: object) -> Answer:
        """
        What comes of *command*, an hour after the job's birth unless *circumstances* say otherwise.
        """
        situation = replace(Situation(now=NOW, spare_id=SPARE, job=self.job), **circumstances)
        try:
            return Answer(situation, decide(command, situation))
        except Rejected as refusal:
            return Answer(situation, refusal)


def given(*story: Told) -> Specification:
    """
    The job to which *story* happened; none if nothing did.
    """
    return Specification(story)


def create(**fields: object) -> c.Create:
    """
    A guest's request for the work of every story here.
    """
    return replace(c.Create(NEW_ID, GUEST, KIND, SUBMISSION, Terms()), **fields)


def retry(**fields: object) -> c.Retry:
    """
    The guest's request to run the job again.
    """
    return replace(c.Retry(JOB, NEW_ID, GUEST), **fields)


def cancel(**fields: object) -> c.Cancel:
    """
    The guest's wish to stop the job.
    """
    return replace(c.Cancel(JOB, GUEST), **fields)


def clean_up(**fields: object) -> c.CleanUp:
    """
    The guest's wish to have the job off the list.
    """
    return replace(c.CleanUp(JOB, GUEST), **fields)


def start(**fields: object) -> c.Start:
    """
    A grant of the job to worker w1.
    """
    return replace(c.Start(JOB, WORKER, 30 * SECOND_US, "w1", "c1"), **fields)


def heartbeat(**fields: object) -> c.Heartbeat:
    """
    A sign of life from the first lease.
    """
    return replace(c.Heartbeat(JOB, WORKER, fence=1), **fields)


def progress(**fields: object) -> c.ReportProgress:
    """
    Progress told by the first lease.
    """
    return replace(c.ReportProgress(JOB, WORKER, fence=1, percent=40.0), **fields)


def complete(**fields: object) -> c.Complete:
    """
    Success told by the first lease.
    """
    return replace(c.Complete(JOB, WORKER, fence=1, digest="d", result=RESULT), **fields)


def fail(**fields: object) -> c.Fail:
    """
    Failure told by the first lease.
    """
    return replace(c.Fail(JOB, WORKER, fence=1, digest="d", failure=FAILURE), **fields)


def release(**fields: object) -> c.Release:
    """
    The first lease given back.
    """
    return replace(c.Release(JOB, WORKER, fence=1, digest="d"), **fields)


def forgotten(event: Event) -> Event:
    """
    *event* as it stands after an erasure.
    """
    return replace(event, payload=None)


GRACE_US: Final = CANCEL_GRACE_US
