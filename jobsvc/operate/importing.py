"""
Import: the lines of an export become a log, in a database that holds none.

Each page is checked against the chain and stands in one transaction with the rows that follow from it. An import that
broke off is gone on with by running it again: what is there already is compared by its chain and passed over. Nobody
can open the log before its end was read and all of it was verified.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from jobsvc.domain.errors import Corrupt, InvalidCommand, StoreDown
from jobsvc.memory import ACTIVE, HISTORY, KEYS
from jobsvc.operate.carrying import (
    FORMAT,
    EndLine,
    EventLine,
    Follower,
    HeaderLine,
    MarkLine,
    read_event,
    read_line,
    read_mark,
)
from jobsvc.operate.verify import verify
from jobsvc.store.chain import GENESIS
from jobsvc.store.codec import read_record
from jobsvc.store.seam import ROWS_PER_PAGE_MAX, Loaded
from projections.folding import Rows, take

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jobsvc.operate.aside import Progress
    from jobsvc.operate.carrying import Line
    from jobsvc.store.seam import Head, Record, Store, ViewName

Anything = TypeVar("Anything")


class Imported(Struct, frozen=True):
    """
    What was imported: up to which position, how many marks, and under which identity the log goes on.

    ``resumed_from`` is where an earlier import had broken off; ``kept_epoch`` says that the export was sealed.
    """

    position: int
    chain: str
    marks: int
    epoch: str
    kept_epoch: bool
    resumed_from: int


async def import_log(store: Store, lines: Iterable[bytes], *, progress: Progress) -> Imported:
    """
    The log that *lines* say is the store's, verified, and can be opened.

    Args:
        store: Opened as it is, for writing, with nothing in it but what an import of the same log left.
        lines: Of an export.
        progress: Told the position after each page.

    Raises:
        InvalidCommand: There is another log in the store, or *lines* are no whole export.
        Corrupt: An event is not the one that was recorded, or the log that came of it does not verify.

    Cost: about 45 µs an event, 15 of them to verify.
    """
    said = _read(lines)
    header = next(said, None)
    if not isinstance(header, HeaderLine) or header.format != FORMAT:
        raise InvalidCommand(f"an export begins with a header of format {FORMAT}")
    head = await store.begin_load()
    ended = _Ended(said)
    loading = _Loading(store, header, head)
    await loading.events(ended, progress)
    marks = await loading.marks(ended)
    ended.check(marks)
    await _verify(store, progress)
    after = await store.end_load(epoch=header.epoch)
    kept = header.epoch is not None
    return Imported(after.position, after.chain.hex(), marks, after.epoch, kept, head.position)


def _read(lines: Iterable[bytes]) -> Iterator[Line]:
    """
    What each of *lines* says.

    Raises:
        InvalidCommand: One is none of an export, or the end does not fit what was read before it.
    """
    read = sha256()
    for text in lines:
        line = read_line(text)
        if isinstance(line, EndLine) and line.sha256 != read.hexdigest():
            raise InvalidCommand("the export is not the one that was written: its lines have another SHA-256")
        read.update(text)
        yield line


class _Ended:
    """The lines after the header, kind by kind, and whether their end was among them."""

    def __init__(self, said: Iterator[Line]) -> None:
        self._said = said
        self._next: Line | None = next(said, None)

    def of(self, kind: type[Anything]) -> Iterator[Anything]:
        """The lines that follow, as long as they are of *kind*."""
        while isinstance(self._next, kind):
            yield self._next
            self._next = next(self._said, None)

    def check(self, marks: int) -> None:
        """
        The last line follows, and fits what came before.

        Raises:
            InvalidCommand: It does not.
        """
        if not isinstance(self._next, EndLine) or self._next.marks != marks:
            raise InvalidCommand("the export is not whole: its last line is missing, or counts other marks")
        if next(self._said, None) is not None:
            raise InvalidCommand("something follows on the last line of the export")


class _Loading:
    """One import, and the rows that its events make: of active jobs in memory, of others page by page."""

    def __init__(self, store: Store, header: HeaderLine, head: Head) -> None:
        self._store = store
        self._header = header
        self._head = head
        self._active: Rows = {}
        self._keys: Rows = {}

    async def events(self, ended: _Ended, progress: Progress) -> None:
        """
        Every event is loaded that was not before.

        Raises:
            InvalidCommand: They are fewer or more than the header says, or others than those that are there.
            Corrupt: One is not the one that was recorded.
        """
        self._active, self._keys = await self._stored("active"), await self._stored("keys")
        follower = Follower(0, GENESIS)
        for page in _pages(follower.follow(map(read_event, ended.of(EventLine)))):
            new = [record for record in page if record.position > self._head.position]
            self._compare(page)
            if new:
                await self._load(new)
            progress(follower.position, self._header.position)
        if (follower.position, follower.chain.hex()) != (self._header.position, self._header.chain):
            message = f"the export is not whole: its events end at {follower.position}, not at {self._header.position}"
            raise InvalidCommand(message)
        if follower.position < self._head.position:
            raise InvalidCommand(_OTHER)

    async def marks(self, ended: _Ended) -> int:
        """How many marks there were; all of them are remembered."""
        count = 0
        for page in _pages(map(read_mark, ended.of(MarkLine))):
            await self._store.load_marks(page)
            count += len(page)
        return count

    def _compare(self, page: list[Record]) -> None:
        """What an earlier import left is the beginning of this log, if the chain is the same where it ends."""
        place = self._head.position - page[0].position
        if 0 <= place < len(page) and page[place].chain != self._head.chain:
            raise InvalidCommand(_OTHER)

    async def _load(self, records: list[Record]) -> None:
        """Chained or not, they may be no log: two events of one version, or one of a job that was never born."""
        try:
            await self._store.load(await self._with_rows(records))
        except (StoreDown, ValueError) as error:
            if isinstance(error, StoreDown) and error.kind != "other":
                raise
            between = f"positions {records[0].position} and {records[-1].position}"
            raise Corrupt(f"the events between {between} contradict each other or those before") from error

    async def _with_rows(self, records: list[Record]) -> Loaded:
        """*records* with the rows that follow from them."""
        events = [read_record(record) for record in records]
        job_ids = {event.job_id for event in events}
        history = {job_id: HISTORY.begun(self._active[job_id]) for job_id in job_ids & self._active.keys()}
        history |= await self._store.read_history_rows(job_ids - history.keys())
        before = dict(history)
        keys = take(KEYS, self._keys, events)
        touched = take(HISTORY, history, events)
        changed = {job_id for job_id in touched if history.get(job_id) is not before.get(job_id)}
        active = take(ACTIVE, self._active, events)
        return Loaded(
            records,
            {job_id: self._active.get(job_id) for job_id in active},
            {job_id: self._keys.get(job_id) for job_id in keys},
            {job_id: row for job_id in changed if (row := history.get(job_id)) is None or HISTORY.keeps(row)},
        )

    async def _stored(self, view: ViewName) -> Rows:
        """The rows of *view* that an earlier import left."""
        rows: Rows = {}
        after = ""
        while page := await self._store.read_view(view, after=after, limit=ROWS_PER_PAGE_MAX):
            for row in page:
                after = row.id if hasattr(row, "id") else row.job_id
                rows[after] = row
        return rows


_OTHER = "an import of another log was broken off here; remove the database, or go on with that one"


async def _verify(store: Store, progress: Progress) -> None:
    found = (await verify(store, progress=progress)).findings
    if found:
        place = "" if found[0].position is None else f"position {found[0].position}: "
        raise Corrupt(f"what was imported does not verify: {place}{found[0].what}")


def _pages(each: Iterable[Anything]) -> Iterator[list[Anything]]:
    page: list[Anything] = []
    for one in each:
        page.append(one)
        if len(page) == ROWS_PER_PAGE_MAX:
            yield page
            page = []
    if page:
        yield page
