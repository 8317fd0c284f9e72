"""
A long look runs on a thread of its own: it tells how far it is, brings back what it found, and ends when nobody waits.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from jobsvc.domain.errors import InvalidCommand
from jobsvc.http.acts import Acts
from jobsvc.operate.aside import aside
from tests.system.logs import write_log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from typing import NoReturn

    from jobsvc.operate.aside import Progress
    from jobsvc.store.sqlite import SqliteStore

    Look = Callable[[SqliteStore, Progress], Awaitable[None]]


@pytest.fixture
async def log(tmp_path: Path) -> Path:
    """
    A stopped log.
    """
    await write_log(tmp_path / "jobs.db")
    return tmp_path / "jobs.db"


def endless(ended: threading.Event) -> Look:
    """
    A look that goes on until it is given up, and says when it is.
    """

    async def look(store: SqliteStore, progress: Progress) -> None:
        try:
            while True:
                progress((await store.read_head()).position, 0)
        finally:
            ended.set()

    return look


async def test_a_look_brings_back_what_it_found_and_tells_on_the_caller_s_thread(log: Path) -> None:
    """
    The look is on another thread than whoever asked, and the word of its progress is not.
    """
    told: list[tuple[int, int, int]] = []

    async def look(store: SqliteStore, progress: Progress) -> tuple[int, int]:
        progress(1, 2)
        return (await store.read_head()).position, threading.get_ident()

    position, thread = await aside(log, look, lambda done, of: told.append((done, of, threading.get_ident())))
    await asyncio.sleep(0)

    assert position > 0
    assert thread != threading.get_ident()
    assert [(1, 2, threading.get_ident())] == told


async def test_what_a_look_refuses_comes_out(log: Path) -> None:
    """
    As if it had been asked here.
    """

    async def look(store: SqliteStore, progress: Progress) -> NoReturn:
        del store, progress
        raise InvalidCommand("not like this")

    with pytest.raises(InvalidCommand, match="not like this"):
        await aside(log, look, lambda *_: None)


async def test_a_service_that_stops_waits_for_no_look(log: Path) -> None:
    """
    Acts under way are given up, their threads end, and none begins any more.
    """
    ended, acts, begun = threading.Event(), Acts(), asyncio.Event()
    act = acts.begin("look", lambda _: aside(log, endless(ended), lambda *_: begun.set()))
    await begun.wait()

    await acts.stop()

    assert act.ended.cancelled()
    assert await asyncio.to_thread(ended.wait, 10)
