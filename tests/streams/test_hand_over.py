"""
A stream leaves aiohttp, freed or with its handler parked, on either event loop, in the clear and over TLS.

Under aiohttp's own runner with its settings as they come: nobody cancels a handler whose client has gone.
"""

from __future__ import annotations

import asyncio
import gc
import json
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp import web

from jobsvc.app import _hand_over, running
from jobsvc.http.edge import dispatching
from jobsvc.http.routes import ROUTES
from jobsvc.http.server import Server
from jobsvc.http.wire import HandOver
from jobsvc.settings import Settings
from tests.http.client import until
from tests.process import SECRET, token
from tests.streams.certificate import certified

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    from jobsvc.http.identity import Credential
    from jobsvc.http.request import Request
    from jobsvc.http.service import Service

ABANDONED: Final = 1_000
LOOPS: Final = ("asyncio", "uvloop")
AUTHORIZED: Final = f"Authorization: Bearer {token('viewer')}\r\nHost: 127.0.0.1\r\n"


class Wired:
    """
    A service with a socket, and clients who speak to it byte by byte.
    """

    def __init__(self, service: Service, server: Server, port: int, tls: ssl.SSLContext | None) -> None:
        self.service = service
        self.server = server
        self.port = port
        self._tls = tls

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """
        A connection on which nothing was said.
        """
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self._tls, limit=2**20)

    async def ask(
        self, query: str = "", *, head: str = "", body: bytes = b"", path: str = "/api/stream"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """
        A connection on which a stream was asked for.
        """
        reader, writer = await self.connect()
        writer.write(f"GET {path}{query} HTTP/1.1\r\n{AUTHORIZED}{head}\r\n".encode() + body)
        return reader, writer

    async def post(self, path: str, body: Any, who: str = "user") -> int:  # noqa: ANN401  # JSON
        """
        The status of the answer to a POST.
        """
        reader, writer = await self.connect()
        content = json.dumps(body).encode()
        subject = "user:ada" if who == "user" else who
        head = f"Authorization: Bearer {token(who, subject)}\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n"  # type: ignore[arg-type]  # a role
        kind = "Content-Type: application/json\r\nConnection: close\r\n\r\n"
        writer.write(f"POST {path} HTTP/1.1\r\n{head}{kind}".encode() + content)
        status = int((await reader.readline()).split()[1])
        await reader.read()
        writer.transport.abort()
        return status

    async def gone(self) -> None:
        """
        Returns once the service knows of no stream and no connection.
        """
        await until(lambda: not self.service.streams.freed and not self.server.connected)
        await until(lambda: not len(self.service.streams) and not len(self.service.feed))


@asynccontextmanager
async def wired(
    folder: Path,
    *,
    frees: bool,
    fast: bool = True,
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
    **settings: Any,  # noqa: ANN401  # settings
) -> AsyncIterator[Wired]:
    """
    A service that frees its streams of aiohttp, or parks their handlers; and whose connections begin on the fast path.
    """
    chosen = {"database": str(folder / "jobs.db"), "secret": SECRET, "streams_per_principal_max": 5_000, **settings}
    async with running(Settings(**chosen)) as service:
        service.streams._hand_over = HandOver(frees=frees)  # noqa: SLF001  # what the self-test would have decided
        server = Server(dispatching(ROUTES, service), service, fast=fast)
        server.handler_cancellation = False
        runner = web.ServerRunner(server, shutdown_timeout=0.5)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls and tls[0], backlog=1_024)
        await site.start()
        try:
            yield Wired(service, server, runner.addresses[0][1], tls and tls[1])
            await service.streams.drain(0.2)
        finally:
            await runner.cleanup()


async def until_ready(reader: asyncio.StreamReader) -> bytes:
    """
    All that came up to the frame that says so.
    """
    async with asyncio.timeout(10):
        return await reader.readuntil(b"event: ready\n")


def on(loop: str, test: Callable[[], Awaitable[None]]) -> None:
    """
    *test* was run on that event loop, and nothing went wrong that nobody waited for.
    """
    factory = import_module("uvloop").new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    faults: list[dict[str, Any]] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        await test()
        gc.collect()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(run())
    assert [] == faults


def secured(folder: Path, *, tls: bool) -> tuple[ssl.SSLContext, ssl.SSLContext] | None:
    """
    The two sides of TLS, if it is wanted.
    """
    return certified(folder) if tls else None


