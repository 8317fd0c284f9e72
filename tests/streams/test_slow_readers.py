"""
Readers that take nothing, or little: what they cost, when they are cut, and what others notice of them. And a drain.
"""

from __future__ import annotations

import asyncio
import json
import resource
import select
import socket
import time
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import pytest

from jobsvc.channel import Scope
from tests.http.client import until
from tests.process import running_process, token
from tests.streams.follower import Follower
from tests.streams.test_hand_over import AUTHORIZED, until_ready, wired

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.http.client import JSON
    from tests.process import ServiceProcess
    from tests.streams.test_hand_over import Wired

MIB: Final = 2**20
BATCH: Final = 250
STUCK: Final = 1_000
STRETCHES: Final = 10
ENVIRON: Final = {
    "JOBSVC_STREAMS_PER_PRINCIPAL_MAX": "5000",
    "JOBSVC_ACTIVE_PER_OWNER_MAX": "200000",
    "JOBSVC_ACTIVE_TOTAL_MAX": "200000",
    "JOBSVC_WRITES_PER_MINUTE_MAX": "0",
    "JOBSVC_DRAIN_S": "3",
    "JOBSVC_STREAM_STALL_S": "600",
}


async def stuck(port: int, *, receives: int = 4_096, bearer: str | None = None) -> socket.socket:
    """
    A connection that asked for a stream and reads nothing of it; a viewer's unless it has another *bearer*.
    """
    authorized = AUTHORIZED if bearer is None else f"Authorization: Bearer {bearer}\r\nHost: 127.0.0.1\r\n"
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
    connection.setblocking(False)  # noqa: FBT003  # the name that it has
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", port))
    await loop.sock_sendall(connection, f"GET /api/stream HTTP/1.1\r\n{authorized}\r\n".encode())
    return connection


async def filled(place: Wired) -> None:
    """
    So much happened that whoever reads nothing has no room left.
    """
    body = {"jobs": [{"kind": "work", "input": "x" * 15_000}] * 30}
    async with asyncio.timeout(20):
        while not any(one.standing == "lagging" for one in place.service.streams.connections):
            assert await place.post("/api/jobs/batch", body) == 200


async def test_nothing_is_kept_for_one_that_reads_nothing(tmp_path: Path) -> None:
    """
    In this process wait no more bytes than one buffer and one frame of what came to it, however much happens.
    """
    async with wired(tmp_path, frees=True, stream_stall_s=600, active_per_owner_max=10_000) as place:
        connection = await stuck(place.port)
        await until(lambda: len(place.service.streams) == 1)
        await filled(place)
        (one,) = place.service.streams.connections
        at_first = one.buffered
        for _ in range(4):
            await place.post("/api/jobs/batch", {"jobs": [{"kind": "work", "input": "x" * 15_000}] * 50})

        assert "lagging" == one.standing
        assert at_first == one.buffered <= 16_384 + 2 * 17_000
        assert place.service.feed.position - one.place >= 200
        connection.close()
        await place.gone()


async def test_one_that_takes_nothing_is_cut_and_one_that_takes_a_little_is_not(tmp_path: Path) -> None:
    """
    The stall time counts from the last byte that was taken, not from the last that was written.
    """
    async with wired(tmp_path, frees=True, stream_stall_s=1.0, active_per_owner_max=10_000) as place:
        idle, slow = await stuck(place.port), await stuck(place.port)
        await until(lambda: len(place.service.streams) == 2)
        body = {"jobs": [{"kind": "work", "input": "x" * 15_000}] * 50}
        connections = list(place.service.streams.connections)
        loop, taken = asyncio.get_running_loop(), 0
        ends_s = loop.time() + 3.0
        while loop.time() < ends_s:
            if not all(one.standing == "lagging" for one in connections if one.state != "over"):
                await place.post("/api/jobs/batch", body)
            taken += len(await loop.sock_recv(slow, 50_000))
            await asyncio.sleep(0.02)
        states = [one.state for one in connections]
        idle.close()
        slow.close()
        await place.gone()

    assert taken > 0
    assert ("over", True) == (states[0], states[1] != "over")


