"""
The verbs that carry a log: ``export`` and ``import``, ``backup`` and ``restore``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click
import msgspec

from jobsvc.cli.held import through_service
from jobsvc.cli.options import Misused, Wrong, output_option, print_json, settings_from, settings_options
from jobsvc.cli.progress import counting, existing, reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from jobsvc.operate.backup import Copied
    from jobsvc.operate.export import Exported
    from jobsvc.operate.importing import Imported
    from jobsvc.store.sqlite import SqliteStore

_STREAM: Final = "-"
"""What stands for standard input or output in the place of a file."""


@click.command(epilog="Example: jobsvc export log.ndjson --database jobs.db")
@click.argument("file", default=_STREAM)
@click.option("--seal", is_flag=True, help="The log moves: nothing is ever appended to this database again.")
@click.option("--force", is_flag=True, help="Replace what stands at FILE.")
@settings_options
@output_option
def export(
    *,
    file: str,
    seal: bool,
    force: bool,
    config_path: str | None,
    pairs: tuple[str, ...],
    output: str,
    **flags: object,
) -> None:
    """
    Write the log as lines of JSON to FILE, or to standard output.

    The service may be running. With --seal it must not be: the log's identity goes with the export, clients go on from
    their cursors where it is imported, and this database can only be read from then on. What came of it is told on
    standard error if the lines themselves go to standard output.
    """
    database = settings_from(flags, config_path=config_path, pairs=pairs).settings.database_path
    exported = asyncio.run(_exported(database, file, seal=seal, force=force))
    aside = file == _STREAM
    if output == "json":
        click.echo(msgspec.json.encode(exported).decode(), err=aside)
        return
    sealed = "; this database is sealed" if exported.sealed else ""
    click.echo(f"{exported.position} events and {exported.marks} marks exported{sealed}", err=aside)


async def _exported(database: Path, file: str, *, seal: bool, force: bool) -> Exported:
    from jobsvc.operate.export import export as write

    with _told(), _sink(file, force=force) as sink:
        async with _sealing(database) if seal else reading(database) as store:
            with counting("exporting", 0) as progress:
                return await write(store, sink, seal=seal, progress=progress)


@click.command("import", epilog="Example: jobsvc import log.ndjson --database moved.db")
@click.argument("file", default=_STREAM)
@settings_options
@output_option
def import_(*, file: str, config_path: str | None, pairs: tuple[str, ...], output: str, **flags: object) -> None:
    """
    Make a log of the lines in FILE, or on standard input, in a database that holds none.

    Positions, ids and chain are those that were exported, and all is verified. The log keeps its identity only if it
    was sealed; else clients begin anew with a snapshot. One that broke off goes on when it is run again.
    """
    database = settings_from(flags, config_path=config_path, pairs=pairs).settings.database_path
    imported = asyncio.run(_imported(database, file))
    if output == "json":
        print_json(imported)
        return
    epoch = "kept" if imported.kept_epoch else "a new one"
    resumed = f", resumed after {imported.resumed_from}" if imported.resumed_from else ""
    click.echo(f"{imported.position} events and {imported.marks} marks imported and verified{resumed}")
    click.echo(f"epoch {imported.epoch}: {epoch}")


async def _imported(database: Path, file: str) -> Imported:
    from jobsvc.operate.importing import import_log

    with _told(), _source(file) as lines:
        async with _taking(database) as store:
            with counting("importing", 0) as progress:
                return await import_log(store, lines, progress=progress)


@click.command(epilog="Example: jobsvc backup jobs-2026-11-24.db --database jobs.db")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Replace what stands at FILE.")
@click.option("--reason", help="Why, for the service's log.")
@settings_options
@output_option
def backup(
    *,
    file: Path,
    force: bool,
    reason: str | None,
    config_path: str | None,
    pairs: tuple[str, ...],
    output: str,
    **flags: object,
) -> None:
    """
    Copy the database to FILE as of one moment, open the copy and verify it.

    The service may be running; it does the work then, and goes on meanwhile. The secret is not in the copy.
    """
    from jobsvc.operate.backup import Copied

    loaded = settings_from(flags, config_path=config_path, pairs=pairs)
    target = file.absolute()
    body = {"file": str(target), "force": force, "reason": reason}
    copied = through_service(loaded, "backup", body=body, answer=Copied)
    if copied is None:
        copied = asyncio.run(_backed_up(loaded.settings.database_path, target, force=force))
    _print(copied, output, f"backed up to {file} and verified")


async def _backed_up(database: Path, target: Path, *, force: bool) -> Copied:
    from jobsvc.operate.backup import back_up

    with _told():
        async with reading(database) as store:
            with counting("copying", 0) as progress:
                return await back_up(store, target, force=force, progress=progress)


@click.command(epilog="Example: jobsvc restore jobs-2026-11-24.db --database jobs.db")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--force", is_flag=True, help="What is in the database is gone.")
@settings_options
@output_option
def restore(
    *, file: Path, force: bool, config_path: str | None, pairs: tuple[str, ...], output: str, **flags: object
) -> None:
    """
    Put the backup FILE in the place of the database, and verify it there.

    No service may hold the database, and nothing may be in it, unless you force it.
    """
    database = settings_from(flags, config_path=config_path, pairs=pairs).settings.database_path
    copied = asyncio.run(_restored(file, database, force=force))
    _print(copied, output, f"restored to {database} and verified")


async def _restored(file: Path, database: Path, *, force: bool) -> Copied:
    from jobsvc.operate.backup import restore as put_back

    with _told(), counting("restoring", 0) as progress:
        return await put_back(file, database, force=force, progress=progress)


def _print(copied: Copied, output: str, what: str) -> None:
    if output == "json":
        print_json(copied)
        return
    click.echo(f"{copied.position} events {what}")
    click.echo(f"epoch {copied.epoch}, head {copied.position}:{copied.chain}")


@contextmanager
def _told() -> Iterator[None]:
    """What was asked wrongly is exit code 2, what was found wrong is 1."""
    from jobsvc.domain.errors import Corrupt, Rejected, StoreDown

    try:
        yield
    except Rejected as error:
        raise Misused(error.message) from error
    except StoreDown as error:
        raise Misused(error.message) from error
    except Corrupt as error:
        raise Wrong(error.message) from error


@asynccontextmanager
async def _taking(database: Path) -> AsyncIterator[SqliteStore]:
    """The store that an import goes to, made if there is none."""
    database.parent.mkdir(parents=True, exist_ok=True)
    async with _ours(database) as store:
        yield store


@asynccontextmanager
async def _sealing(database: Path) -> AsyncIterator[SqliteStore]:
    """The store of a log that moves: nobody may append meanwhile."""
    async with _ours(existing(database)) as store:
        yield store


@asynccontextmanager
async def _ours(database: Path) -> AsyncIterator[SqliteStore]:
    from jobsvc.store.sqlite import SqliteStore

    store = SqliteStore(database)
    await store.open_as_is()
    try:
        yield store
    finally:
        await store.close()


@contextmanager
def _sink(file: str, *, force: bool) -> Iterator[Any]:
    """Where an export goes: standard output, or a file that has its name only once it is whole."""
    if file == _STREAM:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(file)
    if target.exists() and not force:
        raise Misused(f"{file} is there already; take another name, or --force")
    spare = target.with_name(f"{target.name}.part")
    try:
        with _open_new(spare) as sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        spare.replace(target)
    except OSError as error:
        raise Misused(f"{file} cannot be written: {error.strerror}") from error
    finally:
        spare.unlink(missing_ok=True)


def _open_new(path: Path) -> IO[bytes]:
    """The file at *path*, empty, and nobody else's to read."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


@contextmanager
def _source(file: str) -> Iterator[IO[bytes]]:
    if file == _STREAM:
        yield sys.stdin.buffer
        return
    try:
        with Path(file).open("rb") as source:
            yield source
    except FileNotFoundError as error:
        raise Misused(f"there is no {file}") from error
