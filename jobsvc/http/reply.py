"""
The reply: JSON that nobody may keep, with a head made of bytes that are the same for all, written in one go.

aiohttp's own answer fills a dict of headers for each and reads it out again; here only what differs is written
(docs/decisions/0007-lean-paths.md has the figures). Where anything about a request is unusual (an old version, a
connection that is to be closed, no body wanted), aiohttp answers it as ever.
What must never live here: a header's value that a caller chose and nobody checked.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, cast

from aiohttp import HttpVersion11, web

if TYPE_CHECKING:
    from jobsvc.http.request import Adorned

JSON_HEADERS: Final = {"Content-Type": "application/json", "Cache-Control": "no-store"}


class Reply:
    """
    An answer with a body of JSON. To aiohttp's connection loop it is a response like its own.

    Attributes:
        status: One that has a body.
        headers: Besides those that every reply has; values of ours.
        prepared: True once it has been written, or its head by aiohttp.
        keep_alive: Another request may follow on the connection.
    """

    __slots__ = ("_content", "_written_by_aiohttp", "headers", "keep_alive", "prepared", "status")

    def __init__(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        """
        Nothing is written yet.
        """
        self._content = content
        self._written_by_aiohttp: web.Response | None = None
        self.status = status
        self.headers = headers
        self.prepared = False
        self.keep_alive = True

    def whole(self, told: bytes) -> bytes:
        """Head and body as they go over the wire, this once; with the lines that browsers are to be *told*."""
        self.prepared = True
        head = _begun(self.status, int(time.time()))
        for name, value in self.headers.items():
            head += f"{name}: {value}\r\n"
        content = self._content
        return b"%bContent-Length: %d\r\n%b\r\n%b" % (head.encode("latin-1"), len(content), told, content)

    async def prepare(self, request: web.BaseRequest) -> None:
        """Head and body have been handed to the connection, or the head alone as aiohttp makes it."""
        if self.prepared:
            return
        if not request.keep_alive or request.version != HttpVersion11 or request.method == "HEAD":
            self.prepared = True
            other = web.Response(body=self._content, status=self.status, headers=JSON_HEADERS | self.headers)
            self._written_by_aiohttp = other
            await other.prepare(request)
            self.keep_alive = bool(other.keep_alive)
            return
        await request.writer.write(self.whole(cast("Adorned", request).told))
        # Each request has a writer of its own: without this, answers that nobody takes would pile up.
        await request.writer.drain()

    async def write_eof(self) -> None:
        """All of it has been handed to the connection."""
        if self._written_by_aiohttp is not None:
            await self._written_by_aiohttp.write_eof()


@lru_cache(maxsize=16)
def _begun(status: int, now_s: int) -> str:
    """The lines of a head that are the same for a second."""
    always = "".join(f"{name}: {value}\r\n" for name, value in JSON_HEADERS.items())
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nDate: {formatdate(now_s, usegmt=True)}\r\n{always}"


Response = Reply | web.StreamResponse
"""What a handler may answer."""
