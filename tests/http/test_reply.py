"""
An answer with a body says the same, whether its head was written by us or by aiohttp.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.http.conftest import Starter
    from tests.http.world import World

APP: Final = "https://app.example"
OF_THE_MOMENT: Final = frozenset({"connection", "date", "x-request-id"})


def said(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """
    What *headers* say that the next answer would say too.
    """
    return sorted((name.lower(), value) for name, value in headers.items() if name.lower() not in OF_THE_MOMENT)


async def exchanged(world: World, *requests: str) -> bytes:
    """
    All that comes back when *requests* are sent over one connection, one after the other, until it is closed.
    """
    parts = urlsplit(world.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    always = f"Host: 127.0.0.1\r\nAuthorization: Bearer {world.guest.token}\r\n\r\n"
    writer.write("".join(f"{request}\r\n{always}" for request in requests).encode())
    try:
        return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("origin", [None, APP, "https://stranger.example"])
async def test_an_answer_says_the_same_whoever_wrote_its_head(start: Starter, origin: str | None) -> None:
    """
    To a caller that keeps its connection and to one that closes it, of every origin: the same headers and body.
    """
    world = await start(allowed_origins=(APP,))
    job = await world.guest.made()
    sent = {} if origin is None else {"Origin": origin}

    kept = await world.guest.get(f"/api/jobs/{job['id']}", headers=sent)
    closed = await world.guest.get(f"/api/jobs/{job['id']}", headers=sent | {"Connection": "close"})

    assert "close" == closed.headers["Connection"]
    assert "Connection" not in kept.headers
    assert {"etag", "content-length", "content-security-policy", "server"} <= {name for name, _ in said(kept.headers)}
    assert said(closed.headers) == said(kept.headers)
    assert closed.body == kept.body
    assert kept.headers["Date"].endswith(" GMT")
    assert kept.headers["X-Request-Id"]


async def test_on_one_connection_each_answer_ends_where_the_next_begins(world: World) -> None:
    """
    A body, a head without one, an empty answer and an old-fashioned one follow each other, each as long as it says.
    """
    job = await world.guest.made()
    path = f"/api/jobs/{job['id']}"

    came = await exchanged(
        world,
        f"GET {path} HTTP/1.1",
        f"HEAD {path} HTTP/1.1",
        f'GET {path} HTTP/1.1\r\nIf-None-Match: W/"{job["version"]}"',
        f"GET {path} HTTP/1.0",
    )

    whole, head, unchanged, old = [
        f"HTTP/1.{part}".partition("\r\n\r\n") for part in came.decode().split("HTTP/1.")[1:]
    ]
    assert ["HTTP/1.1 200 OK", "HTTP/1.1 200 OK", "HTTP/1.1 304 Not Modified", "HTTP/1.0 200 OK"] == [
        each[0].partition("\r\n")[0] for each in (whole, head, unchanged, old)
    ]
    assert "" == head[2] == unchanged[2]
    assert job["id"] in whole[2]
    assert old[2] == whole[2]
    assert f"Content-Length: {len(whole[2].encode())}" in whole[0]
