"""
The reply: a JSON answer whose head is made of bytes that are the same for all, and written with its body in one go.

aiohttp's own answer fills a dict of headers for each and reads it out again; here only what differs is written
(docs/decisions/0007-lean-paths.md has the figures). Where anything about a request is unusual (an old version, a
connection that is to be closed, no body wanted, a cookie to be set), aiohttp answers it as ever.
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
    from collections.abc import Mapping

    from aiohttp.abc import AbstractStreamWriter

    from jobsvc.http.server import Request

JSON_HEADERS: Final = {"Content-Type": "application/json", "Cache-Control": "no-store"}


class Reply(web.Response):
    """*content*, which is JSON and not empty, as an answer that nobody may keep."""

    def __init__(self, content: bytes, *, status: int, further: Mapping[str, str]) -> None:
        """
        Nothing is written yet.

        Args:
            content: The body.
            status: One that has a body.
            further: Headers besides those that every reply has; values of ours.
        """
        super().__init__(body=content, status=status, headers=JSON_HEADERS | dict(further) if further else JSON_HEADERS)
        self._content = content
        self._is_written = False

    @property
    def prepared(self) -> bool:
        """True once the head has been written."""
        return self._is_written or super().prepared

    @property
    def keep_alive(self) -> bool | None:
        """True if another request may follow on the connection."""
        return True if self._is_written else super().keep_alive

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Head and body have been handed to the connection, or the head alone as aiohttp makes it."""
        if self._is_written:
            return None
        if self._is_unusual(request):
            return await super().prepare(request)
        head = [_begun(self.status, int(time.time()))]
        head += [f"{name}: {value}\r\n" for name, value in self.headers.items()]
        head.append(f"Content-Length: {len(self._content)}\r\n")
        told = cast("Request", request).told
        await request.writer.write(b"%b%b\r\n%b" % ("".join(head).encode("latin-1"), told, self._content))
        self._is_written = True
        await request.writer.drain()
        return None

    def _is_unusual(self, request: web.BaseRequest) -> bool:
        """True if the head is not to be the one that it nearly always is."""
        # None while nobody has said whether another request may follow.
        is_last = super().keep_alive is False or not request.keep_alive
        return is_last or bool(self._cookies) or request.version != HttpVersion11 or request.method == "HEAD"

    async def write_eof(self, data: bytes = b"") -> None:
        """All of it has been handed to the connection."""
        if not self._is_written:
            await super().write_eof(data)


@lru_cache(maxsize=16)
def _begun(status: int, now_s: int) -> str:
    """The first line and the date, which are the same for a second."""
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nDate: {formatdate(now_s, usegmt=True)}\r\n"
