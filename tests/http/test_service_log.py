from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from jobsvc.http.problems import STATUS_OF_CODE
from jobsvc.http.server import Server
from jobsvc.http.told import PUT_OFF

if TYPE_CHECKING:
    from jobsvc.http.request import Request
    from tests.http.conftest import LogLines, Starter
    from tests.http.world import World

CANARY = "canary-51b7"


def events(lines: LogLines) -> list[str]:
    """
    The events of the lines, in order.
    """
    return [line["event"] for line in lines()]


async def test_a_batch_of_successes_is_one_line_with_its_requests(world: World, log_lines: LogLines) -> None:
    """
    What was asked for together stands in one line: the requests, an attach among them, and the events by type.
    """
    asked = [world.guest.create(key=key, headers={"X-Request-Id": f"visit-{key}"}) for key in "aab"]
    await asyncio.gather(*asked)

    lines = [line for line in log_lines() if line["event"] == "ledger.answered"]
    assert ["visit-a", "visit-a", "visit-b"] == sorted(one for line in lines for one in line["request_ids"])
    assert 2 == sum(line.get("types", {}).get("job.created", 0) for line in lines)
    assert 2 == lines[-1]["position"]
    assert len(lines) <= 3


async def test_the_answer_the_line_and_the_event_have_one_request_id(world: World, log_lines: LogLines) -> None:
    """
    From any of the three the others are found.
    """
    answer = await world.guest.create()

    [line] = log_lines()
    (event,) = await world.log()
    assert [answer.headers["X-Request-Id"]] == line["request_ids"]
    assert answer.headers["X-Request-Id"] == event["request_id"]


async def test_a_refusal_is_one_line(world: World, log_lines: LogLines) -> None:
    """
    With code, method, route pattern, role, request id and time taken, and no success beside it.
    """
    job = await world.guest.made()
    before = len(log_lines())

    answer = await world.stranger.cancel(job["id"])

    [line] = log_lines()[before:]
    assert line.pop("duration_ms") > 0
    del line["at"]
    assert {
        "level": "info",
        "event": "request.refused",
        "code": "access-denied",
        "method": "POST",
        "route": "/api/jobs/{id}/cancel",
        "role": "guest",
        "request_id": answer.headers["X-Request-Id"],
    } == line


async def test_a_method_and_a_path_of_the_caller_s_own_are_not_repeated(world: World, log_lines: LogLines) -> None:
    """
    A method that nothing here takes is another, and a path that there is not has no route.
    """
    await world.guest.send("PROPFIND", "/api/jobs")
    await world.guest.get("/of/my/own")

    told = [(line["code"], line["method"], line.get("route")) for line in log_lines()]
    assert [("method-not-allowed", "other", "/api/jobs"), ("not-found", "GET", None)] == told


async def test_who_has_to_come_back_is_a_warning(start: Starter, log_lines: LogLines) -> None:
    """
    A bound that is reached is told as someone who waits.
    """
    world = await start(active_per_owner_max=1)
    await world.guest.made()

    answer = await world.guest.create()

    assert 429 == answer.status
    line = log_lines()[-1]
    assert ("request.put_off", "warning", "too-many-active") == (line["event"], line["level"], line["code"])


def test_every_problem_that_tells_a_time_to_come_back_is_a_warning() -> None:
    """
    429 and 503, and no other.
    """
    assert {code for code, status in STATUS_OF_CODE.items() if status in {429, 503}} == PUT_OFF


async def test_refused_parts_of_a_request_are_one_line_a_code(world: World, log_lines: LogLines) -> None:
    """
    A batch whose answer is 200 hides nothing.
    """
    good, odd = {"kind": "work"}, {"kind": "work", "odd": 1}

    answer = await world.guest.post("/api/jobs/batch", {"jobs": [good, odd, odd]})

    assert [201, 422, 422] == [one["status"] for one in answer.body["results"]]
    (line,) = (line for line in log_lines() if line["event"] == "request.refused")
    assert ("invalid", 2, "/api/jobs/batch") == (line["code"], line["count"], line["route"])
    metrics = (await world.viewer.get("/metrics")).content.decode()
    assert 'jobsvc_refusals_total{code="invalid"} 2.0' in metrics


