"""
A running ledger on an empty log, and its clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ledger.rig import OPEN, FakeClock, Rig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def clock() -> FakeClock:
    """
    The time of the test.
    """
    return FakeClock()


@pytest.fixture(autouse=True)
async def _nothing_left_open() -> AsyncIterator[None]:
    """
    Whatever a test opened and did not close.
    """
    yield
    for rig in list(OPEN):
        await rig.close()


@pytest.fixture
async def rig(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Rig]:
    """
    A ledger that takes commands; its log has been checked when the test is over.
    """
    rig = await Rig(tmp_path / "log.db", clock=clock).open()
    yield rig
    if rig in OPEN:
        await rig.check()
