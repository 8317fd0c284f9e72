"""
One-use codes: each stands for a principal once, for a short while. The dashboard's link and stream tickets are codes.

A code is signed, so that one that is used or has run out can be told from one that was made up without remembering it,
also after a restart. Whom a code stands for is in memory only; a restart forgets that, which is the safe side.
What must never live here: what somebody may do with a code.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from jobsvc.domain.moments import SECOND_US
from jobsvc.http.problems import Unauthenticated

if TYPE_CHECKING:
    from jobsvc.clock import Clock
    from jobsvc.tokens import Bearer

_CODE_BYTES: Final = 18
_PROOF_BYTES: Final = 18


class OneUseCodes:
    """
    The codes of one purpose that wait to be used.

    Both bounds make room by dropping the oldest: who asks for many spoils but his own, and nobody is refused one.
    """

    def __init__(
        self, clock: Clock, *, purpose: str, ring: tuple[str, ...], ttl_s: float, per_principal_max: int, total_max: int
    ) -> None:
        """
        No code waits.

        Args:
            clock: By which they run out.
            purpose: A code of another purpose is a made-up one.
            ring: The service's secrets, the one that signs first.
            ttl_s: How long a code may be used.
            per_principal_max: Codes of one principal that may wait.
            total_max: Codes of all together.
        """
        self._clock = clock
        self._purpose = purpose
        self._ring = ring
        self._ttl_us = int(ttl_s * SECOND_US)
        self._per_principal_max = per_principal_max
        self._total_max = total_max
        self._waiting: OrderedDict[str, tuple[int, Bearer]] = OrderedDict()
        self._of: dict[str, OrderedDict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def make(self, bearer: Bearer) -> tuple[str, int]:
        """A new code for *bearer*, and when it runs out."""
        now = self._clock.now()
        text = secrets.token_urlsafe(_CODE_BYTES)
        code, expires_at = f"{text}.{self._proof(self._ring[0], text)}", now + self._ttl_us
        self._waiting[code] = (expires_at, bearer)
        own = self._of.setdefault(bearer.principal.actor, OrderedDict())
        own[code] = None
        if len(own) > self._per_principal_max:
            self._take(next(iter(own)))
        while len(self._waiting) > self._total_max or next(iter(self._waiting.values()))[0] <= now:
            self._take(next(iter(self._waiting)))
        return code, expires_at

    def spend(self, code: str) -> Bearer | None:
        """
        Whom the code stood for, once; None if it was used or has run out, or made room for another.

        Raises:
            Unauthenticated: There never was such a code.
        """
        text, _, proof = code.partition(".")
        if not code.isascii() or not any(hmac.compare_digest(self._proof(each, text), proof) for each in self._ring):
            raise Unauthenticated("there never was such a code")
        found = self._take(code)
        return found[1] if found is not None and found[0] > self._clock.now() else None

    def _take(self, code: str) -> tuple[int, Bearer] | None:
        found = self._waiting.pop(code, None)
        if found is not None:
            actor = found[1].principal.actor
            own = self._of[actor]
            del own[code]
            if not own:
                del self._of[actor]
        return found

    def _proof(self, secret: str, text: str) -> str:
        # As with leases: no signed part of a bearer token holds a NUL, so neither can stand in for the other.
        return hmac.digest(secret.encode(), f"code\0{self._purpose}\0{text}".encode("utf-8", "replace"), "sha256")[
            :_PROOF_BYTES
        ].hex()
