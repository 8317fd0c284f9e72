"""
A small scheduler: from a seed it decides who goes on next, so that one interleaving of many can be played, and again.

Everybody asks for a turn before each step: an actor before it issues a command, the store before it goes to its thread
and once more before it comes back. Between two turns the event loop gets a few rounds, as many as the seed says. What
plays is the shipped ledger, store, feed and sweeper on a real file; only the moments are the scheduler's. Never here:
a race, or what must hold after one (laws.py).
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from msgspec.structs import replace
from pysqlite3 import IntegrityError

from jobsvc.answers import Answer
from jobsvc.desk import Limits
from jobsvc.domain.errors import Conflict, JobsvcError, Unavailable
from jobsvc.domain.ids import RANDOM_BYTES, IdMaker
from jobsvc.domain.moments import SECOND_US
from jobsvc.store.sqlite import SqliteStore
from tests.ledger.rig import OPEN, FakeClock, Rig, cancel, claim
from tests.races.laws import check_laws
from tests.store.failing_driver import FailingConnect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from pathlib import Path

    from jobsvc.answers import Grants, MarkRequest
    from jobsvc.domain import commands as c
    from jobsvc.domain.job import Job
    from jobsvc.store.driver import RawConnection
    from jobsvc.store.seam import Batch, Head, Opening

Result = TypeVar("Result")
ROUNDS: Final = (0, 0, 1, 1, 2, 5)
"""
How many rounds of the loop may pass between two turns.
"""

_QUIET_ROUNDS: Final = 8
"""
After so many rounds without a turn nobody has anything left to do: a thread is only asked then, so that how fast it is
changes nothing.
"""

_STUCK_S: Final = 3.0


class StuckError(Exception):
    """
    Nobody can go on, and not everybody is done.
    """


class Gone(NamedTuple):
    """
    No answer came: the service died, or whoever asked hung up.
    """


class PausedStore(SqliteStore):
    """
    The shipped store, which goes to its threads and comes back when the scheduler says so.

    Attributes:
        play: The schedule that decides; None while everything goes straight through.
        refused: What appends raised, save that the store is down or has moved on: there the schema had to save us.
    """

    def __init__(self, path: Path, failing: FailingConnect) -> None:
        super().__init__(path, connect=failing.connect)
        self.play: Play | None = None
        self.refused: list[Exception] = []
        self._reopening = False

    async def append(self, batch: Batch, *, decided_at: int) -> Head:
        """
        As shipped.
        """
        try:
            return await super().append(batch, decided_at=decided_at)
        except Conflict:
            raise
        except Exception as error:
            if not isinstance(error, Unavailable) or isinstance(error.__cause__, IntegrityError):
                self.refused.append(error)
            raise

    async def reopen(self) -> Opening:
        """
        As shipped, in one go.
        """
        play = self.play
        if play is None:
            return await super().reopen()
        with play.busy():
            self._reopening = True
            try:
                return await super().reopen()
            finally:
                self._reopening = False

    async def _write(self, function: Callable[[RawConnection], Result]) -> Result:
        return await self._in_turn("writer", lambda: super(PausedStore, self)._write(function))

    async def _read(self, function: Callable[[RawConnection], Result]) -> Result:
        return await self._in_turn("reader", lambda: super(PausedStore, self)._read(function))

    async def _in_turn(self, who: str, hop: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        play = self.play
        if play is None or self._reopening:
            return await hop()
        await play.turn(f"{who} goes")
        with play.busy():
            for _ in range(_QUIET_ROUNDS):
                await asyncio.sleep(0)
            outcome = (await asyncio.gather(hop(), return_exceptions=True))[0]
        await play.turn(f"{who} comes back")
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


class World:
    """
    One log, and the service on it, for any number of schedules one after the other: each has keys of its own.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._clock = FakeClock()
        self.failing = FailingConnect()
        self.ids = IdMaker()
        self.rig = self._new_rig()

    def _new_rig(self) -> Rig:
        limits = Limits(progress_interval_us=SECOND_US * 3_600)
        return Rig(self._path, clock=self._clock, limits=limits, store=PausedStore(self._path, self.failing))

    @property
    def store(self) -> PausedStore:
        """
        The store of the service as it runs now.
        """
        store = self.rig.store
        assert isinstance(store, PausedStore)
        return store

    async def open(self) -> World:
        """
        The service runs.
        """
        await self.rig.open()
        return self

    async def close(self) -> None:
        """
        The service has ended.
        """
        self.store.play = None
        try:
            await self.rig.close()
        finally:
            # A writer that died of a fault closes nothing, and a thread that nobody ends keeps the process.
            await self.store.close()

    async def die(self) -> None:
        """
        The service was killed, and another runs on what it left: nothing was drained, said or tidied up.
        """
        dead = self.rig
        writer = dead.ledger.writer
        assert writer is not None
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        self.store.play = None
        await self.store.close()
        OPEN.discard(dead)
        self.rig = await self._new_rig().open()

    async def play(self, race: Callable[[Play], Awaitable[None]], *, seed: int) -> None:
        """
        *race* has been played as *seed* says, and everything that must hold holds.

        Raises:
            Exception: Something does not; a note names the seed, and tells who went when.
        """
        play = await Play.begin(self, seed)
        try:
            await race(play)
            await play.end()
        except Exception as error:
            error.add_note(f"RACE_SEED={seed} plays it again: {', '.join(play.told_apart)}")
            raise


