"""
Requests on the fast path are answered as aiohttp's own loop would have them answered; what is not plain is left to it.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import re
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobsvc.app import _fast_path, serving
from jobsvc.http.edge import dispatching
from jobsvc.http.fast_path import FastPath
from jobsvc.http.reply import Reply
from jobsvc.http.routes import ROUTES
from jobsvc.http.server import Server
from tests.http.client import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from jobsvc.http.reply import Response
    from jobsvc.http.request import Request
    from tests.http.client import Caller
    from tests.http.conftest import Starter
    from tests.http.world import World

    Handler = Callable[[Request], Awaitable[Response]]

PATIENCE_S: Final = 10.0
OF_THE_MOMENT: Final = re.compile(rb"(?im)^(date|x-request-id): [^\r]*\r\n")
MADE_ID: Final = re.compile(rb'(?im)^content-length: [^\r]*\r\n|(?<="request_id":")[0-9a-f]{8}-[0-9a-f]+')
HEAD: Final = b"Host: 127.0.0.1\r\nX-Request-Id: the-same\r\n"
"""
What every request of these tests says.
"""
LAST: Final = b"GET /healthz HTTP/1.1\r\nConnection: close\r\n" + HEAD + b"\r\n"
"""
A request after which the connection ends, so that all that came can be read.
"""


def post(body: bytes, *, path: bytes = b"/api/jobs", head: bytes = b"") -> bytes:
    """
    A plain POST by nobody: it is refused, and how tells whether it was read well.
    """
    return b"POST %b HTTP/1.1\r\n%b%bContent-Length: %d\r\n\r\n%b" % (path, HEAD, head, len(body), body)


@asynccontextmanager
async def listening(world: World, *, fast: bool, handler: Handler | None = None) -> AsyncIterator[tuple[Server, int]]:
    """
    A server of its own, and its port.
    """
    server = Server(handler or dispatching(ROUTES, world.service), world.service, fast=fast)
    site = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    async with site:
        yield server, site.sockets[0].getsockname()[1]
        await server.shutdown(0)


@asynccontextmanager
async def connected(port: int, **options: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """
    A connection, aborted in the end.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


class Listener(asyncio.Protocol):
    """
    A caller that keeps what comes until the connection ends, be it by a reset.
    """

    def __init__(self) -> None:
        self.came = b""
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """
        More has come.
        """
        self.came += data

    def connection_lost(self, exc: Exception | None) -> None:
        """
        Nothing more comes.
        """
        del exc
        self.ended.set()


