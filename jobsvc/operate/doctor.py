"""
The doctor: everything that can be wrong with a log, its views and its machine, each with a sentence.

The quick checks (checks.py), and verify's two walks over all of it. What the service does of this by itself, all the
time and a little at a time, is rounds.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from jobsvc.operate.checks import Bounds, Checked, holders_check, quick_checks
from jobsvc.operate.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from jobsvc.domain.words import Micros
    from jobsvc.operate.findings import Finding
    from jobsvc.settings import Settings
    from jobsvc.store.seam import Store


class DoctorReport(Struct, frozen=True):
    """What each check found; ``ok`` if all are."""

    ok: bool
    position: int
    checks: list[Checked]


async def examine(
    store: Store,
    database: Path,
    *,
    now: Micros,
    bounds: Bounds,
    progress: Callable[[int, int], object] | None = None,
) -> DoctorReport:
    """
    What each check finds. Cost: as verify.

    Args:
        store: Opened, if only for reading; a service may write meanwhile.
        database: Its file.
        now: By the machine's clock.
        bounds: What still counts as sound.
        progress: Told after each page how many events were looked at, and of how many.
    """
    verified = await verify(store, progress=progress)
    checks = [
        # No view is compared by verify where an event or the archive is wrong.
        *walked(verified.findings, verified.position, compared=all(one.position is None for one in verified.findings)),
        await holders_check(store),
        *await quick_checks(store, database, now=now, bounds=bounds),
    ]
    return DoctorReport(all(one.ok for one in checks), verified.position, checks)


def bounds_of(settings: Settings) -> Bounds:
    """What still counts as sound, as the settings say."""
    return Bounds(settings.doctor_disk_free_bytes_min, settings.doctor_lag_events_max)


def walked(findings: Sequence[Finding], position: int, *, compared: bool) -> list[Checked]:
    """
    What the walks say of a log that ends at *position*: of events, of rows that belong to no job, of the views.

    Nothing is said to be well that was not looked at: the views count only if they were *compared* with their replay.
    """
    in_archive = [one for one in findings if one.what.startswith(_SEGMENT)]
    in_log = [one for one in findings if one.position is not None and one not in in_archive]
    orphans = [one for one in findings if one.position is None and _NO_REPLAY in one.what]
    in_views = [one for one in findings if one.position is None and one not in orphans]
    log = f"The chain holds, and positions 1 to {position} and all versions are there."
    if in_log:
        log = f"Position {in_log[0].position}: {in_log[0].what}."
    views, rows = "Each view is what a replay makes.", "No view has a row that no replay makes."
    if not compared:
        views = rows = f"The views were not looked at, since the {'log' if in_log else 'archive'} is not whole."
    return [
        Checked("log", ok=not in_log, says=log),
        Checked("archive", ok=not in_archive, says=_first(in_archive, "The archive is what its manifest says.")),
        Checked("orphans", ok=not orphans and compared, says=_first(orphans, rows)),
        Checked("views", ok=not in_views and compared, says=_first(in_views, views)),
    ]


_NO_REPLAY: Final = "no replay makes"
_SEGMENT: Final = "segment "


def _first(findings: Sequence[Finding], otherwise: str) -> str:
    if not findings:
        return otherwise
    more = f" ({len(findings)} such findings)" if len(findings) > 1 else ""
    return f"{findings[0].what}{more}."