async def test_a_snapshot_is_written_as_it_is_read(tmp_path: Path) -> None:
    """
    Its parts do not queue up for one that reads slowly: some hundred KiB are on their way, and not megabytes.
    """
    async with wired(tmp_path, frees=True, stream_stall_s=600, active_per_owner_max=10_000) as place:
        for _ in range(10):
            await place.post("/api/jobs/batch", {"jobs": [{"kind": "work", "input": "x" * 15_000}] * 50})
        connection = await stuck(place.port)
        await until(lambda: len(place.service.streams) == 1)
        (one,) = place.service.streams.connections
        state, buffered, written = one.state, one.buffered, place.service.streams.written.bytes
        reader, writer = await asyncio.open_connection(sock=connection, limit=2**24)
        told = await until_ready(reader)
        writer.transport.abort()
        await place.gone()

    assert "snapshot" == state
    assert buffered <= 65_536 + 16_384
    assert written < 4 * MIB < 500 * 15_000 < len(told)


# A real process


class Outside:
    """
    What is seen of a service's process from outside.
    """

    def __init__(self, process: ServiceProcess) -> None:
        self._process = process
        self.port = int(process.url.rpartition(":")[2])

    @property
    def rss(self) -> int:
        """
        Bytes in memory.
        """
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize()

    async def connect(self, head: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """
        A stream that was asked for.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**26)
        writer.write(f"GET /api/stream HTTP/1.1\r\n{AUTHORIZED}{head}\r\n".encode())
        return reader, writer


async def _writes(outside: Outside, events: int, *, batch: int = BATCH) -> None:
    """
    So many jobs are made, a batch at a time.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", outside.port)
    try:
        for first in range(0, events, batch):
            await _write_batch(reader, writer, {"kind": "work", "title": f"{time.monotonic_ns()} {first}"}, batch)
    finally:
        writer.transport.abort()


async def _write_batch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, job: JSON, batch: int) -> None:
    content = json.dumps({"jobs": [job] * batch}).encode()
    head = f"Authorization: Bearer {token('user', 'user:ada')}\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    writer.write(f"POST /api/jobs/batch HTTP/1.1\r\n{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200"), answer
    (length,) = (line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length"))
    assert batch == (await reader.readexactly(int(length.split()[1]))).count(b'"status":201')


class Ear:
    """
    One who reads, and notes how long after its making each event came.
    """

    def __init__(self, outside: Outside, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.outside = outside
        self._reader = reader
        self._writer = writer

    async def p99_s(self, events: int) -> float:
        """
        So many events were made, a batch at a time, and heard.
        """
        delays: list[float] = []
        writing = asyncio.create_task(_writes(self.outside, events))
        while len(delays) < events:
            async with asyncio.timeout(60):
                line = await self._reader.readline()
            if line.startswith(b"data:") and b'"job.created"' in line:
                made_ns = int(json.loads(line[6:])["job"]["title"].split()[0])
                delays.append((time.monotonic_ns() - made_ns) / 1e9)
        await writing
        return sorted(delays)[int(events * 0.99)]

    def close(self) -> None:
        """
        It reads no more.
        """
        self._writer.transport.abort()


@asynccontextmanager
async def _listening(database: Path) -> AsyncIterator[Ear]:
    async with running_process(database, environ=ENVIRON) as process:
        outside = Outside(process)
        reader, writer = await outside.connect()
        await until_ready(reader)
        ear = Ear(outside, reader, writer)
        yield ear
        ear.close()


async def _stuck(port: int, count: int) -> list[socket.socket]:
    """
    So many that read nothing, all of them open: the first byte waits at each.
    """
    held, poll = [await stuck(port) for _ in range(count)], select.poll()
    for connection in held:
        poll.register(connection, select.POLLIN)
    async with asyncio.timeout(60):
        while len(poll.poll(0)) < count:  # noqa: ASYNC110  # nobody but the kernel knows
            await asyncio.sleep(0.01)
    return held


@pytest.mark.process
@pytest.mark.soak
@pytest.mark.timeout(1_800)
async def test_a_thousand_that_never_read_cost_little_and_delay_nobody(
    tmp_path: Path,
    record_property: Any,  # noqa: ANN401  # pytest's
) -> None:
    """
    While a hundred thousand events pass: at most 30 MiB more in memory than the same without them, and one who reads
    waits no longer. So too when they are cut and all come again, now to a snapshot of a hundred thousand jobs that they
    do not read. How much is no longer, to a tenth, takes a quiet machine: ``make bench-stream`` says it.
    """
    more: list[int] = []
    later_s: list[tuple[float, float]] = []
    async with _listening(tmp_path / "without.db") as without, _listening(tmp_path / "beside.db") as beside:
        held = await _stuck(beside.outside.port, STUCK)
        for stretch in range(STRETCHES):
            order = (without, beside) if stretch % 2 else (beside, without)
            p99_s = {ear: await ear.p99_s(100_000 // STRETCHES) for ear in order}
            later_s.append((p99_s[without], p99_s[beside]))
        more.append(beside.outside.rss - without.outside.rss)
        for connection in held:
            connection.close()
        held = await _stuck(beside.outside.port, STUCK)
        for ear in (without, beside):
            await ear.p99_s(100_000 // STRETCHES)
        more.append(beside.outside.rss - without.outside.rss)
        for connection in held:
            connection.close()
    ratio = median(with_s / alone_s for alone_s, with_s in later_s)
    figures = f"{' and '.join(f'{each / MIB:.1f}' for each in more)} MiB more, p99 {ratio:.2f} times that without them"
    record_property("figures", figures)
    print(figures)  # noqa: T201  # a measurement

    assert max(more) <= 30 * MIB, figures
    assert ratio < 2, figures


async def _drained(folder: Path, streams: int) -> None:
    """
    SIGTERM under so many streams while writes go on, another service on the same log, and each client comes again.
    """
    url, ended = "", asyncio.Event()
    followers = [
        Follower(Random(number), Scope(), token=token("viewer"), transport="sse", url=lambda: url)
        for number in range(streams)
    ]
    came: list[float] = []
    loop = asyncio.get_running_loop()

    async def follow(one: Follower) -> None:
        await one.follow(calm=True)
        await asyncio.sleep(one.retry_ms / 1000)
        came.append(loop.time())
        await ended.wait()
        await one.follow(calm=True)

    async with running_process(folder / "jobs.db", environ=ENVIRON) as process:
        url = process.url
        following = [asyncio.create_task(follow(one)) for one in followers]
        await until(lambda: all(one.parts for one in followers))
        writing = asyncio.create_task(_writes(Outside(process), 10**6, batch=2))
        await until(lambda: all(one.parts[-1].seen for one in followers))
        asked_s = loop.time()
        code = await process.stop()
        took_s = loop.time() - asked_s
        await asyncio.gather(writing, return_exceptions=True)
    assert (0, True) == (code, took_s < 3.0 + 2.0), took_s
    async with asyncio.timeout(30):
        await until(lambda: len(came) == streams)
    assert [["drain"]] * streams == [one.byes for one in followers]
    # None was back while the old one still listened, nor all at once.
    assert min(came) > asked_s + 0.5
    assert max(came) - min(came) > 1.5
    async with running_process(folder / "jobs.db", environ=ENVIRON) as process:
        url = process.url
        ended.set()
        await _writes(Outside(process), 2, batch=2)
        async with asyncio.timeout(60):
            await asyncio.gather(*(one.reaches(followers[0].place[0], followers[0].place[1]) for one in followers))
            head = max(one.place[1] for one in followers)
            await asyncio.gather(*(one.reaches(followers[0].place[0], head) for one in followers))
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    for one in followers:
        (part,) = one.parts
        assert [] == one.wrong
        assert [*range(part.start + 1, part.place + 1)] == [position for position, *_ in part.seen]


@pytest.mark.process
async def test_a_drain_sends_each_away_once_and_loses_nothing(tmp_path: Path) -> None:
    """
    The process ends with 0 within its window and two seconds; its clients come again spread over the window.
    """
    await _drained(tmp_path, 40)


@pytest.mark.process
@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_a_drain_of_a_thousand_sends_each_away_once_and_loses_nothing(tmp_path: Path) -> None:
    """
    As above, with a thousand.
    """
    await _drained(tmp_path, 1_000)
