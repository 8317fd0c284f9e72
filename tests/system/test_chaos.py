"""
Kill -9 at random moments under load: what was acked is there, and nobody sees anything twice or not at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.system.chaos import ACKED_MIN, campaign, seed

if TYPE_CHECKING:
    from pathlib import Path

SEED: Final = seed()
KILLS_PER_CAMPAIGN: Final = 10


@pytest.mark.process
@pytest.mark.parametrize("number", range(5))
async def test_fifty_kills_lose_nothing_that_was_acked(tmp_path: Path, number: int) -> None:
    """
    Fifty kills in five campaigns, each kill with a hundred acked writes and one unanswered at least: the log is whole,
    holds every answer to the field, active is its replay, and each watcher saw each event once.
    """
    async with campaign(tmp_path, seed=f"{SEED}:{number}") as chaos:
        while chaos.kills < KILLS_PER_CAMPAIGN:
            await chaos.round()

        assert chaos.acked >= ACKED_MIN * KILLS_PER_CAMPAIGN
        assert all(watcher.connections > KILLS_PER_CAMPAIGN for watcher in chaos.watchers)


@pytest.mark.process
@pytest.mark.soak
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("number", range(5))
async def test_hundreds_of_kills_lose_nothing_that_was_acked(tmp_path: Path, number: int) -> None:
    """
    The same on a log that grows through a hundred kills.
    """
    async with campaign(tmp_path, seed=f"{SEED}:soak{number}") as chaos:
        while chaos.kills < 100:
            await chaos.round()

        assert chaos.acked >= ACKED_MIN * 100
