from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from jobsvc.changes import Change, change, count_types, waits_and_runs
from jobsvc.domain.events import Completed, Created, Event, OwnerChanged, Payload, Report, Started, Submission, Terms
from jobsvc.domain.job import evolve

if TYPE_CHECKING:
    from jobsvc.domain.events import Facts
    from jobsvc.domain.job import Job


def life(*steps: tuple[int, Facts, Payload]) -> list[Change]:
    """
    The changes of a job to which *steps* happen, each at its moment.
    """
    job: Job | None = None
    changes = list[Change]()
    for version, (at, facts, payload) in enumerate(steps, start=1):
        event = Event(version, "j", version, at, facts, payload)
        before, job = job, evolve(job, event)
        changes.append(change(before, event, job))
    return changes


def test_a_run_is_counted_once_whatever_happens_to_the_job_in_the_moment_of_its_end() -> None:
    """
    A batch is decided at one moment: a job may end in it and change its owner too, and ran only once.
    """
    submission, nothing = Submission(owner="guest:g"), Payload(actor="w", result=UNSET)
    changes = life(
        (5, Created("extract", "queued", Terms()), Payload(actor="guest:g", submission=submission)),
        (7, Started(1, 1, 60, "w"), nothing),
        (10, Completed(Report("complete", 1, "d")), nothing),
        (10, OwnerChanged(), Payload(actor="system", owner="user:a", previous_owner="guest:g")),
    )

    assert ([2], [3]) == waits_and_runs(changes)
    assert {"job.created": 1, "job.started": 1, "job.completed": 1, "job.owner_changed": 1} == count_types(changes)