async def heard(port: int, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """
    All that comes back for *pieces*, each sent after a pause, until the server closes; without what differs each time.
    """
    transport, listener = await asyncio.get_running_loop().create_connection(Listener, "127.0.0.1", port)
    try:
        async with asyncio.timeout(PATIENCE_S):
            for piece in pieces:
                transport.write(piece)
                await asyncio.sleep(pause_s)
            await listener.ended.wait()
        return without_moment(listener.came)
    finally:
        transport.abort()


def without_moment(came: bytes) -> bytes:
    """
    What another such request would have been answered too, also where the service had to make an id for it.
    """
    told = OF_THE_MOMENT.sub(b"", came)
    return told if b'"request_id":"the-same"' in told else MADE_ID.sub(b"", told)


UNUSUAL: Final[dict[str, tuple[bytes, ...]]] = {
    "plain, one after the other": (post(b"{}"), post(b'{"a":1}'), LAST),
    "two at once": (post(b"{}") + post(b"[]"), LAST),
    "one and a half at once": (post(b"{}") + post(b"[]")[:40], post(b"[]")[40:], LAST),
    "head, then body": (post(b'{"kind":"a"}')[:-12], b'{"kind":"a"}', LAST),
    "byte by byte": (*(bytes([byte]) for byte in post(b"{}")), LAST),
    "a body in chunks": (
        b"POST /api/jobs HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        LAST,
    ),
    **{
        # Refused by its head alone, so that nothing is sent into a connection that is being closed.
        f"an encoding that is no chunks ({encoding})": (
            b"POST /api/jobs HTTP/1.1\r\n%bTransfer-Encoding: %b\r\n\r\n" % (HEAD, encoding.encode()),
        )
        for encoding in ("gzip", "identity", "xchunked", "chunked;a=b", "chunked, identity")
    },
    "a body on leave": (post(b"{}", head=b"Expect: 100-continue\r\n"), LAST),
    "an upgrade": (post(b"{}", head=b"Connection: upgrade\r\nUpgrade: websocket\r\n"), LAST),
    "the last one": (LAST,),
    "an old one": (b"GET /healthz HTTP/1.0\r\n" + HEAD + b"\r\n",),
    "an old one that stays": (b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n" + HEAD + b"\r\n", LAST),
    "empty lines before": (b"\r\n\r\n" + post(b"{}"), LAST),
    "no HTTP": (b"good evening\r\n\r\n",),
    "no host": (b"GET /healthz HTTP/1.1\r\n\r\n",),
    "no method": (b"G@T / HTTP/1.1\r\n" + HEAD + b"\r\n",),
    "two lengths": (post(b"{}", head=b"Content-Length: 1\r\n"),),
    "a length and chunks": (post(b"{}", head=b"Transfer-Encoding: chunked\r\n"),),
    "a length that is none": (b"POST /api/jobs HTTP/1.1\r\n" + HEAD + b"Content-Length: two\r\n\r\n{}",),
    "a length without digits": (b"POST /api/jobs HTTP/1.1\r\n" + HEAD + b"Content-Length:\r\n\r\n", LAST),
    "a signed length": (b"POST /api/jobs HTTP/1.1\r\n" + HEAD + b"Content-Length: +2\r\n\r\n{}",),
    "a line too long": (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n",),
    "a header too long": (b"GET /healthz HTTP/1.1\r\n" + HEAD + b"X-Long: " + b"a" * 70_000 + b"\r\n\r\n",),
    "a body too long": (post(b" " * 1_100_000), LAST),
    "a long body": (post(b'{"title":"%b"}' % (b"a" * 300_000)), LAST),
    "no body wanted": (b"HEAD /healthz HTTP/1.1\r\n" + HEAD + b"\r\n", LAST),
    "a path of a proxy": (b"GET http://127.0.0.1/healthz HTTP/1.1\r\n" + HEAD + b"\r\n", LAST),
    "a star": (b"OPTIONS * HTTP/1.1\r\n" + HEAD + b"\r\n", LAST),
}


@pytest.mark.parametrize("pause_s", [0.0, 0.005], ids=["at once", "in time"])
@pytest.mark.parametrize("pieces", UNUSUAL.values(), ids=UNUSUAL)
async def test_both_ways_answer_the_same(world: World, pieces: tuple[bytes, ...], pause_s: float) -> None:
    """
    Whatever comes over a connection, in whatever pieces: the same answers in the same order.
    """
    async with listening(world, fast=True) as (_, fast), listening(world, fast=False) as (_, slow):
        assert await heard(slow, *pieces, pause_s=pause_s) == await heard(fast, *pieces, pause_s=pause_s)


async def test_any_cut_through_requests_answers_the_same(world: World) -> None:
    """
    A row of requests in pieces of any length, which the network may make of it: the same answers in the same order.
    """
    row = post(b"{}") + b"GET /healthz HTTP/1.1\r\n" + HEAD + b"\r\n" + post(b"[1]", path=b"/nowhere") + LAST
    loop = asyncio.get_running_loop()

    async def both(cuts: list[int]) -> tuple[bytes, bytes]:
        ends = [0, *sorted(cuts), len(row)]
        pieces = [row[begin:end] for begin, end in itertools.pairwise(ends)]
        async with listening(world, fast=True) as (_, fast), listening(world, fast=False) as (_, slow):
            return await heard(slow, *pieces, pause_s=0.001), await heard(fast, *pieces, pause_s=0.001)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(cuts=st.lists(st.integers(0, len(row)), max_size=6))
    def check(cuts: list[int]) -> None:
        slow, fast = asyncio.run_coroutine_threadsafe(both(cuts), loop).result(PATIENCE_S)
        assert slow == fast
        assert 4 == fast.count(b"HTTP/1.1 ")

    await asyncio.to_thread(check)


async def test_plain_requests_stay_and_others_leave(world: World) -> None:
    """
    A connection is on the fast path until something else than a plain request comes, and is counted once all the while.
    """
    async with listening(world, fast=True) as (server, port), connected(port) as (reader, writer):
        for body in (b"{}", b"[]"):
            writer.write(post(body)[:-2])
            await asyncio.sleep(0.001)
            writer.write(body)
            await reader.readuntil(b"}")
        stayed = (len(server.on_fast_path), server.connected, len(server.connections))
        writer.write(b"POST /api/jobs HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        await reader.readuntil(b"}")
        left = (len(server.on_fast_path), server.connected, len(server.connections))
        writer.close()
        await until(lambda: not server.connected)

    assert (1, 1, 0) == stayed
    assert (0, 1, 1) == left


async def test_heads_that_come_again_are_each_answered_for_what_they_say(world: World) -> None:
    """
    Many heads on one connection, again and again, with other bodies each time: what is told fits head and body.
    """

    async def echo(request: Request) -> Response:
        said = f"{request.path} {request.headers['X-Say']} ".encode() + (request.whole or b"")
        return Reply(said, 200, {})

    chance = random.Random(20_261_129)  # a choice, not a secret
    asked = [
        (b"/%d" % chance.randrange(3), b"%d" % chance.randrange(3), b"%0*d" % (chance.randrange(1, 3), number % 10))
        for number in range(200)
    ]
    async with listening(world, fast=True, handler=echo) as (server, port), connected(port) as (reader, writer):
        for path, say, body in asked:
            writer.write(post(body, path=path, head=b"X-Say: %b\r\n" % say))
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
            assert b" ".join((path, say, body)) == await reader.readexactly(length)

        assert 1 == len(server.on_fast_path)


async def test_a_connection_keeps_few_heads_and_short_ones(world: World) -> None:
    """
    Whoever sends long heads, or many, has all of them answered, and next to nothing of them stays.
    """
    async with listening(world, fast=True) as (server, port), connected(port) as (reader, writer):
        for number in range(20):
            writer.write(post(b"{}", head=b"X-Long: %d%b\r\n" % (number, b"a" * (5_000 * (number % 2)))))
            await reader.readuntil(b"}")
        (connection,) = server.on_fast_path
        kept = list(connection._known)  # noqa: SLF001  # what it keeps is its own affair, but not how much

    assert 0 < len(kept) <= 4
    assert all(len(head) <= 4_096 for head in kept)


async def test_what_comes_during_an_answer_is_answered_after_it(world: World) -> None:
    """
    A caller that does not wait for its answer has both, in order, however much came meanwhile.
    """
    let_go = asyncio.Event()

    async def slow(request: Request) -> Response:
        if request.path == "/slow":
            await let_go.wait()
        return Reply(request.path.encode(), 200, {})

    async with listening(world, fast=True, handler=slow) as (_, port):
        answers = asyncio.create_task(
            heard(port, post(b"{}", path=b"/slow"), post(b"{}", path=b"/second"), LAST, pause_s=0.01)
        )
        await asyncio.sleep(0.05)
        let_go.set()
        came = await answers

    assert [b"/slow", b"/second", b"/healthz"] == re.findall(rb"\r\n\r\n(/[a-z]+)", came)


@pytest.mark.parametrize("behind", [b"", b"\r\n", post(b"{}")], ids=["nothing", "a line", "a request"])
async def test_a_caller_that_goes_away_is_waited_for_no_more(world: World, behind: bytes) -> None:
    """
    Its handler is cancelled, and its connection counted no more, whatever it sent behind its request.
    """
    begun, ended = asyncio.Event(), asyncio.Event()

    async def held(_: Request) -> Response:
        begun.set()
        try:
            await asyncio.sleep(PATIENCE_S)
        finally:
            ended.set()
        raise AssertionError

    async with listening(world, fast=True, handler=held) as (server, port), asyncio.timeout(PATIENCE_S / 2):
        async with connected(port) as (_, writer):
            writer.write(post(b"{}"))
            await begun.wait()
            writer.write(behind)
            await asyncio.sleep(0.01)
        await ended.wait()

        assert 0 == server.connected == len(server.on_fast_path)


def living() -> int:
    """
    How many connections there are on the fast path, or are left of it.
    """
    return sum(isinstance(one, FastPath) for one in gc.get_objects())


async def test_a_connection_that_is_over_is_freed_without_the_collector(world: World) -> None:
    """
    Idle, amid an answer or handed over: nothing here refers to itself, for the collector seldom looks at what is old.
    """
    begun = asyncio.Event()

    async def answer(request: Request) -> Response:
        if request.path == "/held":
            begun.set()
            await asyncio.sleep(PATIENCE_S)
        return Reply(b"{}", 200, {})

    gc.collect()
    before = living()
    async with listening(world, fast=True, handler=answer) as (server, port):
        gc.disable()
        try:
            for path in (b"/idle", b"/held", b"/handed"):
                async with connected(port) as (reader, writer):
                    writer.write(post(b"{}"))
                    await reader.readuntil(b"{}")
                    if path != b"/idle":
                        last = path == b"/handed"
                        writer.write(post(b"{}", path=path, head=b"Expect: 100-continue\r\n" if last else b""))
                        await (reader.readuntil(b"{}") if last else begun.wait())
                await until(lambda: not server.connected)
            await until(lambda: living() == before)
        finally:
            gc.enable()


@pytest.mark.parametrize("fast", [True, False], ids=["fast path", "aiohttp's loop"])
async def test_answers_that_nobody_takes_do_not_pile_up(world: World, *, fast: bool) -> None:
    """
    A caller that asks and asks and never reads is heard no more once so much waits for it, however small each answer.
    """
    asked = 0

    async def answer(request: Request) -> Response:
        nonlocal asked
        asked += 1
        reply = Reply(b"a" * 60_000, 200, {})
        if asked % 2:
            # As a claim does, to know whether its answer could be written.
            await reply.prepare(request.aiohttp)
        return reply

    async with listening(world, fast=fast, handler=answer) as (_, port), connected(port, limit=1_000) as (_, writer):
        for _ in range(400):
            writer.write(post(b"{}"))
            await asyncio.sleep(0.0005)

        # What the kernel holds on both sides, and a little here.
        assert asked < 200


async def test_a_failing_answer_is_told_and_is_the_last(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """
    An answer that cannot be written, or a handler that raises, is our fault: a problem, a line, and the end.
    """

    class Broken(web.Response):
        async def prepare(self, request: web.BaseRequest) -> None:
            del request
            raise RuntimeError("broken")

    async def broken(request: Request) -> Response:
        if request.path == "/raises":
            raise RuntimeError("raised")
        return Broken()

    async with listening(world, fast=True, handler=broken) as (_, port):
        for path in (b"/raises", b"/prepares"):
            came = await heard(port, post(b"{}", path=path))

            assert came.startswith(b"HTTP/1.1 500 ")
            assert b"Connection: close\r\n" in came
            assert b'"code":"internal"' in came
    assert 2 == sum(line.message == "request.failed" for line in caplog.records)


async def test_an_idle_connection_ends_when_its_time_is_over(start: Starter) -> None:
    """
    Neither one that never asked, nor one whose last answer is that long ago, is kept; one that asks is.
    """
    world = await start(connection_idle_s=0.3)
    async with listening(world, fast=True) as (server, port), asyncio.timeout(PATIENCE_S):
        async with connected(port) as (silent, _), connected(port) as (reader, writer):
            for _ in range(4):
                await asyncio.sleep(0.15)
                writer.write(post(b"{}"))
                await reader.readuntil(b"}")
            kept = len(server.on_fast_path)

            assert b"" == await silent.read() == await reader.read()
        assert 1 == kept


async def test_at_the_end_an_answer_under_way_is_finished(world: World) -> None:
    """
    A server that shuts down closes what is idle at once, and the others after their answers.
    """
    begun, let_go = asyncio.Event(), asyncio.Event()

    async def held(_: Request) -> Response:
        begun.set()
        await let_go.wait()
        return Reply(b"{}", 200, {})

    async with listening(world, fast=True, handler=held) as (server, port), asyncio.timeout(PATIENCE_S):
        async with connected(port) as (idle, _), connected(port) as (reader, writer):
            writer.write(post(b"{}"))
            await begun.wait()
            server.pre_shutdown()
            closed = await idle.read()
            ending = asyncio.create_task(server.shutdown(PATIENCE_S))
            await asyncio.sleep(0)
            let_go.set()
            await ending

            assert b"" == closed
            assert (await reader.read()).endswith(b"\r\n\r\n{}")
        assert 0 == server.connected


async def test_a_reader_that_takes_nothing_is_sent_no_second_answer(world: World) -> None:
    """
    While an answer waits for its reader nothing more is read from it, so what it may hold here is one answer.
    """
    asked = 0

    async def large(_: Request) -> Response:
        nonlocal asked
        asked += 1
        return Reply(b'"%b"' % (b"a" * 8_000_000), 200, {})

    async with listening(world, fast=True, handler=large) as (_, port), connected(port, limit=1_000) as (_, writer):
        for _ in range(5):
            writer.write(post(b"{}"))
            await asyncio.sleep(0.02)

        assert 1 == asked


@pytest.mark.parametrize("method", ["data_received", "_head_of"])
async def test_where_it_does_not_work_aiohttp_has_every_connection(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    """
    An aiohttp that is not what it was: the service says so in its log, and requests take the long way.
    """

    def broken(*_: object) -> None:
        raise RuntimeError(method)

    assert await _fast_path(world.service)
    with monkeypatch.context() as patched:
        patched.setattr(FastPath, method, broken)
        patched.setattr("jobsvc.http.server._TRIED_S", 0.2)

        async with serving(world.service) as url, world.session.get(f"{url}/healthz") as answer:
            assert 200 == answer.status
    assert ["fast_path.off"] == [line.message for line in caplog.records if line.message == "fast_path.off"]


async def test_who_is_remembered_on_a_connection_is_no_longer_than_it_counts(world: World) -> None:
    """
    Callers on one connection are told apart by each request's token, which ends when it ends or is revoked.
    """
    short = world.caller("guest", "short", ttl_s=60)
    async with listening(world, fast=True) as (_, port), connected(port) as (reader, writer):

        async def status_of(caller: Caller) -> int:
            writer.write(
                b"GET /api/jobs HTTP/1.1\r\n%bAuthorization: Bearer %b\r\n\r\n" % (HEAD, (caller.token or "").encode())
            )
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0]))
            return int(head.split()[1])

        before = [await status_of(caller) for caller in (world.guest, world.guest, world.worker, short, short)]
        world.clock.advance(600)
        run_out = [await status_of(short), await status_of(world.guest)]
        await world.operator.post("/api/operator/revoke", {"reason": "left", "subject": world.guest.owner})
        revoked = [await status_of(world.guest), await status_of(world.stranger)]

    assert [200, 200, 403, 200, 200] == before
    assert [401, 200] == run_out
    assert [401, 200] == revoked
