"""
A head that comes again on its connection is not judged again where that says the same, and is where it may not.

What must never live here: how the fast path reads (test_fast_path.py), or whose job may be seen (test_whose_job.py).
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from jobsvc.http.edge import dispatching
from jobsvc.http.routes import ROUTES
from jobsvc.http.server import Server
from jobsvc.tokens import LEEWAY_US
from tests.http.world import SECOND_US

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.http.client import Caller
    from tests.http.conftest import LogLines, Starter
    from tests.http.world import World


class Connection:
    """
    One connection on the fast path, on which the same head is sent as often as a test wants.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(
        self, caller: Caller, line: str = "POST /api/jobs", *, host: str = "127.0.0.1", more: str = ""
    ) -> tuple[int, dict[str, str], Any]:
        """
        Status, headers and body of the answer to *line* with a body that fits a create.
        """
        body = '{"kind":"k"}' if line.startswith("POST") else ""
        proof = "" if caller.token is None else f"Authorization: Bearer {caller.token}\r\n"
        content = "" if "Content-Type" in more else "Content-Type: application/json\r\n"
        head = f"{line} HTTP/1.1\r\nHost: {host}\r\n{proof}{content}{more}Content-Length: {len(body)}\r\n\r\n"
        self._writer.write((head + body).encode())
        async with asyncio.timeout(10):
            status, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            answer = json.loads(await self._reader.readexactly(int(headers["Content-Length"])))
        return int(status.split()[1]), headers, answer

    async def statuses(self, times: int, caller: Caller, line: str = "POST /api/jobs", **parts: str) -> list[int]:
        """
        The statuses of as many answers to the same.
        """
        return [(await self.ask(caller, line, **parts))[0] for _ in range(times)]


@asynccontextmanager
async def connected(world: World) -> AsyncIterator[Connection]:
    """
    A connection to *world*, which is on the fast path to its end.
    """
    server = Server(dispatching(ROUTES, world.service), world.service, fast=True)
    async with await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0) as site:
        reader, writer = await asyncio.open_connection(*site.sockets[0].getsockname())
        try:
            yield Connection(reader, writer)
            assert 1 == len(server.on_fast_path)
        finally:
            writer.close()
            await server.shutdown(0)


async def test_a_head_that_passed_is_refused_once_its_token_is_revoked(world: World) -> None:
    """
    From the revocation on, also where it is about a caller that has just passed, and nobody else is refused.
    """
    async with connected(world) as connection:
        before = await connection.statuses(3, world.guest)
        await world.operator.post("/api/operator/revoke", {"reason": "left", "subject": world.guest.owner})
        after = await connection.statuses(2, world.guest)
        others = await connection.statuses(3, world.stranger)

    assert [201, 201, 201] == before
    assert [401, 401] == after
    assert [201, 201, 201] == others


async def test_a_head_that_passed_is_refused_once_its_token_has_run_out(world: World) -> None:
    """
    At its end, with the leeway that every token has, however often it passed.
    """
    short = world.caller("guest", "short", ttl_s=60)
    async with connected(world) as connection:
        before = await connection.statuses(3, short)
        world.clock.advance(60 + LEEWAY_US / SECOND_US)
        after = await connection.statuses(2, short)

    assert [201, 201, 201] == before
    assert [401, 401] == after


async def test_a_head_that_passed_is_proved_anew_once_all_are_forgotten(world: World) -> None:
    """
    A token that counts still passes afterwards, again and again.
    """
    async with connected(world) as connection:
        before = await connection.statuses(2, world.guest)
        world.service.identity.forget_all()
        after = await connection.statuses(3, world.guest)

    assert [201] * 5 == before + after


