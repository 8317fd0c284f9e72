"""
Requests over a bare socket whose answers are read as they come, byte by byte if they come so.

Frames are read strictly: what a browser would misread is an error here. A connection that ends early is an EOFError
between frames and within one alike; what had not come whole counts as not come.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    JSON = Any

CUT = (OSError, EOFError)
"""
What a client sees of a connection that was cut. An IncompleteReadError is an EOFError.
"""


class Told(NamedTuple):
    """
    One frame.
    """

    event: str
    id: str | None
    data: JSON
    retry_ms: int | None = None


class Response(NamedTuple):
    """
    An answer of which the head has come.
    """

    status: int
    headers: Mapping[str, str]
    reader: asyncio.StreamReader

    async def whole(self) -> bytes:
        """
        The body of an answer that has a length.
        """
        return await self.reader.readexactly(int(self.headers.get("content-length", "0")))

    async def content(self) -> AsyncIterator[bytes]:
        """
        The body of one that has none, as it comes; its last chunk ends it.
        """
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            left = size
            while left:
                some = await self.reader.read(left)
                if not some:
                    raise EOFError
                left -= len(some)
                yield some
            assert await self.reader.readexactly(2) == b"\r\n"

    async def frames(self) -> AsyncIterator[Told]:
        """
        The frames of a stream, in either form.
        """
        is_sse = self.headers["content-type"].startswith("text/event-stream")
        ending, read = (b"\n\n", _sse) if is_sse else (b"\n", _line)
        rest = b""
        async for some in self.content():
            *whole, rest = (rest + some).split(ending)
            for one in whole:
                yield read(one)


def _sse(content: bytes) -> Told:
    assert b"\r" not in content
    fields: dict[str, str] = {}
    for line in content.decode().split("\n"):
        name, _, value = line.partition(": ")
        assert name in {"event", "id", "retry", "data"}, content
        assert name not in fields, content
        fields[name] = value
    retry = fields.get("retry")
    return Told(fields["event"], fields.get("id"), json.loads(fields["data"]), None if retry is None else int(retry))


def _line(content: bytes) -> Told:
    return told(json.loads(content))


def told(line: JSON) -> Told:
    """
    A frame out of a line of JSON, or out of a long poll's answer.
    """
    return Told(line["event"], line["id"], line["data"], line.get("retry"))


@asynccontextmanager
async def asking(url: str, path: str, *, headers: Mapping[str, str]) -> AsyncIterator[Response]:
    """
    The answer to a GET; its connection is aborted with the block.
    """
    host = urlsplit(url)
    reader, writer = await asyncio.open_connection(host.hostname, host.port)
    try:
        fields = [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host.netloc}", *fields, "", ""]).encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *rest = head.rstrip().split("\r\n")
        told_of = (line.partition(": ") for line in rest)
        yield Response(int(first.split()[1]), {name.lower(): value for name, _, value in told_of}, reader)
    finally:
        writer.transport.abort()
