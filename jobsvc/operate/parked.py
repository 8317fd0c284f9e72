"""
What projections could not take in, as operators see it, and what an operator does about it.

Where and why a sequence waits stands in projections/folding.py; what is written, in projections/runner.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta, Struct

from jobsvc.operate.views import CATCH_UP
from jobsvc.resource import Id
from projections.runner import read_parked

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from jobsvc.domain.words import JobId
    from jobsvc.store.seam import Parked, Store
    from projections.runner import Runner

LISTED_MAX: Final = 100
"""Of the jobs that a projection has parked: who mends the first will see the others."""


class ParkedJob(Struct, frozen=True):
    """A job of which a view takes nothing in from an event on that it could not bear."""

    job_id: Id
    position: Annotated[int, Meta(ge=1, description="Of that event.")]
    failure: Annotated[str, Meta(description="What the view met there.")]


class ParkedReport(Struct, frozen=True):
    """What a projection has parked, and how many jobs were just released."""

    projection: str
    parked: Annotated[list[ParkedJob], Meta(description="The first 100 that wait, by position.")]
    released: Annotated[int, Meta(ge=0, description="So many wait no more.")] = 0


def told(parked: Iterable[Parked]) -> list[ParkedJob]:
    """The first of *parked*, by position."""
    first = sorted(parked, key=lambda one: one.position)[:LISTED_MAX]
    return [ParkedJob(one.job_id, one.position, one.failure) for one in first]


async def list_parked(store: Store, names: Collection[str] | None = None) -> list[ParkedReport]:
    """What each projection has parked, or each of *names*."""
    chosen = [one for one in CATCH_UP if names is None or one.name in names]
    return [ParkedReport(one.name, told(await read_parked(store, one))) for one in chosen]


async def settle(runner: Runner, name: str, job_id: JobId | None, *, discard: bool) -> ParkedReport:
    """
    What waits of a job, or of all that wait, has been tried again, in order.

    Args:
        runner: Of the projection.
        name: The projection's.
        job_id: The job; None for all.
        discard: Leave out the event that it waits at, for good.

    Raises:
        KeyError: The job is not parked there.
    """
    standing = runner.standings[name]
    chosen = list(standing.parked) if job_id is None else [standing.parked[job_id].job_id]
    released = 0
    for one in chosen:
        if one in standing.parked:
            released += await runner.release(name, one, pass_over=discard)
    return ParkedReport(name, told(standing.parked.values()), released)
