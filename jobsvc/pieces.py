"""
The pieces: what members of a channel are told next, joined once for all of them, and kept for a while.

One shelf for all channels, bounded in bytes: ten thousand channels that each kept a few would hold more than the ring.
What must never live here: what a piece is made of.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from jobsvc.domain.job import Job

_PIECE_BYTES: Final = 256
"""What a piece weighs besides its frames."""


class Piece(Struct, frozen=True, gc=False):
    """
    What is told next.

    Attributes:
        position: Everything in scope up to here has been told with this piece.
        content: The frames as bytes; empty if there was nothing in scope.
        ended: The job that the scope is about, if it ended here and the scope ends with it.
    """

    position: int
    content: bytes
    ended: Job | None = None

    @property
    def size(self) -> int:
        """About how many bytes it weighs."""
        return len(self.content) + _PIECE_BYTES


class Pieces:
    """
    The pieces made last, by channel and by the position after which they tell.

    Attributes:
        bytes: About how much they weigh.
    """

    def __init__(self, *, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._kept: dict[tuple[object, int], Piece] = {}
        self.bytes = 0

    def clear(self) -> None:
        """None is kept."""
        self._kept.clear()
        self.bytes = 0

    def find(self, channel: object, after: int) -> Piece | None:
        """The piece that tells *channel* what comes after that position, if it is still kept."""
        return self._kept.get((channel, after))

    def keep(self, channel: object, after: int, piece: Piece) -> None:
        """*piece*, which is not kept yet, is; those made first go until the bound holds, be it all."""
        self._kept[channel, after] = piece
        self.bytes += piece.size
        while self.bytes > self._bytes_max:
            self.bytes -= self._kept.pop(next(iter(self._kept))).size
