"""
The sink: where a connection writes, and all that it knows of the reader: whether there is room, and what was taken.

The wire is one, to a socket; a long poll gathers instead. What must never live here: what is written.
"""

from __future__ import annotations

from typing import Protocol


class Sink(Protocol):
    """Where a connection writes."""

    @property
    def room(self) -> bool:
        """False while nothing more is to be written."""
        ...

    @property
    def buffered(self) -> int:
        """Bytes that were written and that the reader has not taken."""
        ...

    @property
    def untaken(self) -> int:
        """The same, and what the kernel holds for the reader: a slow one takes of that for long before it has room."""
        ...

    def write(self, content: bytes, *, news: bool) -> None:
        """*content* is on its way; *news* is anything but hello, ready and heartbeats."""
        ...

    def full(self) -> None:
        """The connection may have more to say, and there is no room."""
        ...

    def finish(self) -> None:
        """Nothing more comes; what was written is still to arrive."""
        ...

    def abort(self) -> None:
        """Nothing more comes, and nothing more arrives."""
        ...
