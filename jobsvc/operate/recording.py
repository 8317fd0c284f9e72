"""
The recorded log against today's state machine, and the view of users' own projections over it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from msgspec import Struct

from jobsvc.domain.events import Created
from jobsvc.domain.machine import next_state, would_refuse
from jobsvc.operate.views import BUILT_IN
from jobsvc.store.seam import ROWS_PER_PAGE_MAX

if TYPE_CHECKING:
    from jobsvc.domain.words import State
    from jobsvc.store.seam import Store
    from projections.projection import Projection


class RefusedToday(Struct, frozen=True):
    """A recorded event that today's state machine has no row for."""

    position: int
    job_id: str
    type: str
    state: str


class NoSuchProjection(LookupError):
    """There is no projection of that name, or it is not one."""


def find_projection(name: str) -> Projection:
    """
    The projection that *name* means: one that ships with the service, or ``package.module:Class``.

    Raises:
        NoSuchProjection: It means none; the message says what would.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        known = ", ".join(BUILT_IN)
        raise NoSuchProjection(f"there is no projection {name!r}; there are {known}, or package.module:Class")
    try:
        made = getattr(import_module(module), attribute)()
    except (ImportError, AttributeError, TypeError) as error:
        raise NoSuchProjection(f"{name!r} cannot be loaded: {error}") from error
    if not callable(getattr(made, "apply", None)):
        raise NoSuchProjection(f"{name!r} has no apply(row, event)")
    if not hasattr(made, "name"):
        made.name = attribute
    projection: Projection = made
    return projection


async def check_machine(store: Store) -> list[RefusedToday]:
    """The recorded events that today's state machine would refuse, in order. Cost: one pass, a state a job."""
    states: dict[str, State] = {}
    refused: list[RefusedToday] = []
    position = 0
    while events := await store.read_events(after=position, limit=ROWS_PER_PAGE_MAX):
        for event in events:
            state = states.get(event.job_id)
            if isinstance(event.facts, Created):
                states[event.job_id] = event.facts.state
            elif state is not None:
                if would_refuse(state, event.type):
                    refused.append(RefusedToday(event.position, event.job_id, event.type, state))
                states[event.job_id] = next_state(state, event.type)
        position = events[-1].position
    return refused
