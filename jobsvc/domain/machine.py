"""
The state machine: every state, every trigger, every guard, once.

Two rules. All state change of a job is declared here and nowhere else: the decider fires triggers and names no state.
And every guard lives here, as a method of ``Case``, so that taking a row out of ``ROWS`` changes what the service does.

Live commands go through one shared ``transitions`` Machine, fired by name on a light model: a Machine or ``add_model``
per job would leak models and cost 70-150 µs. Replay looks up ``next_state`` in a table that is read off that same
machine at import; a test walks every pair and shows that both agree. The diagram in docs/workers.md is drawn from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from msgspec import Struct
from transitions import Event, Machine, Transition

from jobsvc.domain.words import ACTIVE, ERASED, TERMINAL, Micros, State

if TYPE_CHECKING:
    from jobsvc.domain.events import EventType  # noqa: TC004  # nobody asks what a Case's fields are
    from jobsvc.domain.job import Job  # noqa: TC004  # the same

LOST_LEASES_MAX: Final = 3
"""
The lapse that makes this many fails the job: a crashing payload must not loop.
"""

LATE_RESULTS_MAX: Final = 8
"""
How many late results a job keeps.
"""

CANCEL_GRACE_US: Final = 30_000_000
"""
How long a worker has to stop after a cancel, from the later of the request and the start of the service.
"""

NEW: Final = "new"
"""
Where a job is before its first event. No job is ever seen there.
"""

WAITING: Final = ("scheduled", "queued", "retrying")
HELD: Final = ("running", "cancelling")
LIVING: Final = (*WAITING, *HELD)
ENDED: Final = ("completed", "failed", "cancelled", "expired")


class Row(NamedTuple):
    """
    One line of the state table: in *sources*, *trigger* leads to *dest* and makes *event*, if all *guards* hold.

    ``dest`` None means that the state stays; ``event`` None means that nothing happens and that is the right answer.
    Rows of one trigger are tried in order; the first whose guards hold is taken.
    """

    trigger: str
    sources: tuple[str, ...]
    dest: State | None
    event: EventType | None
    guards: tuple[str, ...] = ()


ROWS: Final = (
    Row("create", (NEW,), "scheduled", "job.created", ("starts_later",)),
    Row("create", (NEW,), "queued", "job.created"),
    Row("come_due", ("scheduled", "retrying"), "queued", "job.due", ("is_due",)),
    Row("claim", ("queued",), "running", "job.started", ("is_wanted",)),
    Row("heartbeat", HELD, None, None, ("fence_is_current",)),
    Row("progress", HELD, None, "job.progressed", ("fence_is_current",)),
    Row("complete", HELD, "completed", "job.completed", ("fence_is_current",)),
    Row("complete", ("retrying", "queued"), "completed", "job.completed", ("fence_is_current",)),
    Row("fail", ("running",), "retrying", "job.attempt_failed", ("fence_is_current", "may_try_again")),
    Row("fail", ("running",), "failed", "job.failed", ("fence_is_current",)),
    Row("fail", ("cancelling",), "cancelled", "job.cancelled", ("fence_is_current",)),
    Row("release", ("running",), "queued", "job.released", ("fence_is_current",)),
    Row("release", ("cancelling",), "cancelled", "job.cancelled", ("fence_is_current",)),
    Row("keep_late_result", (*LIVING, *ENDED), None, "job.late_result", ("has_room_for_late_result", "is_remembered")),
    Row("lapse", ("running",), "retrying", "job.lease_expired", ("lease_is_over", "has_losses_left")),
    Row("lapse", ("running",), "failed", "job.failed", ("lease_is_over",)),
    Row("lapse", ("cancelling",), "cancelled", "job.cancelled", ("lease_is_over",)),
    Row("end_grace", ("cancelling",), "cancelled", "job.cancelled", ("grace_is_over",)),
    Row("expire", LIVING, "expired", "job.expired", ("is_overdue",)),
    Row("cancel", HELD, "cancelled", "job.cancelled", ("is_forced",)),
    Row("cancel", WAITING, "cancelled", "job.cancelled"),
    Row("cancel", ("running",), "cancelling", "job.cancel_requested"),
    Row("cancel", ("cancelling",), None, None),
    Row("cancel", ENDED, None, None),
    Row("clean_up", LIVING, "expired", "job.expired", ("is_overdue",)),
    Row("clean_up", HELD, "expired", "job.expired", ("lease_is_over",)),
    Row("clean_up", LIVING, "cancelled", "job.cancelled", ("is_forced",)),
    Row("clean_up", ENDED, None, None),
    Row("retry", ENDED, None, None, ("is_remembered",)),
    Row("supersede", LIVING, "cancelled", "job.cancelled"),
    Row("give_way", ("cancelling",), "cancelled", "job.cancelled"),
    Row("ask_followup", LIVING, None, "job.followup_requested"),
    Row("change_owner", LIVING, None, "job.owner_changed", ("leaves_one_holder",)),
    Row("change_owner", ENDED, None, "job.owner_changed", ("is_remembered",)),
    Row("erase", ENDED, None, "job.erased"),
)


class Case(Struct, eq=False):
    """
    One job under one trigger: all that a guard may ask about, and what came of it. Each is itself and equals no other.

    Attributes:
        job: As it stands; None for one that is about to be born.
        now: The moment at which it is decided.
        lease_live: True while the lease has not run out, by the service's own clock.
        fence: The fence that the caller's lease token carries; -1 for a caller without one.
        force: The caller said so.
        run_at: When the job that is about to be born may start; None for at once.
        retry_at: When another attempt would start; None if the worker said that it must not.
        digest: Of the body of a late result.
        holder: The active job that has the key where the job is to go; None if that is free.
        awake_since: When the service started: it grants the grace anew, since it could tell nobody while it was away.
        state: The machine's own, whatever it was made with: once fired at, where the trigger led, else the job's.
        emitted: The event that the taken row makes; None while none was taken, or if the row makes none.
    """

    job: Job | None
    now: Micros
    lease_live: bool = False
    fence: int = -1
    force: bool = False
    run_at: Micros | None = None
    retry_at: Micros | None = None
    digest: str = ""
    holder: Job | None = None
    awake_since: Micros = 0
    state: str = NEW
    emitted: EventType | None = None

    @property
    def known(self) -> Job:
        """
        The job; only ``create`` has none, and no guard of ``create`` asks for it.
        """
        if self.job is None:
            message = "a trigger other than create was fired without a job"
            raise ValueError(message)
        return self.job

    def starts_later(self) -> bool:
        """
        Its run_at lies ahead.
        """
        return self.run_at is not None and self.run_at > self.now

    def is_due(self) -> bool:
        """
        The moment it waits for has come.
        """
        due_at = self.known.due_at
        return due_at is not None and due_at <= self.now

    def is_overdue(self) -> bool:
        """
        Nobody wants it any more: past its deadline, its first start, or the longest that a job may be active.
        """
        active_until = self.known.active_until
        too_long = active_until is not None and active_until <= self.now
        return too_long or self.is_past_deadline() or self.is_past_first_start()

    def is_past_deadline(self) -> bool:
        """
        Its result would come too late.
        """
        deadline = self.known.deadline
        return deadline is not None and deadline <= self.now

    def is_past_first_start(self) -> bool:
        """
        It should have been started by now and never was.
        """
        job = self.known
        return job.first_started_at is None and job.start_by is not None and job.start_by <= self.now

    def is_wanted(self) -> bool:
        """
        The opposite of overdue.
        """
        return not self.is_overdue()

    def fence_is_current(self) -> bool:
        """
        The caller's lease is the newest that was granted, and nothing has revoked it.
        """
        return 0 < self.fence == self.known.fence

    def lease_is_over(self) -> bool:
        """
        The worker's right to report has run out.
        """
        return not self.lease_live

    def grace_is_over(self) -> bool:
        """
        The worker had its time to stop and did not.
        """
        grace_until = self.known.grace_until
        if grace_until is None:
            return False
        return max(grace_until, self.awake_since + CANCEL_GRACE_US) <= self.now

    def may_try_again(self) -> bool:
        """
        The worker allows it, attempts are left, and the next would start before the deadline.
        """
        job = self.known
        if self.retry_at is None or job.attempt >= job.terms.max_attempts:
            return False
        return job.deadline is None or self.retry_at < job.deadline

    def has_losses_left(self) -> bool:
        """
        This loss is not the last that a job may have.
        """
        return self.known.lost_leases + 1 < LOST_LEASES_MAX

    def has_room_for_late_result(self) -> bool:
        """
        It comes from a lease that once was, was not kept yet, and fewer than eight were.
        """
        kept = self.known.late_digests
        was_granted = 0 < self.fence <= self.known.fence
        return was_granted and len(kept) < LATE_RESULTS_MAX and self.digest not in kept

    def is_remembered(self) -> bool:
        """
        No erasure has taken its payload away, so that it can be asked for again and nothing of it may come back.
        """
        return self.known.owner != ERASED

    def leaves_one_holder(self) -> bool:
        """
        No other active job has the key that it would take with it.
        """
        return self.holder is None

    def is_forced(self) -> bool:
        """
        The caller said force.
        """
        return self.force


class EmittingTransition(Transition):
    """
    A transition that knows which event it makes, and its guards by name.
    """

    def __init__(self, *arguments: Any, event: EventType | None = None, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **options)
        self.event = event
        self.guards = tuple(cast("str", condition.func) for condition in self.conditions)


class LeanEvent(Event):
    """
    A trigger of the machine, without what the library offers around it and nobody here uses.

    The library's own wraps each trigger in an EventData, a queue, six rounds of callbacks and as many log lines: 7 µs
    for a create, against 0.4 µs for this walk over the very same transitions. A test shows for every state, trigger and
    outcome of the guards that both take the same row. Source: docs/decisions/0007-lean-paths.md.
    """

    def trigger(self, model: Case) -> bool:  # type: ignore[override]  # fired by nothing but fire and the tests
        """
        True if a transition was taken: the first from the model's state whose guards all hold. False changes nothing.
        """
        transition: EmittingTransition
        for transition in self.transitions.get(model.state, ()):  # type: ignore[assignment]  # its transition_cls
            for guard in transition.guards:
                if not getattr(model, guard)():
                    break
            else:
                if transition.dest is not None:
                    model.state = transition.dest
                model.emitted = transition.event
                return True
        return False


class JobMachine(Machine):
    """
    The ``transitions`` Machine over ``Case`` models; holds no model itself.
    """

    transition_cls = EmittingTransition
    event_cls = LeanEvent


def build_machine(rows: tuple[Row, ...] = ROWS) -> JobMachine:
    """
    A machine that knows exactly *rows*. Tests build it with rows taken out.
    """
    machine = JobMachine(
        model=None,
        states=[NEW, *sorted(ACTIVE), *sorted(TERMINAL)],
        initial=NEW,
        auto_transitions=False,
        send_event=False,
    )
    for row in rows:
        for source in row.sources:
            machine.add_transition(row.trigger, source, row.dest, conditions=list(row.guards), event=row.event)
    return machine


def read_table(machine: JobMachine) -> dict[tuple[str, str], str]:
    """
    Which state each (state, event) leads to, as *machine* declares it; birth apart, whose event names its state.
    """
    table: dict[tuple[str, str], str] = {}
    for trigger in machine.events.values():
        for source, choices in trigger.transitions.items():
            for choice in cast("list[EmittingTransition]", choices):
                if choice.event is not None and source != NEW:
                    table[source, choice.event] = choice.dest or source
    return table


MACHINE: Final = build_machine()
TABLE: Final = read_table(MACHINE)


def fire(trigger: str, case: Case) -> bool:
    """
    True if a row of *trigger* was taken; then ``case.state`` and ``case.emitted`` say what came of it.

    False leaves it where its job is: the state knows no such trigger, or a guard refused. Cost: below 1 µs.
    """
    case.state, case.emitted = NEW if case.job is None else case.job.state, None
    event = MACHINE.events.get(trigger)
    return event is not None and event.trigger(case)


def next_state(state: State, event: EventType) -> State:
    """
    The state after *event*; *state* itself for a pair that the machine would refuse, since what is recorded happened.
    """
    return TABLE.get((state, event), state)  # type: ignore[return-value]  # the table holds states only


def would_refuse(state: State, event: EventType) -> bool:
    """
    True if today's machine has no row by which *event* could come about in *state*.
    """
    return (state, event) not in TABLE
