"""
What the worker SDK makes of lost answers, lost leases and refusals, against a service that follows a script.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web

from jobsvc.client import Problem
from jobsvc.worker import JobCancelled, JobFailed, Work, Worker
from tests.system.scripted import OVER, Scripted, Turn, answers, is_cut, job, refuses, scripted_service

CLAIM = "/api/worker/claim"
REPORTS = "/api/worker/reports"


@pytest.fixture
async def service() -> AsyncIterator[Scripted]:
    """
    A scripted service that accepts every report.
    """
    async with scripted_service() as scripted:
        scripted.script(REPORTS, _accepts())
        yield scripted


def _grants(*job_ids: str) -> Turn:
    jobs = [{"job": job(each, state="running"), "lease_token": f"1.{each}", "fence": 1} for each in job_ids]
    return answers({"jobs": jobs})


async def _waits(request: web.Request) -> web.StreamResponse:
    """
    A claim that is held, since there are no jobs; one that does not want to be held is answered at once.
    """
    if (await request.json())["wait_s"]:
        await request.app[OVER].wait()
    return web.Response(status=204)


def _accepts(**said: object) -> Turn:
    """
    A turn that answers each report with 200 and *said*.
    """

    async def turn(request: web.Request) -> web.StreamResponse:
        count = len(msgspec.json.decode(await request.read())["reports"])
        return web.Response(body=msgspec.json.encode({"results": [{"status": 200, **said}] * count}))

    return turn


def _reports(service: Scripted) -> list[dict[str, Any]]:
    return [report for _, body in service.came(REPORTS) for report in body["reports"]]


def _ends(service: Scripted) -> list[tuple[str, str]]:
    verbs = {"complete", "fail", "release"}
    return [(each["job_id"], each["report"]) for each in _reports(service) if each["report"] in verbs]


def _worker(service: Scripted, handler: Callable[[Work], Any], *, lease_s: float = 30, concurrency: int = 4) -> Worker:
    worker = Worker(
        service.url, token="t", name="w1", grace_s=0.2, progress_s=0.01, lease_s=lease_s, concurrency=concurrency
    )
    worker.handles("x-post")(handler)
    return worker


async def _until(condition: Callable[[], object], running: asyncio.Task[None]) -> None:
    """
    The condition holds; the test's own time limit is what bounds the wait.
    """
    while not condition() and not running.done():  # noqa: ASYNC110  # the worker tells nobody but the service
        await asyncio.sleep(0.005)


async def _run_until(worker: Worker, condition: Callable[[], object]) -> None:
    running = asyncio.create_task(worker.run())
    await _until(condition, running)
    worker.stop()
    await running


async def test_a_result_is_reported_with_the_last_progress_before_it(service: Scripted) -> None:
    """
    What the handler returns completes the job, after the progress that it said last.
    """
    service.script(CLAIM, _grants("a"), _waits)

    async def handler(work: Work) -> dict[str, int]:
        work.progress(10, "begun")
        work.progress(90, "nearly", progress_data={"n": 1})
        return {"n": 2}

    await _run_until(_worker(service, handler), lambda: _ends(service))

    progress, complete = _reports(service)
    assert ("progress", 90, "nearly", {"n": 1}) == tuple(
        progress[name] for name in ("report", "percent", "message", "data")
    )
    assert ("complete", {"n": 2}, "1.a") == tuple(complete[name] for name in ("report", "result", "lease_token"))


async def test_a_plain_function_runs_in_a_thread_and_can_report_progress(service: Scripted) -> None:
    """
    A handler that blocks does not hold up the worker.
    """
    service.script(CLAIM, _grants("a"), _waits)
    threads = []

    def handler(work: Work) -> str:
        work.progress(50)
        threads.append(threading.current_thread())
        return "done"

    await _run_until(_worker(service, handler), lambda: _ends(service))

    assert threads[0] is not threading.main_thread()
    assert [("a", "complete")] == _ends(service)


async def test_the_same_report_is_sent_until_it_is_answered(service: Scripted) -> None:
    """
    A lost answer, and a service that cannot answer now, bring the very same report again.
    """
    service.script(CLAIM, _grants("a"), _waits)
    busy = answers({"results": [{"status": 503, "code": "unavailable"}]})
    service.script(REPORTS, is_cut(), refuses(503, "draining"), busy, _accepts())

    async def handler(_work: Work) -> int:
        return 1

    await _run_until(_worker(service, handler), lambda: 4 == len(service.came(REPORTS)))

    assert 4 == len(_reports(service))
    assert all(_reports(service)[0] == report for report in _reports(service))


async def test_a_lost_answer_to_a_claim_is_asked_for_again_with_the_same_id(service: Scripted) -> None:
    """
    Jobs that were granted in an answer that got lost are the ones that come; the next claim has another id.
    """
    service.script(CLAIM, is_cut(), _grants("a"), _waits)

    async def handler(_work: Work) -> int:
        return 1

    await _run_until(_worker(service, handler), lambda: _ends(service) and 3 == len(service.came(CLAIM)))

    first, second, third, *_ = [body["claim_id"] for _, body in service.came(CLAIM)]
    assert first == second
    assert second != third


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            JobFailed("gone", code="post-gone", retryable=False),
            {"error": {"code": "post-gone", "message": "gone"}, "retryable": False},
        ),
        (
            JobFailed("later", retry_after_s=7),
            {"error": {"code": "failed", "message": "later"}, "retryable": True, "retry_after_s": 7},
        ),
        (ValueError("odd"), {"error": {"code": "handler_error", "message": "ValueError: odd"}, "retryable": True}),
    ],
)
async def test_what_a_handler_raises_fails_the_attempt(
    service: Scripted, error: Exception, expected: dict[str, object]
) -> None:
    """
    A failure says what the handler said; anything else that is raised can be tried again.
    """
    service.script(CLAIM, _grants("a"), _waits)

    async def handler(_work: Work) -> None:
        raise error

    await _run_until(_worker(service, handler), lambda: _ends(service))

    [report] = _reports(service)
    assert {"job_id": "a", "lease_token": "1.a", "report": "fail", **expected} == report


async def test_a_result_that_is_no_json_fails_the_attempt(service: Scripted) -> None:
    """
    A handler that returns what cannot be sent does not take the worker down.
    """
    service.script(CLAIM, _grants("a"), _waits)

    async def handler(_work: Work) -> object:
        return object()

    await _run_until(_worker(service, handler), lambda: _ends(service))

    assert [("a", "fail")] == _ends(service)


async def test_a_result_that_is_too_large_fails_for_good_and_leaves_its_neighbours(service: Scripted) -> None:
    """
    Reports that do not fit into one request go apart; one that fits nowhere becomes a failure that says so.
    """
    service.script(CLAIM, _grants("big", "small"), _waits)

    async def bounded(request: web.Request) -> web.StreamResponse:
        body = msgspec.json.decode(await request.read())
        if len(body["reports"]) > 1 or body["reports"][0].get("result") == "big":
            return await refuses(413, "too-large")(request)
        return await _accepts()(request)

    service.script(REPORTS, bounded)

    async def handler(work: Work) -> str:
        return work.job.id

    await _run_until(_worker(service, handler), lambda: ("big", "fail") in _ends(service))

    assert "result_refused" == _reports(service)[-1]["error"]["code"]
    assert ("small", "complete") in _ends(service)


async def test_a_job_in_hand_is_kept_by_heartbeats(service: Scripted) -> None:
    """
    A handler that says nothing still has its lease renewed, three times a lease.
    """
    service.script(CLAIM, _grants("a"), _waits)
    beats = asyncio.Event()

    async def handler(_work: Work) -> int:
        await beats.wait()
        return 1

    worker = _worker(service, handler, lease_s=0.06)
    running = asyncio.create_task(worker.run())
    await _until(lambda: 2 <= len(_reports(service)), running)
    beats.set()
    await _until(lambda: _ends(service), running)
    worker.stop()
    await running

    assert ["heartbeat", "heartbeat"] == [report["report"] for report in _reports(service)[:2]]


async def test_a_cancel_reaches_an_async_handler_where_it_waits(service: Scripted) -> None:
    """
    A job that somebody cancelled is let go at once.
    """
    service.script(CLAIM, _grants("a"), _waits)
    service.script(REPORTS, _accepts(cancel_requested=True))

    async def handler(work: Work) -> None:
        work.progress(1)
        await asyncio.Event().wait()

    await _run_until(_worker(service, handler), lambda: _ends(service))

    assert [("a", "release")] == _ends(service)


async def test_a_cancel_reaches_a_plain_handler_at_its_next_progress(service: Scripted) -> None:
    """
    A thread that looks now and then stops when its job is cancelled.
    """
    service.script(CLAIM, _grants("a"), _waits)
    service.script(REPORTS, _accepts(cancel_requested=True))
    stopped = threading.Event()

    def handler(work: Work) -> None:
        try:
            while not stopped.wait(0.005):
                work.progress(1)
        except JobCancelled:
            stopped.set()
            raise

    await _run_until(_worker(service, handler), lambda: _ends(service))

    assert stopped.is_set()
    assert [("a", "release")] == _ends(service)


async def test_a_lost_lease_ends_the_work_without_a_word(service: Scripted) -> None:
    """
    A job that another worker has is neither worked on nor reported on any more.
    """
    service.script(CLAIM, _grants("a"), _waits)
    service.script(REPORTS, answers({"results": [{"status": 409, "code": "lease-lost"}]}))
    ended = asyncio.Event()

    async def handler(work: Work) -> None:
        work.progress(1)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    await _run_until(_worker(service, handler), ended.is_set)

    assert ["progress"] == [report["report"] for report in _reports(service)]


async def test_no_more_is_claimed_than_can_be_worked_on(service: Scripted) -> None:
    """
    A claim asks for as many jobs as there is room for, and none is made without room.
    """
    service.script(CLAIM, _grants("a", "b"), _grants("c"), _waits)
    goes_on = asyncio.Event()

    async def handler(_work: Work) -> int:
        await goes_on.wait()
        return 1

    worker = _worker(service, handler, concurrency=3)
    running = asyncio.create_task(worker.run())
    await _until(lambda: 3 == len(worker.held), running)
    assert [3, 1] == [body["max"] for _, body in service.came(CLAIM)]
    goes_on.set()
    await _until(lambda: 3 == len(_ends(service)), running)
    worker.stop()
    await running

    assert 3 == service.came(CLAIM)[-1][1]["max"]


async def test_stopping_lets_handlers_finish_and_releases_the_rest(service: Scripted) -> None:
    """
    A worker that is stopped completes what it can within its grace, and gives back what it cannot.
    """
    service.script(CLAIM, _grants("quick", "slow"), _waits)
    begun = asyncio.Event()

    async def handler(work: Work) -> str:
        begun.set()
        await (asyncio.sleep(0.02) if work.job.id == "quick" else asyncio.Event().wait())
        return "done"

    await _run_until(_worker(service, handler), begun.is_set)

    assert {("quick", "complete"), ("slow", "release")} == set(_ends(service))


async def test_stopping_ends_even_if_the_service_does_not_answer(service: Scripted) -> None:
    """
    A worker whose service is gone stops all the same; the leases lapse by themselves.
    """
    service.script(CLAIM, _grants("a"), _waits)
    service.script(REPORTS, is_cut())

    async def handler(_work: Work) -> int:
        return 1

    await _run_until(_worker(service, handler), lambda: service.came(REPORTS))

    assert [("a", "complete")] == list(dict.fromkeys(_ends(service)))


async def test_a_worker_that_is_refused_stops_with_the_reason(service: Scripted) -> None:
    """
    A token that may not claim is an error to whoever started the worker.
    """
    service.script(CLAIM, refuses(403, "access-denied"))

    with pytest.raises(Problem, match="403 access-denied"):
        await _worker(service, lambda _work: None).run()


async def test_a_worker_whose_reports_are_refused_stops_with_the_reason(service: Scripted) -> None:
    """
    A token that runs out in the middle of the work is an error to whoever started the worker.
    """
    service.script(CLAIM, _grants("a"), _waits)
    service.script(REPORTS, refuses(401, "unauthenticated"))

    async def handler(_work: Work) -> int:
        return 1

    with pytest.raises(Problem, match="401 unauthenticated"):
        await _worker(service, handler).run()
