"""
Every order in which two workers, the clock and the front end can act on one job, walked to the end.

Breadth first, with a memory of the situations that were seen: what of a job decides its future, and what each worker
still holds in its hand. Fences are kept as "the current one" or "an older one", since the domain compares and never
counts them; that makes the walk finite though a job may be claimed and released for ever.
"""

from __future__ import annotations

from collections import deque
from itertools import product
from typing import TYPE_CHECKING, Final, NamedTuple, get_args

from jobsvc.domain import commands as c
from jobsvc.domain.decider import decide
from jobsvc.domain.decisions.decision import Situation
from jobsvc.domain.errors import Rejected
from jobsvc.domain.events import Event, Terms
from jobsvc.domain.job import Job, fold
from jobsvc.domain.machine import LATE_RESULTS_MAX, LOST_LEASES_MAX, Case, fire
from jobsvc.domain.words import State
from tests.unit.specification import (
    JOB,
    NOW,
    SPARE,
    cancel,
    clean_up,
    complete,
    create,
    created,
    fail,
    heartbeat,
    progress,
    record,
    release,
    start,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

ATTEMPTS_MAX: Final = 3
WORKERS: Final = (0, 1)

FENCE_RISES: Final = {
    "job.started",
    "job.attempt_failed",
    "job.released",
    "job.failed",
    "job.cancelled",
    "job.expired",
}


class Scene(NamedTuple):
    """
    A job, all that happened to it, and the fence of the lease that each worker was granted last (0 for none).
    """

    job: Job
    events: tuple[Event, ...]
    held: tuple[int, int]


def essence(scene: Scene) -> tuple[object, ...]:
    """
    What decides all that can follow: two scenes of one essence have one future.
    """
    job = scene.job
    hands = tuple((fence > 0) + (fence == job.fence > 0) for fence in scene.held)
    return (job.state, job.attempt, job.lost_leases, job.late_digests, job.followup is None, *hands)


def moves(scene: Scene) -> Iterator[tuple[c.JobCommand, int | None]]:
    """
    Every command that anybody may give now, and which worker gives it.
    """
    for worker in WORKERS:
        fence, digest = scene.held[worker], f"w{worker}"
        yield start(worker=f"w{worker}"), worker
        yield heartbeat(fence=fence), worker
        yield progress(fence=fence), worker
        yield complete(fence=fence, digest=digest), worker
        yield fail(fence=fence, digest=digest, retry_after_us=0), worker
        yield fail(fence=fence, digest=digest, retryable=False), worker
        yield release(fence=fence, digest=digest), worker
    yield from ((command, None) for command in (c.Lapse(JOB), c.ComeDue(JOB), c.EndGrace(JOB), c.Expire(JOB)))
    yield from ((command, None) for command in (cancel(), cancel(force=True), clean_up(), clean_up(force=True)))
    for on_active in ("replace", "run_after"):
        yield create(dedup=c.Dedup(on_active=on_active)), None


def after(scene: Scene, command: c.JobCommand, *, worker: int | None, lease_live: bool) -> Scene:
    """
    The scene once *command* was decided; the same one if it was refused.
    """
    holder = scene.job if scene.job.active else None
    # The clock stands, but far behind the grace of any cancel, so that a grace may end at any time.
    situation = Situation(now=NOW, spare_id=SPARE, job=scene.job, holder=holder, lease_live=lease_live)
    try:
        decision = decide(command, situation)
    except Rejected:
        return scene
    events, job = scene.events, scene.job
    for new in decision.events:
        if new.job_id == JOB:
            event = Event(job.version + 1, JOB, job.version + 1, NOW, new.facts, new.payload)
            check_step(job, fold([event], job), event)
            events, job = (*events, event), fold([event], job) or job
    if events is scene.events:
        return scene
    held = scene.held
    if isinstance(command, c.Start) and worker is not None:
        held = (job.fence, held[1]) if worker == 0 else (held[0], job.fence)
    return Scene(job, events, held)


def check_step(before: Job, after_it: Job | None, event: Event) -> None:
    """
    Terminal is for ever, and the fence rises where the contract says so and falls nowhere.
    """
    assert after_it is not None
    if not before.active:
        assert before.state == after_it.state
        assert event.type == "job.late_result"
    if event.type in FENCE_RISES:
        assert before.fence < after_it.fence
    else:
        assert before.fence == after_it.fence


def check_scene(scene: Scene) -> None:
    """
    Never two current leases, counts within their bounds, and the log adds up to the job.
    """
    job = scene.job
    for trigger in ("heartbeat", "complete", "fail"):
        current = [fence for fence in scene.held if fire(trigger, Case(job, NOW, fence=fence, retry_at=NOW))]
        assert len(current) <= 1, (trigger, scene)
    assert 0 <= job.attempt <= ATTEMPTS_MAX
    assert 0 <= job.lost_leases <= LOST_LEASES_MAX
    assert len(set(job.late_digests)) == len(job.late_digests) <= LATE_RESULTS_MAX
    assert job.active == (job.finished_at is None)
    assert job == fold(scene.events)


def walk(*, start_at: Scene) -> dict[tuple[object, ...], Scene]:
    """
    One scene of each essence that can be reached.
    """
    seen, frontier = {essence(start_at): start_at}, deque([start_at])
    while frontier:
        scene = frontier.popleft()
        for (command, worker), lease_live in product(moves(scene), (False, True)):
            following = after(scene, command, worker=worker, lease_live=lease_live)
            if following is not scene:
                check_scene(following)
            if essence(following) not in seen:
                seen[essence(following)] = following
                frontier.append(following)
    return seen


def newborn(*, deadline: int | None = None) -> Scene:
    """
    A job that nobody has touched.
    """
    events = tuple(record((created(Terms(max_attempts=ATTEMPTS_MAX), deadline=deadline),)))
    job = fold(events)
    assert job is not None
    return Scene(job, events, (0, 0))


def test_no_order_of_events_breaks_the_promises() -> None:
    """
    Two workers, three attempts, the sweeper and the front end in every order: one lease, one end, a log that adds up.
    """
    scene = newborn()

    seen = walk(start_at=scene)

    states = {each.job.state for each in seen.values()}
    assert set(get_args(State)) - {"scheduled"} == states
    assert set(range(LOST_LEASES_MAX + 1)) == {each.job.lost_leases for each in seen.values()}
    assert set(range(ATTEMPTS_MAX + 1)) == {each.job.attempt for each in seen.values()}
    assert 1_000 < len(seen)


def test_an_overdue_job_goes_nowhere_but_to_an_end() -> None:
    """
    Past its deadline a job is never started and never tried again, in whatever order things happen.
    """
    scene = newborn(deadline=NOW)

    seen = walk(start_at=scene)

    assert {"queued", "cancelled", "expired"} == {each.job.state for each in seen.values()}
