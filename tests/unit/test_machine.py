"""
The machine, its table and the fold say the same of every state and every event.
"""

from __future__ import annotations

from itertools import chain, combinations
from typing import TYPE_CHECKING, Any, Final, cast, get_args

import pytest
from msgspec.structs import replace
from transitions import Event as LibraryEvent
from transitions import EventData, Machine, MachineError

from jobsvc.domain import machine
from jobsvc.domain.events import (
    FACTS_OF_TYPE,
    AttemptFailed,
    Cancelled,
    CancelRequested,
    Completed,
    Created,
    Due,
    Erased,
    Event,
    EventType,
    Expired,
    Facts,
    Failed,
    FollowupRequested,
    LateResult,
    LeaseExpired,
    OwnerChanged,
    Payload,
    Progressed,
    Released,
    Report,
    Started,
    Terms,
)
from jobsvc.domain.job import Job, evolve
from jobsvc.domain.machine import (
    MACHINE,
    NEW,
    ROWS,
    TABLE,
    Case,
    EmittingTransition,
    Row,
    build_machine,
    fire,
    next_state,
    read_table,
    would_refuse,
)
from jobsvc.domain.words import ACTIVE, ERASED, TERMINAL, State
from tests.unit.specification import KIND, NOW, QUEUED, SUBMISSION, job_of

if TYPE_CHECKING:
    from collections.abc import Callable

STATES: Final[tuple[State, ...]] = get_args(State)
EVENTS: Final[tuple[EventType, ...]] = get_args(EventType)
REPORT: Final = Report("fail", 1, "d")

FACTS: Final[dict[type[Facts], Facts]] = {
    Created: Created(kind=KIND, state="queued", terms=Terms()),
    Due: Due(),
    Started: Started(fence=2, attempt=1, lease_us=1, worker="w"),
    Progressed: Progressed(),
    AttemptFailed: AttemptFailed(2, NOW, REPORT),
    LeaseExpired: LeaseExpired(0, 1, NOW),
    Released: Released(2, 0, REPORT),
    CancelRequested: CancelRequested(NOW),
    Completed: Completed(REPORT),
    Failed: Failed(2, 0),
    Cancelled: Cancelled(2),
    Expired: Expired(2),
    LateResult: LateResult(REPORT),
    FollowupRequested: FollowupRequested(KIND, Terms(), 1),
    OwnerChanged: OwnerChanged(),
    Erased: Erased(),
}

# A job and a Case that meet every guard at once, and what each guard takes to fail.
JOB_FOR_ALL: Final = {
    "fence": 1,
    "attempt": 1,
    "due_at": NOW,
    "deadline": NOW,
    "grace_until": NOW,
    "late_digests": (),
    "lost_leases": 0,
}
CASE_FOR_ALL: Final[dict[str, Any]] = {"fence": 1, "force": True, "run_at": NOW + 1, "retry_at": NOW - 1, "digest": "d"}
FAILS_WITH: Final[dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "starts_later": ({}, {"run_at": NOW}),
    "is_due": ({"due_at": NOW + 1}, {}),
    "is_wanted": ({"deadline": NOW}, {}),
    "is_overdue": ({"deadline": None}, {}),
    "fence_is_current": ({}, {"fence": 2}),
    "may_try_again": ({}, {"retry_at": None}),
    "has_room_for_late_result": ({"late_digests": ("d",)}, {}),
    "is_remembered": ({"submission": replace(SUBMISSION, owner=ERASED)}, {}),
    "lease_is_over": ({}, {"lease_live": True}),
    "has_losses_left": ({"lost_leases": 2}, {}),
    "grace_is_over": ({"grace_until": NOW + 1}, {}),
    "leaves_one_holder": ({}, {"holder": job_of(QUEUED)}),
    "is_forced": ({}, {"force": False}),
}

WALKED: Final = [
    pytest.param(row, source, id=f"{number}-{row.trigger}-{source}")
    for number, row in enumerate(ROWS)
    for source in row.sources
]


