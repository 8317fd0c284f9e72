"""
What the client makes of breaks, refusals and silence, against a service that follows a script.
"""

import contextlib
from collections.abc import AsyncIterator

import pytest

from jobsvc.client import Change, Client, Ended, Problem, Ready, Snapshot, Told, Unreachable, digest
from tests.system.scripted import (
    Scripted,
    answers,
    change,
    frame,
    hello,
    is_cut,
    job,
    refuses,
    scripted_service,
    snapshot,
    streams,
)

STREAM = "/api/stream"


@pytest.fixture
async def service() -> AsyncIterator[Scripted]:
    """
    A scripted service.
    """
    async with scripted_service() as scripted:
        yield scripted


async def _told(client: Client, count: int, *, after: str | None = None) -> list[Told]:
    """
    The first *count* things that a watch tells.
    """
    told: list[Told] = []
    async with contextlib.aclosing(client.watch(after=after)) as stream:
        async for each in stream:
            told.append(each)
            if len(told) == count:
                break
    return told


def _cursors(service: Scripted) -> list[str | None]:
    return [headers.get("Last-Event-ID") for headers, _ in service.came(STREAM)]


async def test_a_cut_stream_goes_on_from_the_last_frame(service: Scripted) -> None:
    """
    After a break the client asks for what comes after the last whole frame, and tells nothing twice.
    """
    first = streams(hello(), snapshot(1, job()), change(2, job(version=2)), "event: job\nid: e.3\nda", then="cut")
    service.script(STREAM, first, streams(hello(), change(3, job(version=3)), then="silent"))

    async with Client(service.url) as client:
        told = await _told(client, 3)

    assert [None, "e.2"] == _cursors(service)
    assert [2, 3] == [each.position for each in told if isinstance(each, Change)]


async def test_the_parts_of_a_snapshot_are_told_as_one(service: Scripted) -> None:
    """
    A snapshot that is cut in the middle is not told at all, and begins again.
    """
    cut = streams(hello(), snapshot(5, job("a"), more=True), then="cut")
    whole = streams(hello(), snapshot(6, job("b"), more=True), snapshot(6, job("c")), then="silent")
    service.script(STREAM, cut, whole)

    async with Client(service.url) as client:
        [told] = await _told(client, 1)

    assert isinstance(told, Snapshot)
    assert (["b", "c"], "e.6") == ([each.id for each in told.jobs], told.cursor)
    assert [None, None] == _cursors(service)


async def test_a_reset_forgets_the_cursor(service: Scripted) -> None:
    """
    Where the service no longer knows the place, the snapshot it sends is what counts.
    """
    reset = frame("reset", {"reason": "too-old", "requested": "e.1"})
    service.script(STREAM, streams(hello(), reset, snapshot(9), frame("ready", {"cursor": "e.9"}, cursor="e.9")))

    async with Client(service.url) as client:
        told = await _told(client, 2, after="e.1")

    assert [Snapshot(jobs=(), cursor="e.9"), Ready(cursor="e.9")] == told
    assert ["e.1"] == _cursors(service)


async def test_a_silent_stream_is_given_up(service: Scripted) -> None:
    """
    A connection that lives but carries nothing for two and a half heartbeats is replaced.
    """
    silent = streams(hello(heartbeat_s=0.02), change(1, job()), then="silent")
    service.script(STREAM, silent, streams(hello(), change(2, job(version=2)), then="silent"))

    async with Client(service.url) as client:
        told = await _told(client, 2)

    assert [1, 2] == [each.position for each in told if isinstance(each, Change)]
    assert [None, "e.1"] == _cursors(service)


async def test_a_goodbye_is_followed_after_the_pause_it_names(service: Scripted) -> None:
    """
    A service that goes away says when to come back, and the stream goes on from where it was.
    """
    bye = frame("bye", {"reason": "drain"}, retry_ms=5)
    service.script(STREAM, streams(hello(), change(1, job()), bye), streams(hello(), change(2, job(version=2))))

    async with Client(service.url) as client:
        told = await _told(client, 2)

    assert [1, 2] == [each.position for each in told if isinstance(each, Change)]


async def test_a_heartbeat_moves_the_cursor(service: Scripted) -> None:
    """
    A stream that was idle for long does not go back to its last event.
    """
    beat = frame("hb", {"cursor": "e.70", "digest": digest({})}, cursor="e.70")
    service.script(STREAM, streams(hello(), snapshot(1), beat), streams(hello(), change(71, job())))

    async with Client(service.url) as client:
        await _told(client, 2)

    assert [None, "e.70"] == _cursors(service)


async def test_a_digest_that_does_not_agree_brings_a_new_snapshot(service: Scripted) -> None:
    """
    If something got lost nobody knows how, the next heartbeat finds out, and all is told anew.
    """
    beat = frame("hb", {"cursor": "e.5", "digest": digest({"j1": 4})}, cursor="e.5")
    wrong = streams(hello(), snapshot(1, job()), change(2, job(version=2)), beat, then="silent")
    service.script(STREAM, wrong, streams(hello(), snapshot(5, job(version=4)), then="silent"))

    async with Client(service.url) as client:
        told = await _told(client, 3)

    last = told[-1]
    assert isinstance(last, Snapshot)
    assert [4] == [each.version for each in last.jobs]
    assert [None, None] == _cursors(service)


