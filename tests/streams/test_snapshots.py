"""
Snapshots that many begin with at once: told from one list, and as fresh as one's own.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from typing import TYPE_CHECKING, Any, Final

from jobsvc.http.snapshots import Snapshot
from tests.http.client import until
from tests.http.world import started
from tests.streams.test_hand_over import on, wired
from tests.streams.test_slow_readers import MIB, stuck

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.client import JSON
    from tests.http.world import World

STUCK: Final = 60
JOBS: Final = {"jobs": [{"kind": "work", "input": "x" * 15_000}] * 50}
SMALL: Final[dict[str, Any]] = {"stream_kernel_bytes": 4_096, "active_per_owner_max": 10_000}


def test_those_who_do_not_read_their_snapshot_hold_one_together(tmp_path: Path) -> None:
    """
    A part weighs 64 KiB and the list as much as there are jobs: once for all who came at the same position.

    On the loop that the service runs on; asyncio's own copies what it has to keep (CPython 3.11).
    """
    on("uvloop", lambda: _stuck_in_a_snapshot(tmp_path))


async def _stuck_in_a_snapshot(tmp_path: Path) -> None:
    async with wired(tmp_path, frees=True, stream_stall_s=600, **SMALL) as place:
        for _ in range(10):
            await place.post("/api/jobs/batch", JOBS)
        first = await stuck(place.port)
        await until(lambda: any(one.standing == "lagging" for one in place.service.streams.connections))
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        others = [await stuck(place.port) for _ in range(STUCK)]
        await until(lambda: [one.standing for one in place.service.streams.connections] == ["lagging"] * (STUCK + 1))
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        states = {one.state for one in place.service.streams.connections}
        for connection in (first, *others):
            connection.close()
        await place.gone()
        left = len(place.service.streams._around.snapshots)  # noqa: SLF001  # nobody is told

    assert {"snapshot"} == states
    assert after - before < 2 * MIB < STUCK * 65_536
    assert 0 == left


async def test_what_is_kept_for_readers_that_stand_still_weighs_so_much_at_most(tmp_path: Path) -> None:
    """
    Two at a position hold its parts, and there may be thousands of pairs: of all positions together, no more than that.
    """
    bound = 256 * 1_024
    async with started(
        tmp_path / "jobs.db", stream_stall_s=600, streams_per_principal_max=100, ring_bytes_max=8 * bound, **SMALL
    ) as world:
        port = int(world.url.rpartition(":")[2])
        for _ in range(2):
            assert (await world.guest.post("/api/jobs/batch", JOBS)).status == 200
        held = []
        for pairs in range(1, 9):
            await world.guest.made()
            held += [await stuck(port, bearer=world.viewer.token) for _ in range(2)]
            standings = ["lagging"] * (2 * pairs)
            await until(lambda: [one.standing for one in world.service.streams.connections] == standings)  # noqa: B023
        snapshots = {one for one in gc.get_objects() if isinstance(one, Snapshot)}
        kept = sum(len(content) for one in snapshots for content, _, _ in one._made.values())  # noqa: SLF001
        for connection in held:
            connection.close()

    assert 8 <= len(snapshots)
    assert 0 < kept <= bound


async def test_who_comes_later_is_shown_the_lease_as_it_is_by_then(tmp_path: Path) -> None:
    """
    A lease that is renewed makes no event; what others were told at the same position is not told again for long.
    """
    async with started(tmp_path / "jobs.db", **SMALL) as world:
        await world.guest.made()
        grant = await world.worker.claim(lease_s=600)
        for _ in range(4):
            assert (await world.guest.post("/api/jobs/batch", JOBS)).status == 200
        port = int(world.url.rpartition(":")[2])
        held = [await stuck(port, bearer=world.viewer.token) for _ in range(2)]
        await until(lambda: [one.standing for one in world.service.streams.connections] == ["lagging"] * 2)
        world.clock.advance(5)
        assert (await world.worker.report(grant, "heartbeat")).status == 200
        shown = await _first_job(world)
        for connection in held:
            connection.close()

    # The leases of an answer and of a frame may differ by a microsecond.
    to_the_second = slice(0, 19)
    assert grant.lease_expires_at[to_the_second] < shown["lease_expires_at"][to_the_second]


async def _first_job(world: World) -> JSON:
    async with asyncio.timeout(10), world.viewer.stream() as frames:
        await frames.next()
        return (await frames.next()).data["jobs"][0]


async def test_who_comes_after_an_event_is_shown_the_list_with_it(tmp_path: Path) -> None:
    """
    However many are still in the snapshot of before.
    """
    async with started(tmp_path / "jobs.db", **SMALL) as world:
        for _ in range(4):
            assert (await world.guest.post("/api/jobs/batch", JOBS)).status == 200
        held = await stuck(int(world.url.rpartition(":")[2]), bearer=world.viewer.token)
        await until(lambda: [one.standing for one in world.service.streams.connections] == ["lagging"])
        made = await world.guest.made()
        async with world.viewer.stream() as frames:
            seen = await frames.until("ready")
        held.close()

    parts = [frame for frame in seen if frame.event == "snapshot"]
    assert made["id"] == parts[-1].data["jobs"][-1]["id"]
    assert 201 == sum(len(frame.data["jobs"]) for frame in parts)
    assert {made["position"]} == {int(frame.data["cursor"].rpartition(".")[2]) for frame in parts}
