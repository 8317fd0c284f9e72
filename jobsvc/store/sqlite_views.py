"""
Views that are rebuilt beside the live ones, and the rows of catch-up projections.

A shadow is a table of the view's own form; the swap drops the live one and renames the shadow, under the writer's lock
and only if no event has come that the shadow has not seen. What the rows mean is the projections' business, never this
file's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import astuple

from jobsvc.domain.errors import Conflict
from jobsvc.store.blocks import block, create_view, statements
from jobsvc.store.driver import transaction
from jobsvc.store.seam import ROWS_PER_PAGE_MAX, Behind, Parked, ViewName, ViewProgress
from jobsvc.store.sqlite_batch import drop_rows, put_rows
from jobsvc.store.sqlite_connections import side_of_history
from jobsvc.store.sqlite_pages import POSITION_MAX, as_json, select_head, select_page, unpacked
from jobsvc.store.sqlite_reads import SqliteReads, view_rows
from jobsvc.store.sqlite_segments import select_through

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from jobsvc.domain.job import Job
    from jobsvc.domain.words import JobId
    from jobsvc.store.blocks import Statement
    from jobsvc.store.driver import RawConnection
    from jobsvc.store.seam import HistoryRow, KeyRow


ROWS_PER_CLEARING: Final = 1_000
"""Some 5 ms of the writer's time."""


class SqliteViews(SqliteReads):
    """
    The part of the engine that rebuilds and catches up, on the writer's connection.
    """

    async def begin_shadow(self, view: ViewName) -> None:
        """
        An empty shadow of *view* stands beside it; what a broken rebuild left is gone.
        """
        await self._clear(f"{view}_shadow")
        await self.clear_shadow(view)
        await self._write(lambda raw: transaction(raw, lambda raw: _begin_shadow(raw, view)))

    async def fill_shadow(self, view: ViewName, rows: Mapping[JobId, Job | KeyRow | HistoryRow | None]) -> None:
        """
        The shadow of *view* holds *rows*, and none where a row is None.
        """
        table = f"{view}_shadow"
        made = drop_rows((job_id for job_id, row in rows.items() if row is None), table=table)
        made += put_rows(view, rows.values(), table=table)
        await self._write(lambda raw: transaction(raw, lambda raw: _run(raw, made)))

    async def swap_shadow(self, view: ViewName, *, built_to: int) -> None:
        """
        The shadow is the view.
        """
        missed = await self._write(lambda raw: transaction(raw, lambda raw: _swap(raw, view, built_to=built_to)))
        if missed is not None:
            raise Behind([event for _, event in await unpacked(missed)])

    async def read_shadow(
        self, view: ViewName, job_ids: Sequence[JobId]
    ) -> Mapping[JobId, Job] | Mapping[JobId, KeyRow] | Mapping[JobId, HistoryRow]:
        """
        The rows of *job_ids* in the shadow of *view*.
        """
        sql, wanted = block(f"rows_of_{view}", table=f"{view}_shadow"), {"wanted": as_json(job_ids)}
        # By the writer's connection: a shadow that was made a moment ago has no statement of the reader's yet.
        rows = await self._write(lambda raw: raw.execute(sql, wanted).fetchall())
        return dict(zip([row[0] for row in rows], view_rows(view, rows), strict=True))

    async def clear_shadow(self, view: ViewName) -> None:
        """
        What was set aside by a swap is gone.
        """
        await self._clear(f"{view}_before")

    async def count_rows(self, view: ViewName) -> int:
        """
        How many rows *view* has.
        """
        count: int = (await self._read(lambda raw: raw.execute(block("count_rows", table=view)).fetchall()))[0][0]
        return count

    async def _clear(self, table: str) -> None:
        """
        There is no *table*: its indexes went first, one by one, then its rows, a few at a time.
        """
        named = {"name": table}
        # Asked where it is written: what a rebuild that was given up still has to write comes before this.
        if not (await self._write(lambda raw: raw.execute(block("has_table"), named).fetchall()))[0][0]:
            return
        for (index,) in await self._write(lambda raw: raw.execute(block("indexes_of"), named).fetchall()):
            drop = block("drop_index", table=index)
            await self._write(lambda raw, drop=drop: raw.execute(drop))  # type: ignore[misc]  # a default binds it now
        some, bound = block("clear_some", table=table), {"limit": ROWS_PER_CLEARING}
        while await self._write(lambda raw: raw.execute(some, bound).rowcount) > 0:
            pass
        await self._write(lambda raw: raw.execute(block("drop_table", table=table)))

    async def read_rows(self, projection: str, keys: Sequence[str]) -> Mapping[str, bytes]:
        """
        The rows of *projection* under *keys*, those that exist.
        """
        parameters = {"projection": projection, "wanted": as_json(list(keys))}
        return dict(await self._read(lambda raw: raw.execute(block("find_rows"), parameters).fetchall()))

    async def write_rows(
        self,
        projection: str,
        rows: Mapping[str, bytes | None],
        *,
        version: int,
        checkpoint: int,
        resumed_from: int,
        freed: Collection[int] = (),
        parked: Sequence[Parked] = (),
    ) -> None:
        """
        Rows, checkpoint and what is parked of *projection* have advanced together.

        A *version* other than the stored one begins anew: what the other had is gone, and *resumed_from* is 0.
        """
        puts = statements("put_rows", [(projection, key, body) for key, body in rows.items() if body is not None])
        puts += statements("put_parked", [astuple(one) for one in parked])
        drops = as_json([key for key, body in rows.items() if body is None])

        def write(raw: RawConnection) -> bool:
            if not _claim_checkpoint(raw, projection, version=version, resumed_from=resumed_from):
                return False
            raw.execute(block("drop_projection_rows"), {"projection": projection, "wanted": drops})
            raw.execute(block("free_parked"), {"projection": projection, "wanted": as_json(list(freed))})
            _run(raw, puts)
            advanced = {"projection": projection, "version": version, "position": checkpoint}
            raw.execute(block("put_checkpoint"), advanced)
            return True

        if not await self._write(lambda raw: transaction(raw, write)):
            raise Conflict(f"{projection} is not at {resumed_from}: another runner is at work")

    async def swap_rows(self, beside: str, projection: str) -> None:
        """
        What *beside* has is *projection*'s, in one transaction.
        """
        await self._write(lambda raw: transaction(raw, lambda raw: _swap_rows(raw, beside, projection)))

    async def read_parked(self, projection: str) -> Sequence[Parked]:
        """
        What *projection* could not take in, by position.
        """
        rows = await self._read(lambda raw: raw.execute(block("parked"), {"projection": projection}).fetchall())
        return [Parked(row[0], row[1], row[2], row[3], bool(row[4])) for row in rows]

    async def read_checkpoints(self) -> Mapping[str, ViewProgress]:
        """
        How far each catch-up projection is.
        """
        rows = await self._read(lambda raw: raw.execute(block("all_checkpoints")).fetchall())
        return {row[0]: ViewProgress(*row) for row in rows}


