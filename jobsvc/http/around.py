"""
What is around a connection: all that it shares with every other of the service, and how it begins among them.

One object for all, so that a connection keeps a single name for it, and a test makes one without a service. Where a
connection begins is decided here since it takes the feed and the snapshots, both as of one loop turn.
What must never live here: anything of one connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from jobsvc.clock import Clock
from jobsvc.feed import Feed
from jobsvc.http.beginning import Beginning, resume_at
from jobsvc.http.catching_up import CatchingUp
from jobsvc.http.connection import Connection
from jobsvc.http.snapshots import Snapshots
from jobsvc.settings import Settings
from jobsvc.wheel import Wheel

if TYPE_CHECKING:
    from jobsvc.channel import Channel
    from jobsvc.domain.job import Job


class Around(Struct, frozen=True):
    """
    What every connection of a service shares.

    ``retry_ms`` says by reason when a client should be back. ``left`` is told of each connection that is gone, once;
    ``stalled`` of one whose reader takes nothing, to cut it.
    """

    feed: Feed
    settings: Settings
    clock: Clock
    loop: asyncio.AbstractEventLoop
    wheel: Wheel
    snapshots: Snapshots
    catching_up: CatchingUp
    retry_ms: Callable[[str], int]
    left: Callable[[Connection], None]
    stalled: Callable[[Connection], None]

    def begin(self, channel: Channel, single: Job | None, after: str | None) -> tuple[int, Beginning]:
        """Where one begins who joined *channel* in this turn and asked for what came after *after*, and with what."""
        position, reset = resume_at(after, self.feed)
        if position is not None:
            return position, Beginning(single)
        snapshots = self.snapshots
        snapshot = snapshots.of(channel) if single is None else snapshots.of_jobs([single], channel.form)
        return self.feed.position, Beginning(single, reset=reset, snapshot=snapshot)
