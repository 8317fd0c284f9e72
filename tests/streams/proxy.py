"""
A proxy on loopback that does to connections what networks do: cuts them at any byte, stalls, dribbles, buffers.

What becomes of a connection is drawn when it comes, from the chance that a test gives. Requests pass untouched; only
answers suffer. What must never live here: what is asked or answered.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, cast
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from random import Random

_WINDOW_BYTES: Final = 4_096
"""
Little stands between the service and a client that does not read, so that the service soon notices.
"""

_HELD_S: Final = 0.03
_STALLED_S: Final = 0.4


class Fate(NamedTuple):
    """
    What becomes of an answer.

    Attributes:
        bytes_max: So many of its bytes pass; then it is cut, or stalls and is cut.
        stalls: It stalls first.
        aborts: The cut is a reset, no orderly end.
        step: So many bytes at most pass at a time.
        buffers: What comes is held until there is much of it, or for a while.
    """

    bytes_max: int | None = None
    stalls: bool = False
    aborts: bool = False
    step: int = 65_536
    buffers: bool = False


def drawn(chance: Random) -> Fate:
    """
    One fate or another, often a cut within the first frames.
    """
    far = chance.choice([200, 400, 1_000, 4_000, 20_000, 100_000])
    kind = chance.randrange(8)
    return Fate(
        bytes_max=None if kind >= 6 else chance.randint(1, far),
        stalls=kind in {0, 1},
        aborts=chance.random() < 0.5,
        step=chance.choice([1, 7, 100, 65_536, 65_536]),
        buffers=chance.random() < 0.2,
    )


class Proxy:
    """
    Where clients connect while the service behind it comes and goes.

    Attributes:
        url: Of the proxy.
        upstream: Of the service; None while there is none.
        calm: From now on connections pass unharmed.
    """

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._server: asyncio.Server | None = None
        self._relays: set[asyncio.Task[None]] = set()
        self.url = ""
        self.upstream: str | None = None
        self.calm = False

    async def open(self) -> Proxy:
        """
        Clients may connect.
        """
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, limit=_WINDOW_BYTES)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def close(self) -> None:
        """
        Nobody is connected, and nobody can.
        """
        assert self._server is not None
        self._server.close()
        await self.cut()
        await self._server.wait_closed()

    async def cut(self) -> None:
        """
        Whoever is connected is not any more.
        """
        for relay in list(self._relays):
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay = cast("asyncio.Task[None]", asyncio.current_task())
        self._relays.add(relay)
        try:
            await self._relay(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._relays.discard(relay)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fate = Fate() if self.calm else drawn(self._chance)
        if self.upstream is None:
            writer.transport.abort()
            return
        service_reader, service_writer = await _connected(self.upstream)
        asking = asyncio.ensure_future(_ask(reader, service_writer))
        try:
            await _answer(service_reader, writer, fate)
        finally:
            asking.cancel()
            service_writer.transport.abort()
        if fate.aborts:
            writer.transport.abort()
        writer.close()


async def _connected(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW_BYTES)
    connection.setblocking(False)  # noqa: FBT003  # the name that it has
    parts = urlsplit(url)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (parts.hostname, parts.port))
        return await asyncio.open_connection(sock=connection, limit=_WINDOW_BYTES)
    except BaseException:
        connection.close()
        raise


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """
    What the client sends goes on as it comes; when the client goes, so does its connection to the service.
    """
    with suppress(OSError):
        while content := await reader.read(_WINDOW_BYTES):
            writer.write(content)
            await writer.drain()
    writer.transport.abort()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fate: Fate) -> None:
    passed = 0
    while content := await _some(reader, fate):
        if fate.bytes_max is not None:
            content = content[: fate.bytes_max - passed]
        for first in range(0, len(content), fate.step):
            writer.write(content[first : first + fate.step])
            await writer.drain()
            if fate.step < _WINDOW_BYTES:
                await asyncio.sleep(0)
        passed += len(content)
        if passed == fate.bytes_max:
            # A stall: nobody reads, and the connection stands. Its length is what is tried, and no wait for anything.
            await asyncio.sleep(_STALLED_S if fate.stalls else 0)
            return


async def _some(reader: asyncio.StreamReader, fate: Fate) -> bytes:
    content = await reader.read(_WINDOW_BYTES)
    if fate.buffers and content:
        with suppress(TimeoutError):
            async with asyncio.timeout(_HELD_S):
                content += await reader.readexactly(_WINDOW_BYTES)
    return content
