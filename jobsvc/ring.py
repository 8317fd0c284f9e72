"""
The ring: the newest changes of the log, encoded once, bounded in number and bytes, for everyone who is not far behind.

Indexed by owner, so that whoever sees one owner's changes never walks over all the others'. Below it is the store.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobsvc.domain.events import Event
    from jobsvc.framing import EncodedChange


def _position(encoded: EncodedChange) -> int:
    return encoded.change.event.position


class Ring:
    """
    The changes at consecutive positions up to the newest.

    Attributes:
        first: The position of the oldest that is kept; one beyond the newest where none is.
        position: The position of the newest that there ever was.
        bytes: About how much they weigh.
    """

    def __init__(self, *, events_max: int, bytes_max: int) -> None:
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._kept: dict[int, EncodedChange] = {}
        self._by_owner: dict[str, list[EncodedChange]] = {}
        self.bytes = 0
        self.position = 0
        self.first = 1

    def __len__(self) -> int:
        return len(self._kept)

    def start(self, position: int) -> None:
        """
        The ring is empty, and the next change is the one after *position*.
        """
        self.position, self.first = position, position + 1

    def clear(self) -> None:
        """
        Nothing is kept; who is behind reads it elsewhere.
        """
        self._kept.clear()
        self._by_owner.clear()
        self.bytes = 0
        self.first = self.position + 1

    def keep(self, encoded: EncodedChange) -> None:
        """
        *encoded* is the newest; the oldest are forgotten until the bounds hold again, but never the newest itself.
        """
        self.position = position = encoded.change.event.position
        self._kept[position] = encoded
        self.bytes += encoded.size
        for owner in encoded.owners:
            theirs = self._by_owner.get(owner)
            if theirs is None:
                self._by_owner[owner] = [encoded]
            else:
                theirs.append(encoded)
        while position - self.first >= self._events_max or (self.bytes > self._bytes_max and position > self.first):
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        oldest = self._kept.pop(self.first)
        self.first += 1
        self.bytes -= oldest.size
        for owner in oldest.owners:
            theirs = self._by_owner[owner]
            if len(theirs) > 1:
                del theirs[0]
            else:
                del self._by_owner[owner]

    def reaches(self, position: int) -> bool:
        """
        True if everything above *position* is here.
        """
        return position + 1 >= self.first

    def recent(self, position: int, limit: int) -> list[Event] | None:
        """
        The next events above *position*, at most *limit*; None if the ring does not hold all that came since.
        """
        if not self.reaches(position):
            return None
        until = min(self.position, position + limit)
        return [self._kept[place].change.event for place in range(position + 1, until + 1)]

    def after(self, position: int, owner: str | None) -> Iterator[EncodedChange]:
        """
        What is above *position*, in order: of *owner*, or of everybody for None. Only where the ring reaches.
        """
        if owner is None:
            for place in range(position + 1, self.position + 1):
                yield self._kept[place]
            return
        theirs = self._by_owner.get(owner, [])
        yield from islice(theirs, bisect_right(theirs, position, key=_position), None)