@pytest.mark.parametrize(
    ("role", "line", "host", "status"),
    [
        ("guest", "POST /api/jobs", "elsewhere.example", 421),
        ("worker", "POST /api/jobs", "127.0.0.1", 403),
        ("guest", "POST /api/jobs/active", "127.0.0.1", 405),
        ("guest", "GET /api/jobs?colour=red", "127.0.0.1", 422),
        ("guest", "GET /api/nowhere", "127.0.0.1", 404),
    ],
)
async def test_a_head_that_was_refused_is_refused_again(
    world: World, role: str, line: str, host: str, status: int
) -> None:
    """
    Whatever it was refused for, and however often it comes, also after another head of the same caller has passed.
    """
    caller = {"guest": world.guest, "worker": world.worker}[role]
    async with connected(world) as connection:
        assert [status, status] == await connection.statuses(2, caller, line, host=host)
        assert [200, 200] == await connection.statuses(2, caller, "GET /healthz")
        if role == "guest":
            assert [201, 201] == await connection.statuses(2, caller)
        assert [status, status] == await connection.statuses(2, caller, line, host=host)


async def test_a_head_that_passed_is_counted_each_time(start: Starter) -> None:
    """
    As many writes as a minute takes, though none of them is judged but the first.
    """
    world = await start(writes_per_minute_max=3)
    async with connected(world) as connection:
        assert [201, 201, 201, 429, 429] == await connection.statuses(5, world.guest)


async def test_callers_that_take_turns_on_a_connection_are_told_apart(world: World) -> None:
    """
    Each job is its own caller's, whoever asked before.
    """
    turns = [world.guest, world.guest, world.stranger, world.guest, world.stranger, world.stranger, world.user]
    async with connected(world) as connection:
        owners = [(await connection.ask(caller))[2]["job"]["owner"] for caller in turns]
        nobodys = await connection.statuses(2, world.nobody)

    assert [caller.owner for caller in turns] == owners
    assert [401, 401] == nobodys


async def test_an_operator_is_told_of_each_time(world: World, log_lines: LogLines) -> None:
    """
    What an operator does leaves its line, though the head came before.
    """
    async with connected(world) as connection:
        await connection.statuses(3, world.operator)

    assert 3 == sum(line["event"] == "operator.acted" for line in log_lines())


async def test_every_header_that_matters_matters_on_a_connection_that_was_without(world: World) -> None:
    """
    A head that differs in one header alone is another head, and the first is itself again after it.
    """
    async with connected(world) as connection:

        async def said(more: str) -> tuple[int, str | None, str]:
            status, headers, answer = await connection.ask(world.guest, more=more)
            return status, headers.get("Idempotency-Replayed"), answer.get("code", "")

        plain = (201, None, "")
        assert plain == await said("")
        assert (415, None, "unsupported-media-type") == await said("Content-Encoding: gzip\r\n")
        assert plain == await said("Content-Encoding: identity\r\n")
        assert (415, None, "unsupported-media-type") == await said("Content-Type: text/plain\r\n")
        assert plain == await said("Content-Type: application/json; charset=utf-8\r\n")
        assert plain == await said("Idempotency-Key: once\r\n")
        assert (201, "true", "") == await said("Idempotency-Key: once\r\n")
        assert plain == await said("Idempotency-Key: twice\r\n")
        assert plain == await said("")


async def test_a_request_id_is_the_callers_where_it_sent_one_and_else_each_time_another(world: World) -> None:
    """
    A head that comes again with an id has it again; one without has a new one each time.
    """
    async with connected(world) as connection:

        async def told(more: str = "") -> str:
            return (await connection.ask(world.guest, more=more))[1]["X-Request-Id"]

        assert ["mine", "mine"] == [await told("X-Request-Id: mine\r\n") for _ in range(2)]
        assert 3 == len({await told() for _ in range(3)})
        assert 2 == len({await told("X-Request-Id: no sane one\r\n") for _ in range(2)})


async def test_a_wait_that_is_preferred_is_waited_each_time(world: World) -> None:
    """
    Prefer is heeded however often its head comes, and only where it is sent.
    """
    async with connected(world) as connection:
        applied = [
            (await connection.ask(world.guest, more=more))[1].get("Preference-Applied")
            for more in ("Prefer: wait=0\r\n", "Prefer: wait=0\r\n", "", "Prefer: wait=0\r\n")
        ]

    assert ["wait", "wait", None, "wait"] == applied
