"""
The dispatch: from a request's path to the one handler that answers it.

An exact path is found in a dict, the others by one pattern; aiohttp's Application, with its router, match info, signals
and middlewares, is left out, since nothing here needs it and each request would pay for it (figures:
docs/decisions/0007-lean-paths.md). What answers a path is the edge's, never decided here.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from aiohttp import HttpVersion11

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobsvc.http.reply import Response
    from jobsvc.http.request import Request

Answering = Callable[["Request", str], Awaitable["Response"]]
"""Answers a request to one path, given what stands in the place of the path's parameter; empty for a path without."""

_PARAMETER: Final = re.compile(r"\{\w+\}")


class Dispatch:
    """
    Which handler answers which path.

    Percent-encoding makes no difference where the character needs none; an encoded slash parts nothing.
    """

    __slots__ = ("_exact", "_otherwise", "_pattern", "_templated")

    def __init__(self, by_path: Mapping[str, Answering], *, otherwise: Answering) -> None:
        """
        Nothing is answered before it is called.

        Args:
            by_path: The handlers by path; a path has at most one parameter, written ``{id}``: one segment, not empty.
            otherwise: Answers every other path.
        """
        self._exact = {path: answer for path, answer in by_path.items() if "{" not in path}
        templated = {path: answer for path, answer in by_path.items() if "{" in path}
        # One group in each alternative, so the group that matched says which.
        self._pattern = re.compile("|".join(map(_alternative, templated)))
        self._templated = list(templated.values())
        self._otherwise = otherwise

    def __call__(self, request: Request) -> Awaitable[Response]:
        """What answers *request*."""
        # As yarl has it: decoded where that changes nothing.
        path = request.url.raw_path
        exact = self._exact.get(path)
        if exact is not None:
            return exact(request, "")
        found = self._pattern.fullmatch(path)
        if found is None or found.lastindex is None:
            return self._otherwise(request, "")
        return self._templated[found.lastindex - 1](request, found[found.lastindex])


def _alternative(path: str) -> str:
    before, after = _PARAMETER.split(path)
    return f"{re.escape(before)}([^/]+){re.escape(after)}"


async def welcome_body(request: Request) -> None:
    """
    A caller that waits for leave to send its body has it (RFC 9110, section 10.1.1).

    ``web.Application`` does this in its router, ``web.Server`` leaves it to the handler.
    """
    if request.headers.get("Expect", "").lower() == "100-continue" and request.aiohttp.version == HttpVersion11:
        await request.aiohttp.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.aiohttp.writer.output_size = 0