async def test_a_digest_that_agrees_changes_nothing(service: Scripted) -> None:
    """
    Ended jobs leave the digest, active ones are in it as they stand.
    """
    beat = frame("hb", {"cursor": "e.5", "digest": digest({"b": 2})}, cursor="e.5")
    ended = change(3, job("a", version=2, state="completed"), "job.completed")
    frames = (hello(), snapshot(2, job("a"), job("b")), ended, change(4, job("b", version=2)), beat)
    service.script(STREAM, streams(*frames, change(6, job("b", version=3)), then="silent"))

    async with Client(service.url) as client:
        told = await _told(client, 4)

    assert isinstance(told[-1], Change)
    assert [None] == _cursors(service)


async def test_a_jobs_own_stream_ends_with_the_job(service: Scripted) -> None:
    """
    The watch of one job is over when the job is, with its last state.
    """
    done = job(version=2, state="completed", result={"n": 1})
    end = frame("end", {"job": done}, cursor="e.2")
    service.script("/api/jobs/j1/events", streams(hello(), change(2, done, "job.completed"), end))

    async with Client(service.url) as client:
        told = [each async for each in client.watch_job("j1")]

    assert isinstance(told[-1], Ended)
    assert {"n": 1} == told[-1].job.result
    assert 1 == len(service.requests)


async def test_no_content_means_that_it_is_over(service: Scripted) -> None:
    """
    A stream whose job ended before the cursor ends at once, without an error.
    """
    service.script("/api/jobs/j1/events", answers(None, status=204))

    async with Client(service.url) as client:
        told = [each async for each in client.watch_job("j1", after="e.9")]

    assert [] == told


@pytest.mark.parametrize(("status", "code"), [(401, "unauthenticated"), (403, "access-denied"), (404, "not-found")])
async def test_a_refused_stream_is_an_error(service: Scripted, status: int, code: str) -> None:
    """
    Who may not watch is told so, and the client does not try for ever.
    """
    service.script(STREAM, refuses(status, code))

    async with Client(service.url, token="t") as client:
        with pytest.raises(Problem) as refused:
            await _told(client, 1)

    assert code == refused.value.code
    assert 1 == len(service.requests)


async def test_an_expired_token_is_asked_for_again_once(service: Scripted) -> None:
    """
    Where the token comes from a function, a 401 asks it for a new one, for requests and for streams.
    """
    tokens = iter(["old", "new", "newer"])
    service.script(STREAM, refuses(401, "unauthenticated"), streams(hello(), change(1, job()), then="silent"))
    service.script("/api/jobs/j1", refuses(401, "unauthenticated"), answers({"job": job()}))

    async with Client(service.url, token=lambda: next(tokens)) as client:
        await _told(client, 1)
        await client.get("j1")

    sent = [headers["Authorization"] for _, headers, _ in service.requests]
    assert ["Bearer old", "Bearer new", "Bearer new", "Bearer newer"] == sent


async def test_a_lost_answer_to_a_create_is_asked_for_again_with_the_same_key(service: Scripted) -> None:
    """
    A create whose answer got lost is sent again under one Idempotency-Key, so that it makes one job.
    """
    created = {"job": job(), "deduplicated": False, "dedup_reason": None, "cursor": "e.1"}
    service.script("/api/jobs", is_cut(), refuses(503, "draining"), answers(created, status=201))

    async with Client(service.url) as client:
        submitted = await client.create_or_attach("x-post", url="https://x.com/a/status/1")

    keys = {headers["Idempotency-Key"] for headers, _ in service.came("/api/jobs")}
    assert "j1" == submitted.job.id
    assert 3 == len(service.requests)
    assert 1 == len(keys)


async def test_a_refusal_is_not_repeated_and_carries_all_that_was_said(service: Scripted) -> None:
    """
    A problem says what is wrong in a form that programs can read.
    """
    more = {"detail": "It runs.", "request_id": "r1", "job": job(), "errors": [{"pointer": "/x", "message": "no"}]}
    service.script("/api/jobs", refuses(409, "duplicate-job", **more))

    async with Client(service.url) as client:
        with pytest.raises(Problem, match="409 duplicate-job: It runs") as refused:
            await client.create("x-post", url="https://x.com/a/status/1")

    problem = refused.value
    assert ("r1", "no") == (problem.request_id, problem.errors[0]["message"])
    assert problem.job is not None
    assert "j1" == problem.job.id
    [(_, body)] = service.came("/api/jobs")
    assert {"on_active": "reject"} == body["dedup"]


async def test_patience_ends(service: Scripted) -> None:
    """
    A service that never answers is reported as such, after as long as the caller would wait.
    """
    service.script("/api/jobs/j1", is_cut())

    async with Client(service.url, patience_s=0) as client:
        with pytest.raises(Unreachable, match="GET /api/jobs/j1"):
            await client.get("j1")


async def test_a_page_of_a_proxy_is_a_problem_too(service: Scripted) -> None:
    """
    What is no JSON at all is told by its status.
    """
    service.script("/api/jobs/j1", answers("<html>", status=400))

    async with Client(service.url) as client:
        with pytest.raises(Problem) as refused:
            await client.get("j1")

    assert (400, "unknown") == (refused.value.status, refused.value.code)


async def test_a_batch_tells_each_outcome_in_order(service: Scripted) -> None:
    """
    One refused job of a batch is a problem in its place.
    """
    results = [{"status": 201, "job": job("a")}, {"status": 422, "code": "invalid"}, {"status": 200, "job": job("b")}]
    service.script("/api/jobs/batch", answers({"results": results}))

    async with Client(service.url) as client:
        first, second, third = await client.create_batch([{"kind": "k"}, {"kind": "!"}, {"kind": "k"}])

    assert isinstance(second, Problem)
    assert "invalid" == second.code
    assert not isinstance(first, Problem)
    assert not isinstance(third, Problem)
    assert ("a", "b") == (first.job.id, third.job.id)
