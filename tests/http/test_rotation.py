from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from click.testing import CliRunner

from jobsvc.cli import main
from jobsvc.secretfile import with_made_secret
from jobsvc.settings_loading import load_settings
from jobsvc.tokens import issue
from tests.http.test_sessions import cookie_of
from tests.http.world import SECRET, started

if TYPE_CHECKING:
    from pathlib import Path

NEXT = "another secret of more than forty characters"


async def test_a_rotation_of_the_secret_logs_nobody_out(tmp_path: Path) -> None:
    """
    Tokens, cookies, tickets and leases made with the secret before count on; new ones are made with the new one.
    """
    async with started(tmp_path / "jobs.db") as before:
        cookie = cookie_of(await before.nobody.post("/api/sessions/guest"))
        guest, worker = before.guest, before.worker
        await guest.made()
        grant = await worker.claim(lease_s=600)
        ticket = (await guest.post("/api/stream/tickets")).body["ticket"]

    async with started(tmp_path / "jobs.db", secret=NEXT, secret_previous=(SECRET,)) as after:
        seen = [
            (await after.with_token(guest.token).get("/api/jobs")).status,
            (await after.nobody.get("/api/jobs", headers=cookie)).status,
            (await after.nobody.get("/api/stream", ticket=ticket)).status,
        ]
        beat = await after.with_token(worker.token).report(grant, "heartbeat")
        job = await after.with_token(worker.token).complete(grant, {"n": 1})
        fresh = (await after.nobody.post("/api/sessions/guest")).body["token"]

    async with started(tmp_path / "jobs.db", secret=NEXT) as later:
        old = await later.with_token(guest.token).get("/api/jobs")
        new = await later.with_token(fresh).get("/api/jobs")

    assert [200, 200, 204] == seen
    assert (200, "completed") == (beat.status, job["state"])
    assert (401, 200) == (old.status, new.status)


async def test_a_lease_of_a_secret_that_is_gone_is_lost(tmp_path: Path) -> None:
    """
    A secret that was dropped, since somebody else knew it, gives no right to report.
    """
    async with started(tmp_path / "jobs.db") as before:
        await before.guest.made()
        grant = await before.worker.claim(lease_s=600)

    async with started(tmp_path / "jobs.db", secret=NEXT) as after:
        token = issue(NEXT, "worker", subject="w1", ttl_s=60, now=time.time_ns() // 1000)
        answer = await after.with_token(token).report(grant, "heartbeat")

    assert (409, "lease-lost") == (answer.status, answer.code)


async def test_the_secret_beside_the_database_is_rotated_by_a_verb(tmp_path: Path) -> None:
    """
    After rotate-secret and a restart a token of before counts still; with --forget it does not any more.
    """
    database = str(tmp_path / "jobs.db")
    first = with_made_secret(load_settings({"database": database}, {})).settings.secret
    token = await asyncio.to_thread(_run, "token", "operator", "--database", database)

    rotated = await asyncio.to_thread(_run, "rotate-secret", "--database", database)
    ring = _ring(database)
    kept = await _status(tmp_path, token)
    await asyncio.to_thread(_run, "rotate-secret", "--forget", "--database", database)
    forgotten = await _status(tmp_path, token)

    assert "1 more still verify" in rotated
    assert (2, first) == (len(set(ring)), ring[1])
    assert (200, 401) == (kept, forgotten)
    assert 0o600 == (tmp_path / "jobs.db.secret").stat().st_mode & 0o777


def _run(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments), env={"JOBSVC_SECRET": ""})
    assert result.exit_code == 0, result.output
    return result.output.strip()


def _ring(database: str) -> tuple[str, ...]:
    settings = with_made_secret(load_settings({"database": database}, {})).settings
    return (settings.secret, *settings.secret_previous)


async def _status(folder: Path, token: str) -> int:
    """
    What a service that starts now says to the token.
    """
    secret, *previous = _ring(str(folder / "jobs.db"))
    async with started(folder / "jobs.db", secret=secret, secret_previous=tuple(previous)) as world:
        return (await world.with_token(token).get("/api/log/head")).status
