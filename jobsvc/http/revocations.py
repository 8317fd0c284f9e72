"""
The revocations: whose tokens count no more.

A revocation is a mark of the store: made durable before it takes effect, found again after a restart, and forgotten
once no token that it is about can be alive. It names an actor, all of whose tokens it ends (or those issued before a
moment), or one token by its id. A guest that was claimed is as good as revoked: the claim's own mark says so. Asked for
when a bearer is first seen; one made here also reaches whoever is known already, through ``on_revoked``.
What must never live here: tokens themselves, or how one is proved.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from jobsvc.domain.moments import SECOND_US
from jobsvc.memory import CLAIMED
from jobsvc.store.seam import Mark, Needs
from jobsvc.takeovers import claimed_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jobsvc.clock import Clock
    from jobsvc.ledger import Ledger
    from jobsvc.store.seam import MarkKey, Store
    from jobsvc.tokens import Bearer

SCOPE: Final = "revoked"
"""What the mark of a revocation is about."""
_BY_ID: Final = "jti:"
_FRESH_MAX: Final = 10_000
"""How many revocations made here, the newest, are remembered for those whose requests were let in before."""


class Revocation(Struct, frozen=True):
    """
    That tokens count no more.

    Attributes:
        whose: An actor such as ``guest:…`` or ``worker:…``, or ``jti:`` and the id of one token.
        reason: Why, in the words of who revoked.
        issued_before: Only tokens issued before this moment; None for all.
    """

    whose: str
    reason: str
    issued_before: int | None = None

    @property
    def is_of_one_token(self) -> bool:
        """True if it names a token, which may be anybody's, and not an actor."""
        return self.whose.startswith(_BY_ID)

    def covers(self, bearer: Bearer) -> bool:
        """True if *bearer* counts no more. A token that does not say when it was issued is as old as can be."""
        if self.whose not in names_of(bearer):
            return False
        return self.issued_before is None or (bearer.issued_at or 0) < self.issued_before

    def mark(self, *, expires_at: int) -> Mark:
        """How the store keeps it until *expires_at*."""
        return Mark(self.whose, SCOPE, "", "", _ENCODE(self), expires_at)

    def wider(self, other: Revocation) -> Revocation:
        """The one of the two that covers more, since one must never undo another."""
        if other.issued_before is None:
            return other
        return self if self.issued_before is None or self.issued_before >= other.issued_before else other


class _Fresh(Struct, frozen=True):
    """A revocation made here; *until* is the moment of the elapsed clock up to which the store keeps it."""

    until: int
    revocation: Revocation
    farewell: str

    def with_another(self, revocation: Revocation, *, until: int) -> _Fresh:
        """Both at once."""
        return _Fresh(until, revocation.wider(self.revocation), self.farewell)


_ENCODE: Final = msgspec.json.Encoder().encode
_DECODE: Final = msgspec.json.Decoder(Revocation).decode


class Revocations:
    """
    Every revocation there is. One per service.

    Attributes:
        on_revoked: Told each revocation as it takes effect here, and the farewell for streams that it ends.
    """

    def __init__(self, store: Store, ledger: Ledger, clock: Clock, *, ttl_s: float) -> None:
        """
        Nothing is read before somebody asks.

        Args:
            store: Where they are looked up.
            ledger: Which writes them.
            clock: For how long they are kept.
            ttl_s: How long that is.
        """
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._ttl_us = int(ttl_s * SECOND_US)
        self._writing = asyncio.Lock()
        self._fresh: OrderedDict[str, _Fresh] = OrderedDict()
        self.on_revoked: list[Callable[[Revocation, str], None]] = []

    async def revoke(self, revocation: Revocation) -> int:
        """
        *revocation* is durable and in effect; until when it is kept.

        Raises:
            StoreBusy, StoreDown, Draining: It could not be written; nothing has changed.
        """
        async with self._writing:
            expires_at = self.keep_until()
            for known in await self._look_up([_key(revocation.whose)]):
                revocation = revocation.wider(_DECODE(known.answer))
            await self._ledger.remember(revocation.mark(expires_at=expires_at))
            self.take_effect(revocation)
        return expires_at

    def take_effect(self, revocation: Revocation, *, farewell: str = "expired") -> None:
        """A durable *revocation* counts from this turn on: for the bearers that are known, and for open streams."""
        until = self._clock.elapsed() + self._ttl_us
        known = self._fresh.pop(revocation.whose, None)
        # Of two farewells the first stands: a guest that is revoked after it was claimed is a claimed one.
        fresh = _Fresh(until, revocation, farewell) if known is None else known.with_another(revocation, until=until)
        self._fresh[revocation.whose] = fresh
        while len(self._fresh) > _FRESH_MAX:
            self._fresh.popitem(last=False)
        for tell in self.on_revoked:
            tell(revocation, farewell)

    def note_claimed(self, guest: str, owner: str) -> None:
        """*owner* has taken all that *guest* had: durable already, and in effect from this turn on."""
        self.take_effect(Revocation(guest, f"claimed by {owner}"), farewell="claimed")

    def keep_until(self) -> int:
        """Until when a revocation made now is kept."""
        return self._clock.now() + self._ttl_us

    async def covers(self, bearer: Bearer) -> bool:
        """True if *bearer* was revoked, or is a guest that was claimed. Cost: one look-up, in one thread hop."""
        marks = await self._look_up([*map(_key, names_of(bearer)), claimed_key(bearer.principal.actor)])
        # What was revoked while the store was asked may not be in its answer.
        return any(_covers(mark, bearer) for mark in marks) or self.covered_lately(bearer)

    def covered_lately(self, bearer: Bearer) -> bool:
        """True if *bearer* was revoked by this process a while ago: for whoever proved it before and goes on now."""
        return self.farewell_of(bearer) is not None

    def farewell_of(self, bearer: Bearer) -> str | None:
        """With which farewell the streams of *bearer* ended if this process revoked it a while ago, else None."""
        if not self._fresh:
            return None
        elapsed = self._clock.elapsed()
        fresh = (self._fresh.get(name) for name in names_of(bearer))
        covering = (each for each in fresh if each is not None and each.until > elapsed)
        return next((each.farewell for each in covering if each.revocation.covers(bearer)), None)

    async def _look_up(self, keys: Iterable[MarkKey]) -> list[Mark]:
        found = await self._store.look_up(Needs(marks=frozenset(keys)))
        now = self._clock.now()
        return [mark for mark in found.marks.values() if mark.expires_at > now]


def _key(whose: str) -> MarkKey:
    return (whose, SCOPE, "")


def _covers(mark: Mark, bearer: Bearer) -> bool:
    """True if *mark* says that *bearer* counts no more. That of a claim is one of its own: no revocation narrows it."""
    return mark.scope == CLAIMED or _DECODE(mark.answer).covers(bearer)


def names_of(bearer: Bearer) -> tuple[str, ...]:
    """Under which names a revocation may be about *bearer*."""
    actor = bearer.principal.actor
    return (actor,) if bearer.token_id is None else (actor, name_of_token(bearer.token_id))


def name_of_token(token_id: str) -> str:
    """Under which name a revocation is about the one token with that id."""
    return f"{_BY_ID}{token_id}"
