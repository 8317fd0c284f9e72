"""
The operator's verbs over HTTP, ``POST /api/operator/{verb}``: each reads its body and does what operate has for it.

The command line asks here when the service holds the file. Long looks at the log run aside; what writes goes through
the ledger or the store. Every verb takes a ``reason``, which stands in the service's log.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobsvc.domain.errors import InvalidCommand, JobNotFound
from jobsvc.domain.ids import is_job_id
from jobsvc.http import bodies
from jobsvc.http.acts import answer
from jobsvc.operate.aside import aside
from jobsvc.operate.backup import back_up
from jobsvc.operate.doctor import bounds_of, examine
from jobsvc.operate.erase import Eraser
from jobsvc.operate.verify import report, saved_head
from jobsvc.operate.verify import verify as check

if TYPE_CHECKING:
    from jobsvc.http.call import Call
    from jobsvc.http.reply import Response
    from jobsvc.operate.aside import Progress
    from jobsvc.operate.backup import Copied
    from jobsvc.operate.doctor import DoctorReport
    from jobsvc.operate.verify import VerifyReport
    from jobsvc.store.seam import Store
    from jobsvc.store.sqlite import SqliteStore


async def verify(call: Call) -> Response:
    """``POST /api/operator/verify``: whether the log is whole, and every view what its replay makes."""
    body: bodies.VerifyBody = await act_body(call, bodies.VerifyBody)
    against = None if body.against is None else saved_head(body.against)

    async def look(store: Store, progress: Progress) -> VerifyReport:
        return report(await check(store, against=against, progress=progress))

    database = call.service.settings.database_path
    return await answer(call, "verify", lambda progress: aside(database, look, progress))


async def doctor(call: Call) -> Response:
    """``POST /api/operator/doctor``: what each of the doctor's checks finds."""
    await act_body(call, bodies.ActBody)
    database, now = call.service.settings.database_path, call.service.clock.now()
    bounds = bounds_of(call.service.settings)

    async def look(store: Store, progress: Progress) -> DoctorReport:
        return await examine(store, database, now=now, bounds=bounds, progress=progress)

    return await answer(call, "doctor", lambda progress: aside(database, look, progress))


async def backup(call: Call) -> Response:
    """``POST /api/operator/backup``: the database as of one moment, in a file beside the service, verified."""
    body: bodies.BackupBody = await act_body(call, bodies.BackupBody)

    async def look(store: SqliteStore, progress: Progress) -> Copied:
        return await back_up(store, Path(body.file), force=body.force, progress=progress)

    database = call.service.settings.database_path
    return await answer(call, "backup", lambda progress: aside(database, look, progress))


async def archive(call: Call) -> Response:
    """``POST /api/operator/archive``: jobs that ended long enough ago lie in segments."""
    body: bodies.ArchiveBody = await act_body(call, bodies.ArchiveBody)
    archiver = call.service.archiver
    return await answer(call, "archive", lambda progress: archiver.look(body.older_than_s, progress=progress))


async def erase(call: Call) -> Response:
    """``POST /api/operator/erase``: what may have to be forgotten of a job, or of an owner, is gone."""
    body: bodies.EraseBody = await act_body(call, bodies.EraseBody)
    service = call.service
    eraser = Eraser(service.ledger, service.store, call.principal, reason=body.reason, request_id=call.request_id)
    owner, job_id = body.owner, body.job_id
    if (owner is None) == (job_id is None):
        raise InvalidCommand("name an owner or a job_id", pointer="/owner")
    if owner is not None:
        return await answer(call, "erase", lambda progress: eraser.erase_owner(owner, progress))
    if not is_job_id(job_id or ""):
        raise JobNotFound
    return await answer(call, "erase", lambda _: eraser.erase_job(job_id or ""))


async def act_body(call: Call, shape: type[bodies.ActBody]) -> Any:  # noqa: ANN401  # an instance of *shape*
    """The body of an operator's verb, whose reason is noted for the service's log."""
    body: bodies.ActBody = call.body(shape)
    call.noted["reason"] = body.reason
    return body
