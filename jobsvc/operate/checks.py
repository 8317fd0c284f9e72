"""
The quick checks: what can be wrong with a log, its views and its machine, each with a sentence, in a few short reads.

Whether the log itself is whole, and each view what a replay makes, takes a walk over all of it: that is verify's. Each
check is a fact about now and remembers nothing.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta, Struct

from jobsvc.domain.errors import Corrupt, StoreDown
from jobsvc.domain.job import Job
from jobsvc.domain.moments import SECOND_US, rfc3339
from jobsvc.memory import HANDOVERS
from jobsvc.operate.views import CATCH_UP
from jobsvc.store.driver import check_version, version_text
from jobsvc.store.seam import ROWS_PER_PAGE_MAX
from projections.runner import read_parked

if TYPE_CHECKING:
    from pathlib import Path

    from jobsvc.domain.words import Micros
    from jobsvc.store.seam import Store

_CLOCK_TOLERANCE_US: Final = 5 * SECOND_US
_MIB: Final = 1 << 20


class Checked(Struct, frozen=True):
    """What one check found."""

    check: Annotated[str, Meta(description="Which one.")]
    ok: bool
    says: Annotated[str, Meta(description="In a sentence.")]


class Bounds(Struct, frozen=True):
    """What still counts as sound: bytes free on the disk, events that a projection may be behind."""

    disk_free_bytes_min: int
    lag_events_max: int


async def quick_checks(store: Store, database: Path, *, now: Micros, bounds: Bounds) -> list[Checked]:
    """
    Everything that is known in a moment. Cost: a few short reads.

    Args:
        store: Opened, if only for reading.
        database: Its file.
        now: By the machine's clock.
        bounds: What still counts as sound.
    """
    head = await store.read_head()
    return [
        *await _lags(store, head.position, bounds),
        await _parked(store),
        await _handovers(store, now),
        _disk(database, bounds),
        _clock(head.at, now),
        _sqlite(),
    ]


async def holders_check(store: Store) -> Checked:
    """No key is held by two active jobs. Cost: the view ``active``, page by page, and the keys in memory."""
    holders: dict[tuple[str, str, str], str] = {}
    after = ""
    try:
        while rows := await store.read_view("active", after=after, limit=ROWS_PER_PAGE_MAX):
            for job in rows:
                assert isinstance(job, Job)  # noqa: S101  # the rows of active
                after = job.id
                if job.key is None:
                    continue
                first = holders.setdefault((job.owner, job.kind, job.key), job.id)
                if first != job.id:
                    says = f"The jobs {first} and {job.id} are both active for one key of one owner."
                    return Checked("holders", ok=False, says=says)
    except (Corrupt, StoreDown) as error:
        return Checked("holders", ok=False, says=f"The view active cannot be read: {error.message}.")
    return Checked("holders", ok=True, says=f"Each of the {len(holders)} keys that are held has one holder.")


async def _lags(store: Store, head: int, bounds: Bounds) -> list[Checked]:
    checkpoints = await store.read_checkpoints()
    checked = []
    for one in CATCH_UP:
        standing = checkpoints.get(one.name)
        at = standing.position if standing is not None and standing.version == one.version else 0
        says = f"The projection {one.name} is at position {at} of {head}."
        checked.append(Checked("lag", ok=head - at <= bounds.lag_events_max, says=says))
    return checked


async def _parked(store: Store) -> Checked:
    for one in CATCH_UP:
        parked = await read_parked(store, one)
        if parked:
            says = (
                f"The projection {one.name} has {len(parked)} jobs parked, the first at position {parked[0].position}."
            )
            return Checked("parked", ok=False, says=says)
    return Checked("parked", ok=True, says="No projection has events parked.")


async def _handovers(store: Store, now: Micros) -> Checked:
    pending = len(await store.read_marks(HANDOVERS, now=now))
    if pending:
        says = f"The ended jobs of {pending} claimed guests are still on their way to their users."
        return Checked("handovers", ok=False, says=says)
    return Checked("handovers", ok=True, says="Everything that claimed guests had is their users'.")


def _disk(database: Path, bounds: Bounds) -> Checked:
    free = shutil.disk_usage(database.absolute().parent).free
    says = f"The disk of the log has {free // _MIB} MiB free, where {bounds.disk_free_bytes_min // _MIB} are wanted."
    return Checked("disk", ok=free >= bounds.disk_free_bytes_min, says=says)


def _clock(last_at: Micros, now: Micros) -> Checked:
    if last_at > now + _CLOCK_TOLERANCE_US:
        says = f"The machine's clock is before the last event, which was at {rfc3339(last_at)}: times stand still."
        return Checked("clock", ok=False, says=says)
    return Checked("clock", ok=True, says="The machine's clock is not before the last event.")


def _sqlite() -> Checked:
    try:
        check_version()
    except StoreDown as error:
        return Checked("sqlite", ok=False, says=f"{error.message}.")
    return Checked("sqlite", ok=True, says=f"SQLite {version_text()} does not lose committed pages.")
