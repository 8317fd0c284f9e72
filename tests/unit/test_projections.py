"""
The views as folds: every event, erased ones too, and any history that can be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from jobsvc.domain.events import (
    FACTS_OF_TYPE,
    AttemptFailed,
    Cancelled,
    CancelRequested,
    Completed,
    Due,
    Erased,
    Event,
    Expired,
    Facts,
    Failed,
    FollowupRequested,
    LateResult,
    LeaseExpired,
    OwnerChanged,
    Payload,
    Progressed,
    Released,
    Report,
    Started,
    Terms,
)
from jobsvc.domain.job import Job, evolve, fold
from jobsvc.domain.words import ERASED
from jobsvc.store.seam import HistoryRow, KeyRow
from projections.active import Active
from projections.counts import Count, Counts
from projections.folding import take
from projections.history import History
from projections.keys import Keys
from projections.projection import is_kept, row_key, row_type
from tests.unit.specification import (
    BIRTH,
    CANCELLING,
    JOB,
    KEYLESS,
    KIND,
    QUEUED,
    RETRYING,
    RUNNING,
    SCHEDULED,
    created,
    forgotten,
    job_of,
    record,
    told,
)
from tests.unit.test_histories import STEPS, Step, play

if TYPE_CHECKING:
    from tests.unit.specification import Story, Told

INLINE = (Active(), Keys(), History())
REPORT = Report("complete", 1, "d")
LATER = BIRTH + 99

ENDS: tuple[Facts, ...] = (Completed(REPORT), Failed(2, 0), Cancelled(2), Expired(2))

AFTER: dict[str, tuple[Story, Told]] = {
    "job.created": ((), created()),
    "job.due": (SCHEDULED, Due()),
    "job.started": (QUEUED, Started(fence=1, attempt=1, lease_us=1, worker="w1")),
    "job.progressed": (RUNNING, told(Progressed(), percent=1.0)),
    "job.attempt_failed": (RUNNING, AttemptFailed(2, LATER, Report("fail", 1, "f"))),
    "job.lease_expired": (RUNNING, LeaseExpired(attempt=0, lost_leases=1, due_at=LATER)),
    "job.released": (RUNNING, Released(2, 0, Report("release", 1, "r"))),
    "job.cancel_requested": (RUNNING, CancelRequested(grace_until=LATER)),
    "job.completed": (RUNNING, Completed(REPORT)),
    "job.failed": (RUNNING, Failed(2, 0)),
    "job.cancelled": (CANCELLING, Cancelled(2)),
    "job.expired": (RETRYING, Expired(2)),
    "job.late_result": (RUNNING, LateResult(REPORT)),
    "job.followup_requested": (RUNNING, FollowupRequested(KIND, Terms(), 1)),
    "job.owner_changed": (RUNNING, told(OwnerChanged(), owner="user:u", previous_owner="guest:g")),
    "job.erased": ((*RUNNING, Completed(REPORT)), Erased()),
}
"""
By type of event, a story after which it can happen, and the event.
"""


def rows_after(projection: Any, events: list[Event]) -> dict[str, Any]:  # noqa: ANN401  # any projection
    """
    The rows of *projection* over *events*.
    """
    rows: dict[str, Any] = {}
    take(projection, rows, events)
    return rows


def expected_key(job: Job | None) -> dict[str, KeyRow]:
    """
    What ``keys`` must hold of *job*.
    """
    if job is None or not job.active or job.key is None:
        return {}
    return {job.id: KeyRow(job.id, job.owner, job.kind, job.key)}


def expected_history(job: Job, events: list[Event]) -> HistoryRow:
    """
    What ``history`` must hold of *job*: its state at its end, and until then that of its birth.
    """
    state = evolve(None, events[0]).state if job.active else job.state
    return HistoryRow(job.id, job.owner, job.kind, job.key, state, job.created_at, job.finished_at)


def test_every_type_of_event_is_fed() -> None:
    """
    The table below leaves no type of event out.
    """
    assert set(FACTS_OF_TYPE) == set(AFTER)


@pytest.mark.parametrize("name", AFTER)
def test_each_view_agrees_with_the_fold_after_each_event(name: str) -> None:
    """
    After any type of event the rows say what the job that it adds up to says.
    """
    story, event = AFTER[name]
    events = record((*story, event))

    job = job_of((*story, event))

    assert name == events[-1].type
    assert ({JOB: job} if job.active else {}) == rows_after(Active(), events)
    assert expected_key(job) == rows_after(Keys(), events)
    assert ({} if name == "job.erased" else {JOB: expected_history(job, events)}) == rows_after(History(), events)


@pytest.mark.parametrize("name", AFTER)
def test_each_view_bears_the_event_without_its_payload(name: str) -> None:
    """
    Any one event can have lost its payload, and state, kind and times still stand in the rows.
    """
    story, event = AFTER[name]
    events = record((*story, event))

    events[-1] = forgotten(events[-1])

    job: Job | None = None
    for each in events:
        job = evolve(job, each)
    assert job is not None
    assert expected_key(job) == rows_after(Keys(), events)
    assert ({JOB: job} if job.active else {}) == rows_after(Active(), events)
    assert ({} if name == "job.erased" else {JOB: expected_history(job, events)}) == rows_after(History(), events)
    assert {event.type for event in events} == set(rows_after(Counts(), events))


@pytest.mark.parametrize("name", AFTER)
def test_each_view_bears_a_stream_whose_payloads_are_all_gone(name: str) -> None:
    """
    A stream that was erased whole holds no key, belongs to nobody, and has the same state.
    """
    story, event = AFTER[name]
    job = job_of((*story, event))

    events = [forgotten(each) for each in record((*story, event))]

    assert {} == rows_after(Keys(), events)
    assert ({JOB: (job.state, ERASED)} if job.active else {}) == {
        key: (row.state, row.owner) for key, row in rows_after(Active(), events).items()
    }
    assert [] == [row for row in rows_after(History(), events).values() if (row.owner, row.key) != (ERASED, None)]


@pytest.mark.parametrize("end", ENDS)
def test_a_terminal_event_removes_the_row(end: Facts) -> None:
    """
    Whatever the end, the job is off ``active`` and its key is free, with nobody cleaning up.
    """
    events = record((*RUNNING, end))

    active, keys, history = (rows_after(projection, events) for projection in INLINE)

    assert {} == active
    assert {} == keys
    assert events[-1].at == history[JOB].finished_at


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("story", [QUEUED, SCHEDULED, RUNNING, RETRYING, CANCELLING])
def test_an_end_that_no_machine_allows_leaves_what_it_leaves_of_the_job(story: Story, end: Facts) -> None:
    """
    What ``active`` makes of any end is what the job says that was folded over it.
    """
    events = record((*story, end))
    job = fold(events)

    assert job is not None
    assert ({JOB: job} if job.active else {}) == rows_after(Active(), events)


@pytest.mark.parametrize("projection", [Active(), History(), Keys()])
def test_what_comes_after_the_end_makes_no_row_again(projection: Any) -> None:  # noqa: ANN401  # any projection
    """
    A late result, another owner or an erasure after the end brings nothing back.
    """
    ended = record((*RUNNING, Completed(REPORT)))
    rows = rows_after(projection, ended)
    after: list[Facts] = [LateResult(Report("complete", 0, "late")), OwnerChanged(), Erased()]

    late = [Event(9 + n, JOB, 9 + n, LATER, facts, Payload(actor="a", owner="user:u")) for n, facts in enumerate(after)]
    take(projection, rows, late)

    assert {} == rows


@pytest.mark.parametrize("name", sorted(set(AFTER) - {"job.created"}))
def test_an_event_of_a_job_that_has_no_row_makes_none(name: str) -> None:
    """
    Only a birth makes a row: no view invents one for a job that it does not hold.
    """
    event = record((created(), AFTER[name][1]))[-1]

    made = [projection.apply(None, event) for projection in INLINE]

    assert [None, None, None] == made


def test_a_key_follows_its_job_to_the_new_owner() -> None:
    """
    When a user claims the guest's job, the key is the user's and the old owner's is free.
    """
    events = record((*RUNNING, told(OwnerChanged(), owner="user:u", previous_owner="guest:g")))

    keys, history = rows_after(Keys(), events), rows_after(History(), events)

    assert {JOB: KeyRow(JOB, "user:u", KIND, "x:post:1")} == keys
    assert "user:u" == history[JOB].owner


@pytest.mark.parametrize("view", [Keys(), History()])
def test_a_new_owner_who_is_forgotten_is_nobody(view: Any) -> None:  # noqa: ANN401  # either view
    """
    An owner change without its payload, or with one that names nobody, leaves the row to nobody.
    """
    events = record((*RUNNING, told(OwnerChanged())))

    nameless = rows_after(view, events)
    erased = rows_after(view, [*events[:-1], forgotten(events[-1])])

    assert ERASED == nameless[JOB].owner == erased[JOB].owner


def test_a_job_without_a_key_holds_none() -> None:
    """
    With neither url nor key nothing is deduplicated, whoever the owner becomes.
    """
    story = (created(submission=KEYLESS), told(OwnerChanged(), owner="user:u"))

    rows = rows_after(Keys(), record(story))

    assert {} == rows


def test_a_birth_whose_payload_names_no_work_is_nobodys() -> None:
    """
    A payload without a submission says no more than none at all.
    """
    (birth,) = record(QUEUED)
    bare = replace(birth, payload=Payload(actor="guest:g"))

    rows = [projection.apply(None, bare) for projection in (Keys(), History())]

    assert [None, HistoryRow(JOB, ERASED, KIND, None, "queued", BIRTH)] == rows


def test_what_happens_between_birth_and_end_does_not_touch_the_history() -> None:
    """
    An index entry is the same object after a start and after progress, so that nothing is written for them.
    """
    events = record((*RUNNING, told(Progressed(), percent=1.0)))
    before = rows_after(History(), events[:1])[JOB]

    rows = [History().apply(before, event) for event in events[1:]]

    assert all(row is before for row in rows)


def test_counts_count_by_type() -> None:
    """
    How many events of a type there were, and when the last was.
    """
    events = record((*RUNNING, told(Progressed(), percent=1.0), told(Progressed(), percent=2.0)))

    rows = rows_after(Counts(), events)

    assert Count(2, events[-1].at) == rows["job.progressed"]
    assert {"job.created", "job.started", "job.progressed"} == set(rows)


def test_a_projection_that_says_nothing_is_keyed_by_job() -> None:
    """
    ``key``, ``row_type`` and ``keeps`` are optional: then a row is a job's, anything, and kept.
    """
    (birth,) = record(QUEUED)

    assert JOB == row_key(Active())(birth)
    assert Any is row_type(Active())
    assert is_kept(Active())(None)
    assert "job.created" == row_key(Counts())(birth)
    assert Count is row_type(Counts())


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_over_any_history_the_views_are_what_the_jobs_say(steps: list[Step]) -> None:
    """
    Whatever happened, ``active``, ``keys`` and ``history`` are what folding each stream makes of each job.
    """
    world = play(steps)

    active, keys, history = (rows_after(projection, world.events) for projection in INLINE)

    erased = {event.job_id for event in world.events if isinstance(event.facts, Erased)}
    assert {key: job for key, job in world.jobs.items() if job.active} == active
    assert {key: row for job in world.jobs.values() for key, row in expected_key(job).items()} == keys
    remembered = {key: job for key, job in world.jobs.items() if key not in erased}
    streams = {key: [event for event in world.events if event.job_id == key] for key in remembered}
    assert {key: expected_history(job, streams[key]) for key, job in remembered.items()} == history
    living = {key: job for key, job in remembered.items() if job.active}
    assert {key: row for key, row in history.items() if not is_kept(History())(row)}.keys() == living.keys()
    assert {key: History().begun(job) for key, job in living.items()} == {
        key: replace(history[key], state=job.state) for key, job in living.items()
    }
    holders = [(row.owner, row.kind, row.key) for row in keys.values()]
    assert len(holders) == len(set(holders))


@settings(max_examples=50, deadline=None)
@given(STEPS)
def test_over_any_forgotten_history_states_and_times_stay(steps: list[Step]) -> None:
    """
    With every payload gone, the views still have the same states and times, and no key is held.
    """
    world = play(steps)

    events = [forgotten(event) for event in world.events]
    active, keys, history = (rows_after(projection, events) for projection in INLINE)

    assert {} == keys
    assert {key: job.state for key, job in world.jobs.items() if job.active} == {
        key: row.state for key, row in active.items()
    }
    for key, row in history.items():
        job = world.jobs[key]
        assert job.finished_at == row.finished_at
        assert job.active or job.state == row.state