async def test_an_answer_for_which_nobody_is_there_is_no_fault_of_ours(world: World, log_lines: LogLines) -> None:
    """
    A connection that went while its request was handled is closed, and no line asks to report it.
    """

    async def gone(request: Request) -> web.StreamResponse:
        raise ConnectionResetError(request.path)

    runner = web.ServerRunner(Server(gone, world.service))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]

    with pytest.raises(aiohttp.ServerDisconnectedError):
        await world.session.post(f"http://127.0.0.1:{port}/api/worker/claim")
    await runner.cleanup()

    assert [] == events(log_lines)


async def test_a_flood_of_refusals_is_no_flood_of_lines(world: World, log_lines: LogLines) -> None:
    """
    However many come, few lines are written and the others counted.
    """
    for _ in range(10):
        await asyncio.gather(*(world.nobody.get("/api/jobs") for _ in range(50)))
    await asyncio.sleep(1)  # The next second of the wall clock, by which lines are counted.
    await world.guest.made()

    written = events(log_lines).count("request.refused")
    left_out = sum(line["count"] for line in log_lines() if line["event"] == "log.left_out")
    assert written < 400
    assert 500 == written + left_out


async def test_no_line_holds_what_a_caller_sent(
    world: World, log_lines: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Every field, header, path and query of every door holds a canary, faults and what is not HTTP too; no line has it.
    """
    await _sing(world)

    async def fail(*_: object) -> None:
        raise RuntimeError(CANARY) from KeyError(CANARY)

    monkeypatch.setattr(world.service.ledger, "execute", fail)
    assert 500 == (await world.guest.create(key=CANARY)).status

    assert {"ledger.answered", "request.refused", "request.failed", "operator.acted"} <= {*events(log_lines)}
    assert "library.message" not in events(log_lines)
    assert CANARY not in json.dumps(log_lines())
    assert world.guest.token is not None
    assert world.guest.token.rpartition(".")[2] not in json.dumps(log_lines())


async def _sing(world: World) -> None:
    """
    Everybody has sent the canary everywhere.
    """
    headers = {"Cookie": f"jobsvc={CANARY}", "User-Agent": CANARY, "Idempotency-Key": CANARY, "X-Odd": CANARY}
    full = {"key": CANARY, "title": CANARY, "input": CANARY, "metadata": {CANARY: CANARY}}
    url = f"https://example.org/{CANARY}"
    for who in (world.guest, world.backend, world.operator):
        owner = {} if who is world.guest else {"owner": f"user:{CANARY}"}
        assert {200, 201} & {(await who.create(headers=headers, url=url, **full, **owner)).status}
        for odd in ({"kind": CANARY.upper()}, {CANARY: 1}, {"priority": CANARY}, {"url": CANARY}, {"run_at": CANARY}):
            assert 422 == (await who.create(**({"kind": "work"} | odd | owner))).status
        for path in (f"/api/jobs/{CANARY}", f"/{CANARY}", f"/api/jobs/active?kind={CANARY}&url={CANARY}"):
            await who.get(path, headers=headers)
            await who.post(path, {CANARY: CANARY})
        await who.send(CANARY.upper(), "/api/jobs")
        await who.post(f"/api/projections/{CANARY}/rebuild", {"reason": 1})
    for _ in range(2):
        grant = await world.worker.claim(worker=CANARY, claim_id=CANARY)
        await world.worker.report(grant, "progress", percent=1, message=CANARY, data={CANARY: CANARY})
        await world.worker.report(grant, "fail", error={"code": CANARY, "message": CANARY}, retryable=False)
        await world.worker.report(grant, "complete", result=CANARY)
    await world.with_token(CANARY).get("/api/jobs")
    await world.nobody.get(f"/api/stream?after={CANARY}", headers={"Last-Event-ID": CANARY})
    await world.guest.get("/api/stream", wait_s=0, after=CANARY)
    await _say(world, f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization {CANARY}\r\n\r\n")
    await _say(world, f"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {CANARY}\r\n\r\n")


async def _say(world: World, text: str) -> None:
    """
    These bytes were sent, and the answer is there.
    """
    address = urlsplit(world.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(text.encode())
    await reader.read()
    writer.close()
    await writer.wait_closed()
