"""
The races of a guest that becomes a user: with creates, ends, another claim, and a service that fails or dies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobsvc.answers import Answer, TakenOver
from jobsvc.channel import Scope
from jobsvc.domain import commands as c
from jobsvc.domain.errors import DuplicateActiveJob, InvalidCommand, SpentGuest
from jobsvc.domain.words import Principal
from tests.ledger.reading import Reader
from tests.ledger.rig import as_guest, cancel, complete, handed_over, take_over
from tests.races.schedule import Gone

if TYPE_CHECKING:
    from jobsvc.domain.errors import JobsvcError
    from tests.races.conftest import Explore
    from tests.races.schedule import Play

Told = TakenOver | Answer | Gone


async def _claims(play: Play, owner: str) -> TakenOver | JobsvcError | Gone:
    """
    An actor that claims the guest for *owner*.
    """
    await play.turn("TakeOver")
    return await play.answer(play.rig.ledger.take_over(take_over(_guest(play), owner)))


def _guest(play: Play) -> str:
    return f"guest:{play.began_at}"


async def _owners(play: Play) -> set[str]:
    """
    Whose jobs there are now, of all that the race made.
    """
    events = await play.store.read_events(after=play.began_at, limit=2_000)
    jobs = await play.store.read_jobs(dict.fromkeys(event.job_id for event in events))
    return {job.owner for job in jobs.values()}


async def test_a_claim_leaves_the_guest_nothing_whatever_was_under_way(explore: Explore) -> None:
    """
    Creates, an end, a cancel and another user's claim: what came before moves, what comes after is refused.
    """

    async def race(play: Play) -> None:
        guest, other = _guest(play), f"{play.owner}-b"
        held = await play.held("held", owner=guest)
        waits = await play.made("waits", owner=guest)
        reader = Reader(play.rig, Scope(guest))

        *claims, ended, _, first, second = await play.run(
            _claims(play, play.owner),
            _claims(play, other),
            play.asks(complete(held)),
            play.asks(cancel(waits)),
            play.asks(as_guest(play.create("new", owner=guest))),
            play.asks(as_guest(play.create(None, owner=guest))),
        )
        await handed_over(play.rig)

        (won,) = [owner for owner, told in zip((play.owner, other), claims, strict=True) if _is_taken(told)]
        assert [InvalidCommand] == [type(told) for told in claims if not _is_taken(told)]
        assert {won} == await _owners(play)
        assert isinstance(ended, Answer)
        for told in (first, second):
            assert isinstance(told, (Answer, SpentGuest)), told
        seen = (await reader.settled()).told
        moved = {told["job"]["id"] for told in seen if told["type"] == "job.owner_changed"}
        born = {told.job.id for told in (first, second) if isinstance(told, Answer)}
        assert {held.id, waits.id} | born == moved
        assert guest not in play.rig.ledger.memory.by_owner
        await reader.close()

    await explore(race)


def _is_taken(told: object) -> bool:
    return isinstance(told, TakenOver)


async def test_a_claim_and_creates_for_one_key_leave_one_job(explore: Explore) -> None:
    """
    Guest and user create for one key while the user claims the guest: at no position are there two, the older stays.
    """

    async def race(play: Play) -> None:
        guest = _guest(play)

        taken, *told = await play.run(
            _claims(play, play.owner),
            play.asks(play.create("one")),
            play.asks(as_guest(play.create("one", owner=guest))),
            play.asks(play.create("one", dedup=c.Dedup(on_active="run_after"))),
            play.late(play.asks(play.create("one"))),
        )

        assert isinstance(taken, TakenOver)
        (kept,) = play.rig.ledger.memory.of_owner(play.owner)
        assert [kept] == list(play.rig.ledger.memory.jobs.values())
        assert taken.moved + taken.merged == sum(answer.job.owner == guest for answer in told if _is_new(answer))
        events = await play.store.read_events(after=play.began_at, limit=2_000)
        jobs = await play.store.read_jobs(dict.fromkeys(event.job_id for event in events))
        for job in jobs.values():
            assert job == kept or ("superseded", kept.id, play.owner) == (job.reason, job.superseded_by, job.owner)
            assert (kept.created_at, kept.id) <= (job.created_at, job.id)

    await explore(race)


def _is_new(told: object) -> bool:
    return isinstance(told, Answer) and told.outcome == "created"


async def test_a_job_moves_only_where_its_key_is_free(explore: Explore) -> None:
    """
    One job alone is moved while its new owner creates for the same key: the domain refuses it, never the schema.
    """

    async def race(play: Play) -> None:
        given = await play.made("one", owner=_guest(play))
        who = Principal("user", play.owner, play.owner)

        moved, made = await play.run(play.asks(c.ChangeOwner(given.id, who, play.owner)), play.asks(play.create("one")))

        assert isinstance(moved, DuplicateActiveJob) == (made.outcome == "created")
        assert [made.job.id] == [job.id for job in play.rig.ledger.memory.of_owner(play.owner)]

    await explore(race)


async def test_a_claim_is_whole_or_not_at_all_whatever_fails(explore: Explore) -> None:
    """
    The store fails or the service dies at any moment, and what ended moves after that: all is the user's and the guest
    spent, or nothing is and it can be claimed again.
    """

    async def race(play: Play) -> None:
        guest = _guest(play)
        for key in ("a", "b", "c"):
            await play.rig.execute(complete(await play.held(key, owner=guest)))
        await play.made("active", owner=guest)
        trouble = play.chance.choice((play.dies, play.breaks))

        _, told = await play.run(play.late(trouble()), _claims(play, play.owner))
        if not play.died:
            # After a death nobody is proved to be the guest any more; until then it may be under way.
            later = await play.rig.told(as_guest(play.create("later", owner=guest)))
            assert isinstance(later, SpentGuest) or not _is_taken(told)
        await handed_over(play.rig)

        left = await _owners(play) - {play.owner}
        if left:
            assert {guest} == await _owners(play)
            assert not _is_taken(told)
            await play.rig.ledger.take_over(take_over(guest, play.owner))
            await handed_over(play.rig)
        assert {play.owner} == await _owners(play)

    await explore(race)