EITHER = pytest.mark.parametrize("frees", [True, False], ids=["freed", "parked"])
ANY_LOOP = pytest.mark.parametrize("loop", LOOPS)
ANY_WAY = pytest.mark.parametrize("fast", [True, False], ids=["fast path", "aiohttp's loop"])
ANY_CRYPT = pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])


@EITHER
@ANY_WAY
@ANY_LOOP
@ANY_CRYPT
def test_a_stream_is_told_and_ends_whoever_holds_it(
    tmp_path: Path, loop: str, *, frees: bool, fast: bool, tls: bool
) -> None:
    """
    Hello to bye with everything between, and the answer is whole; whoever leaves instead leaves nothing behind.
    """

    async def test() -> None:
        async with wired(tmp_path, frees=frees, fast=fast, tls=secured(tmp_path, tls=tls)) as place:
            reader, writer = await place.ask()
            told = await until_ready(reader)
            status = await place.post("/api/jobs", {"kind": "work", "input": "x" * 10_000})
            told += await reader.readuntil(b"event: job\n")
            other_reader, other = await place.ask()
            await until_ready(other_reader)
            other.transport.abort()
            await until(lambda: len(place.service.streams) == 1)
            assert frees == (place.service.streams.freed == 1)
            assert (frees, not frees) == (place.server.connected == 0, place.server.connected == 1)

            await place.service.streams.drain(0.2)
            told += await reader.read()
            await place.gone()

        assert 201 == status
        assert told.startswith(b"HTTP/1.1 200 OK\r\n")
        assert told.endswith(b'"reason":"drain"}\n\n\r\n0\r\n\r\n')
        writer.transport.abort()

    on(loop, test)


@EITHER
@ANY_LOOP
def test_a_thousand_abandoned_streams_leave_nothing(tmp_path: Path, loop: str, *, frees: bool) -> None:
    """
    Closed, aborted or cut off in the middle of something by their clients: no stream, task or open file is left.
    """

    async def test() -> None:
        async with wired(tmp_path, frees=frees) as place:
            await place.post("/api/jobs", {"kind": "work", "input": "x" * 10_000})
            tasks, files = len(asyncio.all_tasks()), _open_files()
            for first in range(0, ABANDONED, 100):
                opened = await asyncio.gather(*(place.ask() for _ in range(100)))
                for number, (reader, writer) in enumerate(opened, start=first):
                    if number % 4:
                        await (until_ready(reader) if number % 4 == 1 else reader.readline())
                    _leave(writer, number)
                await place.post("/api/jobs", {"kind": "work"})
            await place.gone()
            await until(lambda: (len(asyncio.all_tasks()), _open_files()) <= (tasks, files))

            feed = place.service.feed
            kept = [feed._all, feed._by_owner, feed._by_job]  # noqa: SLF001  # nobody is told, nothing is kept
            assert [{}, {}, {}] == kept

    on(loop, test)


def _leave(writer: asyncio.StreamWriter, number: int) -> None:
    if number % 2:
        writer.close()
    else:
        writer.transport.abort()


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@EITHER
async def test_a_body_on_a_stream_s_request_changes_nothing(tmp_path: Path, *, frees: bool) -> None:
    """
    It is read and means nothing; too large a one is refused as everywhere, before anything was answered.
    """
    async with wired(tmp_path, frees=frees, body_bytes_max=1_000) as place:
        reader, writer = await place.ask(head="Content-Length: 900\r\n", body=b"x" * 900)
        told = await until_ready(reader)
        writer.transport.abort()
        late_reader, late = await place.ask(head="Transfer-Encoding: chunked\r\n", body=b"4\r\nab")
        late.write(b"cd\r\n0\r\n\r\n")
        await until_ready(late_reader)
        late.transport.abort()
        large_reader, large = await place.ask(head="Connection: close\r\nContent-Length: 2000\r\n", body=b"x" * 2_000)
        refused = await large_reader.read()
        large.transport.abort()
        await place.gone()

    assert told.startswith(b"HTTP/1.1 200 OK\r\n")
    assert refused.startswith(b"HTTP/1.1 413 ")
    assert 1 == refused.count(b"HTTP/1.1")


