"""
Verify: the chain, the positions 1..n, the versions, the times, and every view against a replay.

Reads only, in pages, and may run while the service writes. Two walks: along the log for the chain (log_walk.py), and
along the streams for what belongs to a job (stream_walk.py); neither remembers more than where it is, so the memory is
the same however long the log is. The first thing that is wrong is named with its position; later ones may only follow
from it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from jobsvc.operate.catch_ups import CatchUp
from jobsvc.operate.findings import Finding
from jobsvc.operate.log_walk import LogWalk
from jobsvc.operate.manifest import ManifestWalk
from jobsvc.operate.stream_walk import VIEWS, StreamWalk
from jobsvc.operate.views import CATCH_UP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobsvc.domain.events import Event
    from jobsvc.store.seam import Store


_CHAIN: Final = re.compile(r"[0-9a-fA-F]{64}")


class Verified(Struct, frozen=True):
    """What was looked at, and what was found wrong, gravest first."""

    position: int
    chain: str
    findings: list[Finding]


class VerifyReport(Struct, frozen=True):
    """What was found of a log, as operators are told it."""

    ok: bool
    position: int
    chain: str
    first_wrong_position: int | None
    findings: list[Finding]


def report(verified: Verified) -> VerifyReport:
    """*verified* as it is told."""
    first = next((one.position for one in verified.findings if one.position is not None), None)
    return VerifyReport(not verified.findings, verified.position, verified.chain, first, verified.findings)


def saved_head(text: str) -> tuple[int, bytes]:
    """
    The head that *text*, ``POSITION:CHAIN``, says.

    Raises:
        ValueError: It is none.
    """
    position, _, chain = text.partition(":")
    if not (position.isascii() and position.isdigit() and _CHAIN.fullmatch(chain)):
        raise ValueError(f"a head is POSITION:CHAIN, with the chain in 64 hexadecimal digits, not {text!r}")
    return int(position), bytes.fromhex(chain)


async def verify(
    store: Store, *, against: tuple[int, bytes] | None = None, progress: Callable[[int, int], object] | None = None
) -> Verified:
    """
    Whether the log is whole and every view is what its replay makes.

    Args:
        store: Opened, if only for reading.
        against: A head saved earlier, (position, chain): the log must pass through it, so a cut tail is found.
        progress: Told after each page how many events were looked at, and of how many; each is looked at twice.

    Cost: about 14 µs an event; the memory of a page, and of the projections that catch up.
    """
    catch_ups = [CatchUp(store, projection) for projection in CATCH_UP]
    for one in catch_ups:
        await one.begin()

    def take(events: Sequence[Event]) -> None:
        for one in catch_ups:
            one.take(events)

    walk = LogWalk(store, against=against, take=take)
    of = 2 * (await store.read_head()).position
    while await walk.step():
        if progress is not None:
            progress(walk.position, of)
    manifest = ManifestWalk(store)
    while await manifest.step():
        pass
    if manifest.finding is not None:
        # No stream can be read through it.
        found = [one for one in (walk.finding, manifest.finding) if one is not None]
        return Verified(walk.position, walk.chain.hex(), sorted(found, key=lambda one: one.position or 0))
    streams = _streams_of(store, walk)
    while await streams.step():
        if progress is not None:
            progress(walk.position + streams.events, of)
    # Streams only go as far as the log was found whole, so what is wrong in them comes first.
    findings = [finding for finding in (streams.lowest, walk.finding) if finding is not None]
    if not findings:
        # What is wrong with an event may be all that is wrong with a view.
        findings = list(streams.in_views)
        for one in catch_ups:
            findings += await one.findings()
    return Verified(walk.position, walk.chain.hex(), findings)


def _streams_of(store: Store, walk: LogWalk) -> StreamWalk:
    """The walk along the streams as far as *walk* went; along the views too, if it met nothing wrong."""
    if walk.finding is None:
        return StreamWalk(store, views=VIEWS)
    return StreamWalk(store, until=walk.position, views=())
