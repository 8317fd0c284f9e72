"""
Logs on the disk for the operator's verbs: one that the service itself wrote, and what a tamperer makes of a copy.

A tamperer has the file and SQLite: the triggers that guard the events are dropped, and constraints are not asked.
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner, Result

from jobsvc.cli import main
from jobsvc.operate.verify import verify
from jobsvc.store.chain import GENESIS, link
from jobsvc.store.driver import connect
from jobsvc.store.sqlite import SqliteStore
from tests.http.world import World, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from jobsvc.operate.verify import Verified
    from jobsvc.store.driver import RawConnection, Row
    from tests.http.client import JSON


async def write_log(path: Path) -> None:
    """
    A stopped log at *path*: ended jobs of each kind, waiting ones, one at work, a follow-up, and counts that caught up.
    """
    async with started(path) as world:
        await fill(world)
        await caught_up(world)


async def fill(world: World) -> None:
    """
    Something of everything has happened in *world*.
    """
    for number in range(3):
        await world.guest.made(key=f"done-{number}", title=f"post {number}")
    first, second, third = await world.worker.claims(max=3)
    await world.worker.report(first, "progress", percent=40, message="reading")
    await world.worker.complete(first, {"replies": 12})
    await world.worker.report(second, "fail", error={"code": "gone", "message": "no such post"}, retryable=False)
    await world.worker.report(third, "release")
    await world.user.cancel((await world.user.made(url="https://example.org/a"))["id"])
    await world.user.made(key="waits")
    held = await world.guest.made(key="held", priority=0)
    await world.guest.create(key="held", dedup={"on_active": "run_after"}, input={"again": True})
    await world.stranger.made(input={"no": "key"})
    await world.worker.claims(max=1, lease_s=600)
    await world.guest.cancel(held["id"])


async def caught_up(world: World) -> None:
    """
    Returns once every projection stands at the head.
    """
    while True:
        body = (await world.operator.get("/api/projections")).body
        if all(one["lag"] == 0 for one in body["projections"]):
            return


def copied(path: Path, to: Path) -> Path:
    """
    A copy of the stopped log at *path*.
    """
    shutil.copyfile(path, to)
    return to


def tamper(path: Path, *statements: str | tuple[str, tuple[Any, ...]]) -> None:
    """
    *statements* were run on the file at *path*, past everything that guards it.
    """
    raw = connect(path, read_only=False)
    try:
        for statement in (*UNGUARDED, *statements):
            sql, parameters = (statement, ()) if isinstance(statement, str) else statement
            raw.execute(sql, parameters)
    finally:
        raw.close()


def rechain(path: Path) -> None:
    """
    The chain of the log at *path* is made anew over its events as they stand, and the head with it.
    """
    rows = select(
        path, "SELECT position, job_id, version, type, schema, at, facts, payload_digest FROM events ORDER BY position"
    )
    chain, statements = GENESIS, []
    for position, job_id, version, kind, schema, at, facts, digest in rows:
        chain = link(
            chain,
            position,
            job_id=job_id,
            version=version,
            type=kind,
            schema=schema,
            at=at,
            facts=facts.encode() if isinstance(facts, str) else facts,
            payload_digest=digest,
        )
        statements.append(("UPDATE events SET chain = ? WHERE position = ?", (chain, position)))
    last = ("UPDATE head SET position = ?, chain = ?, at = ?", (rows[-1][0], chain, rows[-1][5]))
    tamper(path, *statements, last)


UNGUARDED = (
    "PRAGMA busy_timeout = 5000",
    "PRAGMA ignore_check_constraints = ON",
    "DROP TRIGGER IF EXISTS events_never_change",
    "DROP TRIGGER IF EXISTS events_never_go",
)


def select(path: Path, sql: str, *parameters: Any) -> list[Row]:  # noqa: ANN401  # as the driver takes
    """
    What *sql* finds in the file at *path*.
    """
    raw: RawConnection = connect(path, read_only=True)
    try:
        return raw.execute(sql, parameters).fetchall()
    finally:
        raw.close()


@asynccontextmanager
async def looking_at(path: Path) -> AsyncIterator[SqliteStore]:
    """
    A store that only reads the file at *path*, whatever state that is in.
    """
    store = SqliteStore(path, read_only=True)
    await store.open_as_is()
    try:
        yield store
    finally:
        await store.close()


async def verified(path: Path, *, against: tuple[int, bytes] | None = None) -> Verified:
    """
    What verify says of the file at *path*.
    """
    async with looking_at(path) as store:
        return await verify(store, against=against)


def jobsvc(*arguments: str) -> Result:
    """
    What the command line says, and its exit code.
    """
    return CliRunner().invoke(main, list(arguments))


async def said(*arguments: str) -> Result:
    """
    The same, beside a loop that runs already.
    """
    return await asyncio.to_thread(jobsvc, *arguments)


def without_lease(jobs: list[JSON]) -> dict[str, JSON]:
    """
    *jobs* by id, without the one field that is in no event.
    """
    return {job["id"]: {name: value for name, value in job.items() if name != "lease_expires_at"} for job in jobs}
