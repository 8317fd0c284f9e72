"""
Export: a log as lines, to be kept or to go on elsewhere.

The service may go on meanwhile: what is exported is the log up to the head that it had at the beginning, with the marks
as of that very moment. A sealed export takes the log's identity with it, so nothing may be appended here any more.
"""

from __future__ import annotations

import asyncio
from hashlib import sha256
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

from msgspec import Struct

from jobsvc.domain.errors import InvalidCommand
from jobsvc.operate.carrying import FORMAT, EndLine, Follower, HeaderLine, event_line, mark_line, write_lines
from jobsvc.store.chain import GENESIS
from jobsvc.store.seam import ROWS_PER_PAGE_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jobsvc.operate.aside import Progress
    from jobsvc.store.seam import Mark, Store

_BYTES_PER_COPY: Final = 1_048_576


class Sink(Protocol):
    """Where the lines go."""

    def write(self, content: bytes, /) -> Any:  # noqa: ANN401  # how much, mostly, and nobody asks
        """*content* is written."""
        ...


class Exported(Struct, frozen=True):
    """What was exported: up to which position, how many marks, and under which identity if the log was sealed."""

    position: int
    chain: str
    marks: int
    sealed: bool
    epoch: str | None


async def export(store: Store, sink: Sink, *, seal: bool = False, progress: Progress) -> Exported:
    """
    The log of *store* stands in *sink*, whole.

    Args:
        store: Opened as it is; for writing if it is to be sealed.
        sink: Takes the lines, a page at a time.
        seal: Nothing is appended here any more, from before the end of the lines is written.
        progress: Told the position after each page.

    Raises:
        InvalidCommand: The log is only half here.
        Corrupt: An event is not the one that was recorded; what was written until then is no whole export.

    Cost: about 8 µs an event; the marks on the disk meanwhile.
    """
    if await store.standing() == "loading":
        raise InvalidCommand("an import into this database was broken off; run it again first")
    hashed = _Hashed(sink)
    with TemporaryFile() as spool:
        marks = _Marks(spool)
        head = await store.carry_marks(marks.take)
        epoch = head.epoch if seal else None
        hashed.write(write_lines([HeaderLine(FORMAT, head.position, head.chain.hex(), epoch)]))
        await _write_events(store, hashed, until=head.position, progress=progress)
        for piece in marks.pieces():
            hashed.write(piece)
        if seal:
            await store.seal()
        hashed.write(write_lines([EndLine(marks.count, hashed.hexdigest())]))
    return Exported(head.position, head.chain.hex(), marks.count, seal, epoch)


async def _write_events(store: Store, sink: Sink, *, until: int, progress: Progress) -> None:
    follower = Follower(0, GENESIS)
    while follower.position < until:
        limit = min(ROWS_PER_PAGE_MAX, until - follower.position)
        records = await store.read_records(after=follower.position, limit=limit)
        if not records:
            raise InvalidCommand(f"position {follower.position + 1} is missing; verify the log first")
        sink.write(write_lines(map(event_line, follower.follow(records))))
        progress(follower.position, until)
        await asyncio.sleep(0)


class _Hashed:
    """A sink that knows SHA-256 of what went through it."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._hash = sha256()

    def write(self, content: bytes) -> None:
        """*content* is written."""
        self._hash.update(content)
        self._sink.write(content)

    def hexdigest(self) -> str:
        """Of all that was written until now."""
        return self._hash.hexdigest()


class _Marks:
    """Marks on their way through a file, since there may be more than fit into memory."""

    def __init__(self, spool: IO[bytes]) -> None:
        self._spool = spool
        self.count = 0

    def take(self, page: Sequence[Mark]) -> None:
        """*page* is in the file."""
        self._spool.write(write_lines(map(mark_line, page)))
        self.count += len(page)

    def pieces(self) -> Iterator[bytes]:
        """All that is in the file."""
        self._spool.seek(0)
        while piece := self._spool.read(_BYTES_PER_COPY):
            yield piece