class Play:
    """
    One schedule: who asks for a turn, and who gets it.

    Attributes:
        chance: The seed's; a race takes its own choices from it too.
        owner: Whose jobs the race is about; nobody else's schedule has it.
        began_at: The head of the log before the race.
        died: True once the service was killed: then it could not tell everything to everybody.
    """

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._turns: list[tuple[str, asyncio.Future[None]]] = []
        self._asking: set[asyncio.Task[Any]] = set()
        self._busy = 0
        self._is_over = False
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.told_apart: list[str] = []
        self.chance = Random(seed)
        self.began_at = world.rig.ledger.memory.position
        self.owner = f"user:{self.began_at}"
        self.died = False

    @classmethod
    async def begin(cls, world: World, seed: int) -> Play:
        """
        A schedule on *world*, where nothing is left of the one before.
        """
        clock = world.rig.clock
        clock.wall = max(clock.wall, world.rig.ledger.now())
        # More than a minute, so that what the sweeper does once a minute it does in every schedule.
        clock.advance(61 * SECOND_US)
        world.failing.disarm()
        world.rig.changes.clear()
        return cls(world, seed)

    # Looking

    @property
    def rig(self) -> Rig:
        """
        The service as it runs now.
        """
        return self._world.rig

    @property
    def failing(self) -> FailingConnect:
        """
        What makes the store fail.
        """
        return self._world.failing

    @property
    def store(self) -> PausedStore:
        """
        The store as it runs now.
        """
        return self._world.store

    async def types(self, job: Job) -> list[str]:
        """
        What happened to *job*.
        """
        return await self.rig.types(job)

    # Asking

    def create(self, key: str | None = "key", *, owner: str | None = None, **fields: Any) -> c.Create:  # noqa: ANN401
        """
        A request of the race's owner, or of *owner*, with an id that the seed decides.
        """
        command = self.rig.create(key, owner=owner or self.owner, **fields)
        job_id = self._world.ids.make(self.rig.ledger.now(), self.chance.randbytes(RANDOM_BYTES))
        return replace(command, job_id=job_id)

    async def made(self, key: str | None = "key", **fields: Any) -> Job:  # noqa: ANN401  # those of ``create``
        """
        A job, made before the race begins.
        """
        return (await self.rig.execute(self.create(key, **fields))).job

    async def held(self, key: str | None = "key", **fields: Any) -> Job:  # noqa: ANN401  # those of ``create``
        """
        A job that a worker holds, made before the race begins.
        """
        await self.made(key, **fields)
        (job,) = (await self.rig.claim()).jobs
        return job

    async def asks(self, command: c.JobCommand, *, mark: MarkRequest | None = None) -> Answer | JobsvcError | Gone:
        """
        An actor with one command: what it was told, or that nobody told it anything.
        """

        async def asking() -> Answer:
            return await self.rig.ledger.execute(command, mark=mark)

        await self.turn(type(command).__name__)
        return await self.answer(asking())

    async def claims(self, limit: int = 1, *, name: str | None = None) -> Grants | JobsvcError | Gone:
        """
        An actor that claims.
        """
        await self.turn("Claim")
        return await self.answer(self.rig.ledger.claim(claim(limit, name=name)))

    async def claims_and_hangs_up(self, limit: int = 1, *, name: str | None = None) -> Grants | JobsvcError | Gone:
        """
        An actor that claims, and whose connection closes at some moment: before, with or after the answer.
        """
        await self.turn("Claim to be given up")
        return await self.given_up(self.rig.ledger.claim(claim(limit, name=name)))

    async def sweeps(self, times: int = 1) -> None:
        """
        An actor that sweeps.
        """
        for _ in range(times):
            await self.turn("sweep")
            await self.answer(self.rig.sweep())

    async def late(self, actor: Coroutine[Any, Any, Result]) -> Result:
        """
        An actor that lets others go first, as many as the seed says.
        """
        try:
            for _ in range(self.chance.randrange(12)):
                await self.turn("waits")
        except asyncio.CancelledError:
            actor.close()
            raise
        return await actor

    async def breaks(self, *, statements: int = 12) -> None:
        """
        An actor by whom one of the next statements fails, before or after it took effect.
        """
        await self.turn("break")
        fault = self.chance.choice(("SQLITE_BUSY", "SQLITE_FULL"))
        when = self.chance.choice(("before", "after"))
        self.failing.arm(self.chance.randrange(statements), when=when, error_name=fault)  # type: ignore[arg-type]

    async def dies(self) -> None:
        """
        An actor that kills the service and starts it again; nobody who waits is told anything.
        """
        await self.turn("kill")
        with self.busy():
            self.died = True
            self._hang_up()
            await self._world.die()
            # Whoever had its turn already asked the dead one.
            self._hang_up()
            self.store.play = None if self._is_over else self

    def _hang_up(self) -> None:
        for task in self._asking:
            task.cancel()

    async def insists(self, command: c.JobCommand) -> Answer:
        """
        The answer to *command*, asked again if the store turned out to be down: who finds that out is refused.
        """
        while isinstance(told := await self.rig.told(command), Unavailable):
            await self._calm_down()
        assert isinstance(told, Answer), told
        return told

    async def answer(self, asked: Coroutine[Any, Any, Result]) -> Result | JobsvcError | Gone:
        """
        What *asked* came to: a refusal is an outcome, and so is that no answer came.
        """
        return await self.outcome(self.ask(asked))

    def ask(self, asked: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """
        *asked*, under way; it is given up when the service dies.
        """
        task = asyncio.ensure_future(asked)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        return task

    async def given_up(self, asked: Coroutine[Any, Any, Result]) -> Result | JobsvcError | Gone:
        """
        What *asked* came to before whoever asked hung up: at any moment, or in the very round of a commit.
        """
        task = self.ask(asked)
        if self.chance.random() < 0.5:
            await self.turn("hangs up")
        else:
            await self.turn_or_commit("hangs up")
        task.cancel()
        return await self.outcome(task)

    @staticmethod
    async def outcome(asked: asyncio.Task[Result]) -> Result | JobsvcError | Gone:
        """
        What *asked* comes to, Gone if it was given up before it came to anything.
        """
        try:
            return await asked
        except JobsvcError as refusal:
            return refusal
        except asyncio.CancelledError:
            if asked.cancelled() and not _is_ending():
                return Gone()
            raise

    # Scheduling

    async def turn(self, who: str) -> None:
        """
        Returns when the seed says that it is *who*'s turn; at once when there is nothing left to decide.
        """
        if self._is_over:
            return
        await self._granted(who, asyncio.get_running_loop().create_future())

    async def turn_or_commit(self, who: str) -> None:
        """
        Returns in the round in which the next commit becomes visible, before anybody whom it wakes; if none comes for
        as many turns as the seed says, as ``turn``.
        """
        heard: list[object] = []
        asked: list[asyncio.Future[None]] = []

        def committed(changes: object) -> None:
            heard.append(changes)
            for future in asked:
                if not future.done():
                    future.set_result(None)

        on_commit = self.rig.ledger.on_commit
        on_commit.append(committed)
        try:
            for _ in range(1 + self.chance.randrange(24)):
                if heard or self._is_over:
                    return
                asked[:] = [asyncio.get_running_loop().create_future()]
                await self._granted(who, asked[0])
        finally:
            on_commit.remove(committed)

    async def _granted(self, who: str, future: asyncio.Future[None]) -> None:
        asked = (who, future)
        self._turns.append(asked)
        try:
            await future
        finally:
            if asked in self._turns:
                self._turns.remove(asked)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """
        Nobody gets a turn meanwhile.
        """
        self._busy += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._busy -= 1
            if not self._busy:
                self._quiet.set()

    async def run(self, *actors: Coroutine[Any, Any, Any]) -> list[Any]:
        """
        What each of *actors* came to, in their order, once all are done and the service is calm again.
        """
        tasks = [asyncio.ensure_future(actor) for actor in actors]
        self.store.play, self._is_over = self, False
        try:
            while not all(task.done() for task in tasks):
                for task in tasks:
                    if task.done():
                        task.result()
                await self._give_turn()
        finally:
            for task in tasks:
                task.cancel()
            await self._let_everybody_go()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._calm_down()
        return [task.result() for task in tasks]

    async def _calm_down(self) -> None:
        """
        Nothing fails any more, and what the service still had to do is done: a grant taken back takes two batches.
        """
        self.failing.disarm()
        try:
            async with asyncio.timeout(_STUCK_S):
                while not self.rig.ledger.accepting:  # noqa: ASYNC110  # the ledger tells nobody when
                    await asyncio.sleep(0.001)
                for _ in range(3):
                    await self.rig.settled()
        except TimeoutError:
            raise StuckError("the ledger takes no commands any more") from None

    async def _give_turn(self) -> None:
        for _ in range(self.chance.choice(ROUNDS)):
            await asyncio.sleep(0)
        await self._quiet.wait()
        if not self._turns:
            await self._see_somebody()
            return
        who, future = self._turns.pop(self.chance.randrange(len(self._turns)))
        if not future.done():
            self.told_apart.append(who)
            future.set_result(None)

    async def _see_somebody(self) -> None:
        """
        Returns once somebody asks for a turn, or all is done.
        """
        for _ in range(2 * _QUIET_ROUNDS):
            if self._turns or self._busy:
                return
            await asyncio.sleep(0)
        try:
            async with asyncio.timeout(_STUCK_S):
                while self._asking and not self._turns and not self._busy:
                    await asyncio.wait(self._asking, timeout=0.001, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise StuckError(f"{len(self._asking)} wait, and nobody goes on") from None

    async def _let_everybody_go(self) -> None:
        self.store.play = None
        self._is_over = True
        while self._turns or self._busy:
            while self._turns:
                _, future = self._turns.pop()
                if not future.done():
                    future.set_result(None)
            await asyncio.sleep(0)

    # Ending

    async def end(self) -> None:
        """
        Everything that must hold after any race holds, and nothing is left for the next schedule.
        """
        await self._calm_down()
        assert [] == self.store.refused, "the schema had to refuse a batch"
        await check_laws(self.rig, after=self.began_at, published_whole=not self.died)
        await self.rig.ledger.execute_all([cancel(job, force=True) for job in self.rig.ledger.memory.jobs.values()])


def _is_ending() -> bool:
    """
    True if it is the actor itself that is to end.
    """
    actor = asyncio.current_task()
    return actor is not None and actor.cancelling() > 0
