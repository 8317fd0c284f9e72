"""
The bearers that were proved lately, by the hash of their token.

So that not every request costs a signature and a look-up. A hash is a part of a token's size, and nothing that opens a
door lies in memory. The least lately seen make room. Those whom a revocation may
be about are found without a look at the others, since every claim of a guest is one.
What must never live here: whether a bearer counts.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from jobsvc.few import each, with_one, without
from jobsvc.http.revocations import names_of

if TYPE_CHECKING:
    from jobsvc.few import Few
    from jobsvc.http.revocations import Revocation
    from jobsvc.tokens import Bearer

_HASH_BYTES: Final = 16
"""128 bits: to be taken for another, a token would have to meet a known one's hash, and that by chance."""


class KnownBearers:
    """Who needs no proof for now. One per service."""

    def __init__(self, *, bearers_max: int) -> None:
        self._bearers_max = bearers_max
        self._by_hash: OrderedDict[bytes, Bearer] = OrderedDict()
        self._hashes_of: dict[str, Few[bytes]] = {}

    def __len__(self) -> int:
        return len(self._by_hash)

    def get(self, token: str) -> Bearer | None:
        """Whose *token* it is, if that is known; it may have run out meanwhile."""
        known = _hash(token)
        bearer = self._by_hash.get(known)
        if bearer is not None:
            self._by_hash.move_to_end(known)
        return bearer

    def add(self, token: str, bearer: Bearer) -> None:
        """*token* is known to be *bearer*'s."""
        known = _hash(token)
        self._by_hash[known] = bearer
        for name in names_of(bearer):
            self._hashes_of[name] = with_one(self._hashes_of.get(name), known)
        if len(self._by_hash) > self._bearers_max:
            self._drop(next(iter(self._by_hash)))

    def forget(self, revocation: Revocation) -> None:
        """Whoever *revocation* is about has to be proved again. Cost: by how many those are."""
        for known in each(self._hashes_of.get(revocation.whose)):
            if revocation.covers(self._by_hash[known]):
                self._drop(known)

    def clear(self) -> None:
        """Everybody has to be proved again."""
        self._by_hash.clear()
        self._hashes_of.clear()

    def _drop(self, known: bytes) -> None:
        for name in names_of(self._by_hash.pop(known)):
            left = without(self._hashes_of.pop(name), known)
            if left is not None:
                self._hashes_of[name] = left


def _hash(token: str) -> bytes:
    """Of any text: a header may hold bytes that are none (aiohttp escapes them as surrogates)."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()[:_HASH_BYTES]