def _begin_shadow(raw: RawConnection, view: ViewName) -> None:
    side = "b" if side_of_history(raw) == "a" else "a"
    for statement in create_view(view, table=f"{view}_shadow", side=side):
        raw.execute(statement)


def _swap(raw: RawConnection, view: ViewName, *, built_to: int) -> bytes | None:
    """
    None once swapped; else a page of what came after *built_to*, and nothing was changed.
    """
    if not _is_whole(raw, built_to):
        parameters = {"after": built_to, "until": POSITION_MAX, "limit": ROWS_PER_PAGE_MAX}
        return select_page(raw, "events_of_log", parameters=parameters)[0]
    raw.execute(block("set_aside", table=view))
    raw.execute(block("swap_table", table=view))
    return None


def _is_whole(raw: RawConnection, built_to: int) -> bool:
    """
    True if nothing that a view is made of stands above *built_to*: it is the head, or all from there on is archived.
    """
    head = select_head(raw).position
    if head == built_to:
        return True
    is_archived = head == select_through(raw)
    return is_archived and not raw.execute(block("has_live_after"), {"after": built_to}).fetchall()[0][0]


def _swap_rows(raw: RawConnection, beside: str, projection: str) -> None:
    names = {"projection": projection, "beside": beside}
    for table, drop in (
        ("rows", "drop_all_projection_rows"),
        ("parked", "drop_parked"),
        ("checkpoint", "drop_checkpoint"),
    ):
        raw.execute(block(drop), {"projection": projection})
        raw.execute(block(f"rename_{table}"), names)


def _claim_checkpoint(raw: RawConnection, projection: str, *, version: int, resumed_from: int) -> bool:
    """
    True if *projection* of *version* stands at *resumed_from*; rows of another version are gone then.
    """
    stored = raw.execute(block("checkpoint"), {"projection": projection}).fetchall()
    if stored and stored[0][0] == version:
        return bool(stored[0][1] == resumed_from)
    raw.execute(block("drop_all_projection_rows"), {"projection": projection})
    raw.execute(block("drop_parked"), {"projection": projection})
    return resumed_from == 0


def _run(raw: RawConnection, made: list[Statement]) -> None:
    for sql, parameters in made:
        raw.execute(sql, parameters)