@EITHER
@ANY_WAY
async def test_what_is_sent_behind_a_stream_s_request_is_never_answered(
    tmp_path: Path, *, frees: bool, fast: bool
) -> None:
    """
    Pipelined requests before it are; those behind it are not, since the stream's answer is the connection's last.
    """
    async with wired(tmp_path, frees=frees, fast=fast) as place:
        reader, writer = await place.connect()
        request = f"GET /healthz HTTP/1.1\r\n{AUTHORIZED}\r\n"
        writer.write((request + request.replace("/healthz", "/api/stream") + request * 3).encode())
        told = await until_ready(reader)
        writer.write(request.encode() * 100)
        await place.post("/api/jobs", {"kind": "work"})
        told += await reader.readuntil(b"event: job\n")
        await place.service.streams.drain(0.2)
        told += await reader.read()
        writer.transport.abort()
        await place.gone()

    assert 2 == told.count(b"HTTP/1.1 200 OK")
    assert told.endswith(b"0\r\n\r\n")


@EITHER
@ANY_LOOP
def test_a_client_that_closes_its_half_has_left(tmp_path: Path, loop: str, *, frees: bool) -> None:
    """
    It is not waited for until it would be written to again: an end of file is how a client's leaving shows.
    """

    async def test() -> None:
        async with wired(tmp_path, frees=frees) as place:
            reader, writer = await place.ask()
            await until_ready(reader)
            writer.write_eof()
            await place.gone()
            await reader.read()
            writer.transport.abort()

    on(loop, test)


@EITHER
async def test_a_client_that_leaves_before_its_stream_begins_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, frees: bool
) -> None:
    """
    Gone while its job is read, between the head of the answer and the first frame.
    """
    async with wired(tmp_path, frees=frees) as place:
        await place.post("/api/jobs", {"kind": "work"})
        job_id = next(iter(place.service.ledger.memory.jobs))
        read_job, reached, left = place.service.ledger.read_job, asyncio.Event(), asyncio.Event()
        calls = 0

        async def slow(wanted: str) -> object:
            nonlocal calls
            calls += 1
            if calls == 2:
                reached.set()
                await left.wait()
            return await read_job(wanted)

        monkeypatch.setattr(place.service.ledger, "read_job", slow)
        _reader, writer = await place.ask(path=f"/api/jobs/{job_id}/events", head="Accept: text/event-stream\r\n")
        await reached.wait()
        writer.transport.abort()
        await until(lambda: not place.server.connected)
        left.set()
        await place.gone()

        assert [] == place.service.streams.connections


@ANY_LOOP
def test_the_self_test_finds_that_freeing_works(loop: str) -> None:
    """
    With this aiohttp, on either loop.
    """

    async def test() -> None:
        assert await HandOver.works()

    on(loop, test)


@ANY_LOOP
def test_a_stream_that_leaves_is_heard_whatever_it_sent_before_it_began(tmp_path: Path, loop: str) -> None:
    """
    More than is kept of what comes behind a request stops the reading until the answer begins, and no longer.
    """

    async def test() -> None:
        async with wired(tmp_path, frees=True) as place:
            prove = place.service.identity.prove

            async def slowly(request: Request) -> Credential:
                await asyncio.sleep(0.1)
                return await prove(request)

            place.service.identity.prove = slowly  # type: ignore[method-assign]  # so that there is time to send
            reader, writer = await place.ask()
            await asyncio.sleep(0.02)
            writer.write(b"x" * 200_000)
            await until_ready(reader)
            writer.transport.abort()
            async with asyncio.timeout(3):
                await place.gone()

    on(loop, test)


@pytest.mark.parametrize("method", ["connection_lost", "start"])
async def test_where_freeing_does_not_work_handlers_are_parked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    """
    An aiohttp that is not what it was: the service says so in its log, and streams are served all the same.
    """

    def broken(*_: object) -> None:
        raise RuntimeError(method)

    with monkeypatch.context() as patched:
        patched.setattr(web.RequestHandler, method, broken)
        found = await _hand_over()

    async with wired(tmp_path, frees=found._frees) as place:  # noqa: SLF001  # what it found
        reader, writer = await place.ask()
        await until_ready(reader)
        parked = place.server.connected
        writer.transport.abort()
        await place.gone()

    assert 1 == parked
    assert ["stream.parked"] == [line.message for line in caplog.records if line.message == "stream.parked"]