def case_for(row: Row, source: str, *, failing: str | None = None) -> Case:
    """
    A case in *source* for which every guard of *row* holds, but for the *failing* one.
    """
    job_fields, case_fields = FAILS_WITH[failing] if failing else ({}, {})
    wanted = {"deadline": NOW + 1} if {"is_wanted", "may_try_again"} & set(row.guards) else {}
    job = None
    if source != NEW:
        job = replace(job_of(QUEUED), state=source, **JOB_FOR_ALL | wanted | job_fields)
    return Case(job, NOW, **CASE_FOR_ALL | case_fields)


def fire_alone(row: Row, case: Case) -> bool:
    """
    True if *row* is taken where it is all that the machine knows.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "MACHINE", build_machine((row,)))
        return fire(row.trigger, case)


@pytest.mark.parametrize(("row", "source"), WALKED)
def test_a_row_is_taken_where_its_guards_hold(row: Row, source: str) -> None:
    """
    Fired alone, each row leads from each of its sources to where it says, and makes the event that it says.
    """
    case = case_for(row, source)

    taken = fire_alone(row, case)

    assert (True, row.dest or source, row.event) == (taken, case.state, case.emitted)


@pytest.mark.parametrize(("row", "source"), WALKED)
def test_a_row_is_refused_by_each_of_its_guards(row: Row, source: str) -> None:
    """
    One guard that does not hold is enough, and then nothing has changed.
    """
    for guard in row.guards:
        case = case_for(row, source, failing=guard)

        taken = fire_alone(row, case)

        assert (False, source, None) == (taken, case.state, case.emitted)


@pytest.mark.parametrize(("row", "source"), WALKED)
def test_the_machine_takes_the_first_row_that_holds(row: Row, source: str) -> None:
    """
    Among all rows, the one that is taken is the first of its trigger and state whose guards hold.
    """
    case = case_for(row, source)
    choices = [each for each in ROWS if each.trigger == row.trigger and source in each.sources]
    first = next(each for each in choices if fire_alone(each, case_for(row, source)))

    taken = fire(row.trigger, case)

    assert (True, first.dest or source, first.event) == (taken, case.state, case.emitted)


@pytest.mark.parametrize("trigger", sorted({row.trigger for row in ROWS}))
def test_a_trigger_is_refused_in_every_other_state(trigger: str) -> None:
    """
    Where no row starts, nothing is taken and nothing changes.
    """
    row = next(row for row in ROWS if row.trigger == trigger)
    sources = {source for each in ROWS if each.trigger == trigger for source in each.sources}

    for state in {NEW, *STATES} - sources:
        case = case_for(row, state)

        assert not fire(trigger, case)
        assert (state, None) == (case.state, case.emitted)


class Told:
    """
    A model in *state* whose guards answer as told: those that are *holding* hold, the others do not.
    """

    def __init__(self, state: str, holding: frozenset[str]) -> None:
        self.state = state
        self.emitted: EventType | None = None
        self._holding = holding

    def __getattr__(self, guard: str) -> Callable[[], bool]:
        return lambda: guard in self._holding

    @property
    def outcome(self) -> tuple[str, EventType | None]:
        """
        What came of a trigger.
        """
        return self.state, self.emitted


class NotingTransition(EmittingTransition):
    """
    A transition under the library's own trigger, which notes on the model that it was taken.
    """

    def execute(self, event_data: EventData) -> bool:
        """
        True if the guards held; then the model's ``emitted`` is this transition's event.
        """
        taken = bool(super().execute(event_data))
        if taken:
            cast("Told", event_data.model).emitted = self.event
        return taken


class LibraryMachine(Machine):
    """
    The rows under the library's own trigger.
    """

    transition_cls = NotingTransition
    event_cls = LibraryEvent


def library_machine() -> LibraryMachine:
    """
    The same rows as the service's machine, fired as the library fires them.
    """
    machine = LibraryMachine(model=None, states=[NEW, *STATES], initial=NEW, auto_transitions=False)
    for row in ROWS:
        for source in row.sources:
            machine.add_transition(row.trigger, source, row.dest, conditions=list(row.guards), event=row.event)
    return machine


def fire_by_library(machine: LibraryMachine, trigger: str, model: Told) -> bool:
    """
    True if the library's own trigger took a transition; it raises where the state knows none.
    """
    try:
        return machine.events[trigger].trigger(model)
    except MachineError:
        return False


@pytest.mark.parametrize("trigger", sorted({row.trigger for row in ROWS}))
def test_the_lean_trigger_takes_the_row_that_the_library_takes(trigger: str) -> None:
    """
    In every state, under every combination of guards, both triggers take the same row or none.
    """
    library = library_machine()
    guards = sorted({guard for row in ROWS if row.trigger == trigger for guard in row.guards})
    combined = chain.from_iterable(combinations(guards, count) for count in range(len(guards) + 1))
    told = [(state, frozenset(holding)) for holding in combined for state in (NEW, *STATES)]

    for state, holding in told:
        expected, found = Told(state, holding), Told(state, holding)

        taken = fire_by_library(library, trigger, expected)

        assert taken == MACHINE.events[trigger].trigger(found)
        assert expected.outcome == found.outcome


def test_a_case_begins_where_its_job_is_and_equals_no_other() -> None:
    """
    Whatever it is made with, that is where a trigger finds it; a thousand alike are a thousand.
    """
    given: dict[str, Any] = {"state": "completed", "emitted": "job.completed"}

    one, other, birth = Case(job_of(QUEUED), NOW, **given), Case(job_of(QUEUED), NOW), Case(None, NOW, **given)
    refused = [fire("explode", case) for case in (one, other, birth)]

    assert [False, False, False] == refused
    assert ("queued", None) == (one.state, one.emitted)
    assert (NEW, None) == (birth.state, birth.emitted)
    assert 3 == len({one, other, birth})


def test_an_unknown_trigger_is_refused() -> None:
    """
    A trigger that the machine does not know changes nothing.
    """
    case = Case(job_of(QUEUED), NOW)

    taken = fire("explode", case)

    assert (False, "queued") == (taken, case.state)


def test_a_guard_without_a_job_is_a_mistake() -> None:
    """
    Only create has no job; anything else without one is a fault of ours and says so.
    """
    case = Case(None, NOW)

    with pytest.raises(ValueError, match="without a job"):
        case.is_due()


def test_the_table_is_what_the_rows_say() -> None:
    """
    The table that replay uses holds each (state, event) of the rows and nothing else, and never two ways for one pair.
    """
    ways = {
        (source, row.event, row.dest or source)
        for row in ROWS
        for source in row.sources
        if row.event is not None and source != NEW
    }

    table = read_table(MACHINE)

    assert table == TABLE
    assert ways == {(state, event, dest) for (state, event), dest in table.items()}
    assert len(ways) == len(table)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EVENTS)
def test_table_machine_and_fold_agree_on_every_pair(state: State, event: EventType) -> None:
    """
    Of each state and each event the machine, the table, the look-up and the fold say the same.
    """
    dests = {_taken(row, state) for row in ROWS if row.event == event and state in row.sources}

    after = next_state(state, event)

    assert (dests or {state}) == {after}
    assert would_refuse(state, event) == (not dests)
    if event != "job.created":
        assert after == _evolved(state, event).state


def test_every_state_is_active_or_terminal() -> None:
    """
    A job is the one or the other, and never both.
    """
    states = set(STATES)

    split = ACTIVE | TERMINAL

    assert states == split
    assert not ACTIVE & TERMINAL


def test_nothing_leads_out_of_a_terminal_state() -> None:
    """
    Terminal is for ever: every event after the end leaves the state as it is.
    """
    pairs = [(state, event) for state in sorted(TERMINAL) for event in EVENTS]

    after = [next_state(state, event) for state, event in pairs]  # type: ignore[arg-type]  # states all

    assert [state for state, _ in pairs] == after


def test_every_type_of_event_has_its_facts() -> None:
    """
    The names on the wire and the classes are one to one, in the order in which both are listed.
    """
    names = [FACTS_OF_TYPE[name].__name__ for name in EVENTS]

    expected = ["".join(word.capitalize() for word in name[4:].split("_")) for name in EVENTS]

    assert expected == names


def _taken(row: Row, state: State) -> str:
    case = case_for(row, state)
    assert fire_alone(row, case)
    return case.state


def _evolved(state: State, event: EventType) -> Job:
    job = replace(job_of(QUEUED), state=state)
    facts = FACTS[FACTS_OF_TYPE[event]]
    return evolve(job, Event(2, job.id, 2, NOW, facts, Payload(actor="w")))
