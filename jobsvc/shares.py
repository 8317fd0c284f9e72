"""
The shares: how much of one bounded thing each holder has, all guests together, and everybody.

Guests are free to make, so a bound on each guest bounds nothing: what guests hold together is bounded below the total,
and users find room whatever guests do. Memory is bounded by the total, since who holds nothing is forgotten.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from jobsvc.domain.errors import SlowDown

if TYPE_CHECKING:
    from collections.abc import Iterator

GUEST: Final = "guest:"
"""How the name of a guest begins, as an owner and as an actor."""


class Shares:
    """
    What is held of one thing, by holder: an owner, or the actor of a principal.

    Attributes:
        total: What everybody holds together.
    """

    def __init__(self, *, each_max: int, guests_max: int, total_max: int) -> None:
        self._each_max = each_max
        self._guests_max = guests_max
        self._total_max = total_max
        self._held: dict[str, int] = {}
        self._guests = 0
        self.total = 0

    def take_if_room(self, holder: str, weight: int = 1) -> bool:
        """
        True if *holder* has *weight* more, False if there was no room.

        Who holds nothing yet may take more than its share at once.
        """
        held = self._held.get(holder, 0)
        guest = holder.startswith(GUEST)
        if (
            (held and held + weight > self._each_max)
            or (guest and self._guests >= self._guests_max)
            or self.total >= self._total_max
        ):
            return False
        self._held[holder] = held + weight
        self.total += weight
        if guest:
            self._guests += weight
        return True

    def take(self, holder: str, weight: int = 1) -> None:
        """*holder* has *weight* more, whether or not there was room."""
        self._held[holder] = self._held.get(holder, 0) + weight
        self.total += weight
        if holder.startswith(GUEST):
            self._guests += weight

    def give(self, holder: str, weight: int = 1) -> None:
        """*holder* has *weight* less."""
        left = self._held.pop(holder, 0) - weight
        if left:
            self._held[holder] = left
        self.total -= weight
        if holder.startswith(GUEST):
            self._guests -= weight

    def clear(self) -> None:
        """Nobody has anything."""
        self._held.clear()
        self._guests = self.total = 0

    @contextmanager
    def held(self, holder: str, message: str) -> Iterator[None]:
        """
        *holder* has one more while the block runs.

        Raises:
            SlowDown: There is no room, which *message* says.
        """
        if not self.take_if_room(holder):
            raise SlowDown(message)
        try:
            yield
        finally:
            self.give(holder)

    def __len__(self) -> int:
        """How many holders there are."""
        return len(self._held)
