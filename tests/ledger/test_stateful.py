"""
The shipped ledger, on a real file, against the simple model: whatever is asked in whatever order, both agree.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from msgspec.structs import replace

from jobsvc.answers import Answer, Grants, TakenOver
from jobsvc.domain import commands as c
from jobsvc.domain.errors import JobsvcError
from jobsvc.domain.events import Terms
from jobsvc.domain.moments import SECOND_US
from jobsvc.handovers import Handovers
from jobsvc.takeovers import TakeOver
from tests.ledger.model import Known, Model
from tests.ledger.rig import (
    HOUR_US,
    LEASE_US,
    OPERATOR,
    Rig,
    claim,
    complete,
    fail,
    handed_over,
    heartbeat,
    progress,
    release,
    take_over,
    together,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine

Result = TypeVar("Result")
Asked = c.JobCommand | c.Claim | TakeOver
Act = tuple[str, int, int]
"""What is asked; of which job, counted from the newest; and a number that decides the rest."""

NAMES = ("create", "create", "create", "claim", "claim", "heartbeat", "progress")
BECOMES = ("become", "claim again")
ENDS = ("complete", "complete", "fail", "release", "cancel", "clean_up", "retry")
acts = st.tuples(st.sampled_from(NAMES + ENDS + BECOMES), st.integers(0, 3), st.integers(0, 47))


class LedgerMachine(RuleBasedStateMachine):
    """
    Batches of commands, time, sweeps and restarts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.folder = Path(self.stack.enter_context(TemporaryDirectory()))
        self.runner = self.stack.enter_context(asyncio.Runner())
        self.model = Model()
        self.model.lease_us = LEASE_US
        self.guest = 0

    def run(self, asked: Coroutine[Any, Any, Result]) -> Result:
        """
        What *asked* comes to, in the loop in which the ledger lives.
        """
        return self.runner.run(asked)

    @initialize()
    def begin(self) -> None:
        """
        An empty log.
        """
        self.rig = self.run(Rig(self.folder / "log.db").open())

    @rule(batch=st.lists(acts, min_size=1, max_size=6))
    def ask(self, batch: list[Act]) -> None:
        """
        Commands of one loop turn, which is one batch, decided in order.
        """
        self._tell_time()
        commands = [command for act in batch if (command := self._command(act)) is not None]
        answers = self.run(together(*(self._asked(command) for command in commands)))
        for command, answer in zip(commands, answers, strict=True):
            self._compare(command, answer)
        self.run(self._check_shown(answers))

    @rule(by_us=st.sampled_from([1, 100_000, SECOND_US, 5 * SECOND_US, LEASE_US - 1, LEASE_US, 2 * LEASE_US]))
    def wait(self, by_us: int) -> None:
        """
        Time goes by; held progress is written if its time has come.
        """
        self.rig.clock.advance(by_us)
        self.run(self.rig.flush())

    @rule(by_us=st.sampled_from([-HOUR_US, HOUR_US]))
    def step(self, by_us: int) -> None:
        """
        Somebody sets the wall clock.
        """
        self.rig.clock.step(by_us)

    @rule()
    def sweep(self) -> None:
        """
        All that is due is brought.
        """
        self._tell_time()
        self.run(self._sweep())
        shown = self.run(_jobs(self.rig))
        self.model.swept(shown)

    @rule()
    def hand_over(self) -> None:
        """
        The ended jobs of guests that were claimed follow.
        """
        self.run(handed_over(self.rig))
        self.model.handed_over()

    @rule()
    def restart(self) -> None:
        """
        The service comes back on the same file.
        """
        self.rig = self.run(self.rig.restarted())
        self.run(Handovers(self.rig.ledger, self.rig.store, jobs_max=9).find())
        self._tell_time()
        self.model.restarted()

    @invariant()
    def agrees(self) -> None:
        """
        Every job stands as the model says; memory and views are what the log says.
        """
        if not hasattr(self, "rig"):
            return
        self.run(self.rig.check())
        jobs = self.run(_jobs(self.rig))
        assert {job_id: _told(known) for job_id, known in self.model.jobs.items()} == {
            job.id: (job.state, job.owner, job.key, job.fence, job.attempt, job.lost_leases) for job in jobs.values()
        }

    def teardown(self) -> None:
        """
        Nothing stays open.
        """
        if hasattr(self, "rig"):
            self.run(self.rig.close())
        self.stack.close()

    # Asking

    def _tell_time(self) -> None:
        self.model.now, self.model.elapsed = self.rig.ledger.now(), self.rig.clock.elapsed()

    async def _sweep(self) -> None:
        for _ in range(3):
            await self.rig.sweep()

    async def _asked(self, command: Asked) -> object:
        if isinstance(command, TakeOver):
            return await self.rig.ledger.take_over(command)
        if isinstance(command, c.Claim):
            return await self.rig.ledger.claim(command)
        return await self.rig.ledger.execute(command)

    def _command(self, act: Act) -> Asked | None:
        name, place, number = act
        if name in BECOMES:
            return self._become(again=name == "claim again")
        if name == "create":
            return self._create(number)
        if name == "claim":
            return claim(1 + number % 3)
        if place >= len(self.model.jobs):
            return None
        return self._on(name, list(self.model.jobs.values())[-1 - place], number=number)

    def _become(self, *, again: bool) -> TakeOver:
        """
        The user's claim of the guest of this time, after whom there is another; or of the one before once more.
        """
        self.guest += not again
        return take_over(f"guest:{self.guest - 1}")

    def _create(self, number: int) -> c.Create:
        dedup = c.Dedup(
            on_active=("attach", "reject", "replace", "run_after")[number % 4],
            on_completed=("rerun", "reuse", "reject")[number // 4 % 3],
        )
        terms = Terms(max_attempts=2, deadline_us=None if number % 5 else 20 * SECOND_US)
        key = (None, "one", "two", "one")[number // 12 % 4]
        return self.rig.create(
            key, owner="user:a" if number % 3 else f"guest:{self.guest - number % 2}", dedup=dedup, terms=terms
        )

    def _on(self, name: str, known: Known, *, number: int) -> c.JobCommand | None:
        match name:
            case "cancel":
                return c.Cancel(known.id, OPERATOR, force=number % 2 == 0)
            case "clean_up":
                return c.CleanUp(known.id, OPERATOR, force=number % 2 == 0)
            case "retry":
                return c.Retry(known.id, self.rig.ledger.new_id(), OPERATOR)
            case _:
                return self._report(name, known, number=number)

    def _report(self, name: str, known: Known, *, number: int) -> c.JobCommand | None:
        """
        By the newest lease, or an older one.
        """
        if not known.granted:
            return None
        job = self.run(self.rig.ledger.read_job(known.id))
        job = replace(job, fence=known.granted[-1] if number % 4 else known.granted[0])
        digest = f"d{number % 2}"
        match name:
            case "heartbeat":
                return heartbeat(job)
            case "progress":
                return progress(job, number)
            case "complete":
                return complete(job, digest=digest)
            case "fail":
                command = fail(job, digest=digest, retry_after_us=5 * SECOND_US)
                return replace(command, retryable=number % 3 != 0)
            case _:
                return release(job, digest=digest)

    # Comparing

    def _compare(self, command: Asked, answer: object) -> None:
        if isinstance(command, TakeOver):
            told = (answer.moved, answer.merged) if isinstance(answer, TakenOver) else getattr(answer, "code", answer)
            assert self.model.take_over(command.guest, command.owner) == told
            return
        if isinstance(command, c.Claim):
            self._compare_grants(command, answer)
            return
        assert isinstance(answer, (Answer, JobsvcError)), answer
        told = answer.outcome if isinstance(answer, Answer) else answer.code
        assert self._expected(command, answer) == told, command

    def _compare_grants(self, command: c.Claim, answer: object) -> None:
        assert isinstance(answer, Grants)
        startable = self.model.startable()
        given = [job.id for job in answer.jobs]
        assert set(given) <= startable
        assert min(command.limit, len(startable)) == len(given) == len(set(given))
        for job_id in given:
            self.model.granted(job_id)

    def _expected(self, command: c.JobCommand, answer: Answer | JobsvcError) -> str:
        shown = answer.job if isinstance(answer, Answer) else None
        match command:
            case c.Create():
                return self.model.create(command)
            case c.Retry():
                return self.model.retry(command)
            case c.Cancel():
                return self.model.cancel(command)
            case c.CleanUp():
                return self.model.clean_up(command)
            case c.Heartbeat() | c.ReportProgress():
                return self.model.renew(command)
            case c.Complete():
                return self.model.complete(command, shown)
            case c.Fail():
                return self.model.fail(command, shown)
            case c.Release():
                return self.model.release(command)
            case _:
                raise AssertionError(command)

    async def _check_shown(self, answers: list[object]) -> None:
        """
        Every job in an answer stands in the log just so.
        """
        for answer in answers:
            if isinstance(answer, Grants):
                shown = list(answer.jobs)
            else:
                job = getattr(answer, "job", None)
                shown = [] if job is None else [job]
            for job in shown:
                assert job == (await self.rig.store.read_jobs({job.id: job.version}))[job.id]


def _told(known: Known) -> tuple[str, str, str | None, int, int, int]:
    return (known.state, known.owner, known.key, known.fence, known.attempt, known.losses)


async def _jobs(rig: Rig) -> dict[str, Any]:
    """
    Every job there ever was, folded from the log.
    """
    ids = {event.job_id for event in await rig.log()}
    return dict(await rig.store.read_jobs(dict.fromkeys(ids)))


def explore(*, examples: int, steps: int) -> None:
    """
    So many histories of so many steps, and a failing one made small.
    """
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks
        ),
    )


def test_the_ledger_agrees_with_the_simple_model() -> None:
    """
    A bounded number of histories, in every run of the tests.
    """
    explore(examples=120, steps=40)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_the_ledger_agrees_with_the_simple_model_for_long() -> None:
    """
    Many and longer ones.
    """
    explore(examples=2_000, steps=80)
