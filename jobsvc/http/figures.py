"""
Figures for operators and viewers: which worker holds which job, and what happened lately, step by step.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from jobsvc.domain.errors import InvalidCommand
from jobsvc.domain.moments import SECOND_US, rfc3339, rfc3339_or_none
from jobsvc.http.call import respond
from jobsvc.http.shapes import HeldJob, LengthsShown, LevelsShown, StatsAnswer, StatsStep, WorkersAnswer, WorkerShown
from jobsvc.resource import encode
from jobsvc.tally import DAY_S, HOUR_S, MINUTE_S, Interval, Lengths, Levels

if TYPE_CHECKING:
    from jobsvc.domain.job import Job
    from jobsvc.http.call import Call
    from jobsvc.http.reply import Response
    from jobsvc.http.service import Service

_LISTED_MAX: Final = 1_000


async def workers(call: Call) -> Response:
    """``GET /api/workers``: who holds what. Cost: about 2 µs a lease."""
    limit = call.whole_number("limit", default=100, least=0, most=_LISTED_MAX)
    service = call.service
    held = _held(service)
    waiting = service.ledger.worker_waiters.kinds
    answer = WorkersAnswer(
        workers=[_worker(name, jobs, service, limit=limit) for name, jobs in sorted(held.items())],
        leases=sum(map(len, held.values())),
        ready=service.ledger.ready,
        claims_waiting=len(waiting),
        waiting_for=dict(Counter(kind for kinds in waiting for kind in kinds or ("any",))),
    )
    return respond(encode(answer))


def _held(service: Service) -> dict[str, list[Job]]:
    """By worker, the jobs that it holds, the longest held first."""
    jobs = service.ledger.memory.jobs
    held: dict[str, list[Job]] = {}
    for job_id in service.ledger.leases:
        job = jobs.get(job_id)
        if job is not None:
            held.setdefault(job.worker or "", []).append(job)
    for of_one in held.values():
        of_one.sort(key=lambda job: job.started_at or 0)
    return held


def _worker(name: str, jobs: list[Job], service: Service, *, limit: int) -> WorkerShown:
    return WorkerShown(
        name, len(jobs), dict(Counter(job.kind for job in jobs)), [_job(job, service) for job in jobs[:limit]]
    )


def _job(job: Job, service: Service) -> HeldJob:
    return HeldJob(
        id=job.id,
        kind=job.kind,
        owner=job.owner,
        state=job.state,
        attempt=job.attempt,
        fence=job.fence,
        started_at=rfc3339_or_none(job.started_at),
        lease_expires_at=rfc3339_or_none(service.ledger.lease_of(job)),
        deadline=rfc3339_or_none(job.deadline),
    )


async def stats(call: Call) -> Response:
    """``GET /api/stats``: what happened in the last so many seconds, in steps."""
    window_s = call.whole_number("window_s", default=HOUR_S, least=1, most=DAY_S)
    step_s = call.whole_number("step_s", default=_default_step_s(window_s), least=1, most=DAY_S)
    if window_s > HOUR_S and step_s % MINUTE_S:
        message = "beyond an hour only minutes are kept: step_s is a multiple of 60"
        raise InvalidCommand(message, pointer="/step_s")
    call.service.gauge.look()
    tally, now = call.service.tally, call.service.ledger.now()
    steps = tally.steps(now, window_s, step_s=step_s)
    together = Interval()
    for _, interval in steps:
        together.merge(interval)
    answer = StatsAnswer(
        window_s=window_s,
        step_s=step_s,
        since=rfc3339(tally.since),
        until=rfc3339(now),
        position=call.service.ledger.memory.position,
        wrong=[one.says for one in call.service.rounds.findings],
        total=_shown(steps[0][0], together),
        steps=[_shown(begins_at, interval) for begins_at, interval in steps],
    )
    return respond(encode(answer))


def _default_step_s(window_s: int) -> int:
    """Sixty steps, more or less."""
    return max(1, window_s // 60) if window_s <= HOUR_S else MINUTE_S * max(1, window_s // HOUR_S)


def _shown(begins_at: int, interval: Interval) -> StatsStep:
    return StatsStep(
        at=rfc3339(begins_at),
        events=dict(interval.events),
        avoided=interval.avoided,
        waits=_lengths(interval.waits),
        runs=_lengths(interval.runs),
        levels=_levels(interval.levels),
    )


def _levels(levels: Levels | None) -> LevelsShown | None:
    return None if levels is None else LevelsShown(levels.streams, levels.stream_lag, levels.projection_lag)


def _lengths(lengths: Lengths) -> LengthsShown:
    return LengthsShown(
        count=lengths.count,
        mean_s=_seconds(lengths.sum_us // lengths.count if lengths.count else 0),
        p50_s=_seconds(lengths.within_us(0.5)),
        p95_s=_seconds(lengths.within_us(0.95)),
        max_s=_seconds(lengths.max_us),
    )


def _seconds(length_us: int) -> float:
    return length_us / SECOND_US
