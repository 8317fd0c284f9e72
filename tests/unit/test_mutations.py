"""
No row of the machine is untested: take anything away from one, and one of the decider's promises breaks.

The promises are the tests of the decider themselves, run against a machine with a row less, a source less, or a guard
less. Only the doors get the mutant at first, then the fold too, since a fold that goes wrong would hide which was seen.
"""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Final

import pytest

from jobsvc.domain import machine
from jobsvc.domain.machine import ROWS, Row, build_machine, read_table
from tests.unit import test_decider_create, test_decider_front, test_decider_moments, test_decider_work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROMISES: Final[list[Callable[[], None]]] = [
    promise
    for module in (test_decider_create, test_decider_front, test_decider_moments, test_decider_work)
    for name, promise in vars(module).items()
    if name.startswith("test_") and not signature(promise).parameters
]


def without(place: int, *instead: Row) -> tuple[Row, ...]:
    """
    The rows, with *instead* in place of the one at *place*.
    """
    return (*ROWS[:place], *instead, *ROWS[place + 1 :])


def mutants() -> Iterator[tuple[str, tuple[Row, ...]]]:
    """
    Every machine that lacks one row, one source of a row, or one guard of a row, and what it lacks.
    """
    for place, row in enumerate(ROWS):
        name = f"{place}-{row.trigger}"
        yield name, without(place)
        for source in row.sources:
            sources = tuple(each for each in row.sources if each != source)
            yield f"{name}-from-{source}", without(place, row._replace(sources=sources))
        for guard in row.guards:
            guards = tuple(each for each in row.guards if each != guard)
            yield f"{name}-unless-{guard}", without(place, row._replace(guards=guards))


MUTANTS: Final = [pytest.param(rows, id=name) for name, rows in mutants()]


def broken_promises() -> Iterator[str]:
    """
    The names of the promises that do not hold.
    """
    for promise in PROMISES:
        try:
            promise()
        except Exception:  # noqa: BLE001  # A mutant breaks a promise in any way it likes.
            yield promise.__name__


def test_the_promises_hold_for_the_machine_as_it_is() -> None:
    """
    Without a mutation nothing is broken, so that what breaks below is the mutation's doing.
    """
    promises = PROMISES

    broken = list(broken_promises())

    assert promises
    assert [] == broken


@pytest.mark.parametrize("rows", MUTANTS)
def test_a_mutant_at_the_doors_is_caught(rows: tuple[Row, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What commands may do is pinned, row by row, source by source, guard by guard.
    """
    monkeypatch.setattr(machine, "MACHINE", build_machine(rows))

    broken = next(broken_promises(), None)

    assert broken is not None


@pytest.mark.parametrize("place", range(len(ROWS)))
def test_a_row_that_doors_and_fold_lack_is_caught(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A machine and a table that agree on being wrong are seen to be wrong.
    """
    mutant = build_machine(without(place))
    monkeypatch.setattr(machine, "MACHINE", mutant)
    monkeypatch.setattr(machine, "TABLE", read_table(mutant))

    broken = next(broken_promises(), None)

    assert broken is not None
