"""
What the tests over HTTP stand on: a world of their own each, fresh, in the test's own loop.
"""

from __future__ import annotations

import io
import json
import logging
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Protocol

import pytest

from jobsvc.lines import configure_logging
from tests.http.world import World, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tests.http.client import JSON

    LogLines = Callable[[], list[dict[str, JSON]]]


class Starter(Protocol):
    """
    Starts a world with settings of its own.
    """

    async def __call__(self, **settings: JSON) -> World:
        """
        The world; it ends with the test.
        """
        ...


@pytest.fixture(autouse=True)
def _switch_interval() -> Iterator[None]:
    """
    The loop lets the store's thread in as often as the service's own process does.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """
    A world with the settings as they come.
    """
    async with started(tmp_path / "jobs.db") as fresh:
        yield fresh


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Starter]:
    """
    Starts worlds with settings of the test's own.
    """
    async with AsyncExitStack() as stack:
        count = 0

        async def start_one(**settings: JSON) -> World:
            nonlocal count
            count += 1
            return await stack.enter_async_context(started(tmp_path / f"jobs{count}.db", **settings))

        yield start_one


@pytest.fixture
def log_lines() -> Iterator[LogLines]:
    """
    Reads what the services of this test have written to their log so far; afterwards logging is as it was.
    """
    root, ours = logging.getLogger(), logging.getLogger("jobsvc")
    before = list(root.handlers), root.level, ours.level
    output = io.StringIO()
    configure_logging("info", output=output)
    yield lambda: [json.loads(line) for line in output.getvalue().splitlines()]
    root.handlers[:], root.level, ours.level = before[0], before[1], before[2]
