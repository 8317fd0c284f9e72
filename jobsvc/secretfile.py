"""
The secrets in the file beside the database: who has configured none signs with these.

One a line; the first signs, the others still verify, so that a rotation logs nobody out and no lease is lost. The file
is made if need be, is only ever the owner's to read, and appears under its name whole.
What must never live here: what a secret is used for.
"""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from jobsvc.settings import UnusableSetting
from jobsvc.settings_checks import SECRETS_PREVIOUS_MAX
from jobsvc.settings_loading import Loaded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def with_secret(loaded: Loaded) -> Loaded:
    """
    The same settings, with the secret of the file beside the database if none is configured and there is one.

    Raises:
        UnusableSetting: The file cannot be read, or others may read it.
    """
    settings = loaded.settings
    known = [] if settings.secret else _read_secrets(settings.secret_path)
    if not known:
        return loaded
    secret, *previous = known
    both = (*previous, *settings.secret_previous)[:SECRETS_PREVIOUS_MAX]
    found = replace(settings, secret=secret, secret_previous=both)
    return Loaded(settings=found, sources={**loaded.sources, "secret": "secret file", "secret_previous": "secret file"})


def with_made_secret(loaded: Loaded) -> Loaded:
    """
    The same settings, with a secret for sure: configured, else found beside the database, else made there (mode 0600).

    Raises:
        UnusableSetting: None is configured and the service would be reachable from other machines, or the file cannot
            be written or read.
    """
    settings = loaded.settings
    if settings.secret:
        return loaded
    if not settings.on_loopback:
        raise UnusableSetting(
            f"listening on {settings.host} needs a configured secret: set JOBSVC_SECRET, or use --host 127.0.0.1"
        )
    _make_secret(settings.secret_path)
    return with_secret(loaded)


def rotate_secret(path: Path, *, forget: bool = False) -> int:
    """
    A new secret signs from the next start on, and those before it still verify; how many of those there are now.

    Args:
        path: The file beside the database.
        forget: Keep none of those before, because somebody else may know them: everybody is logged out.

    Raises:
        UnusableSetting: There is no such file, others may read it, or it cannot be read or written.
    """
    known = _read_secrets(path)
    if not known:
        raise UnusableSetting(f"{path}: no secret to rotate is there yet; jobsvc serve makes one when it first starts")
    previous = [] if forget else known[:SECRETS_PREVIOUS_MAX]
    with _written(path, [secrets.token_urlsafe(32), *previous]) as spare:
        spare.replace(path)
    return len(previous)


def _read_secrets(path: Path) -> list[str]:
    """What stands in *path*, at least one; none if there is no such file."""
    try:
        if path.stat().st_mode & 0o077:
            raise UnusableSetting(f"{path}: others may read it; it must have mode 0600")
        found = path.read_text(encoding="ascii").split()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as error:
        raise UnusableSetting(f"{path}: cannot be read; this is for the user whom the service runs as") from error
    except OSError as error:
        raise UnusableSetting(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UnusableSetting(f"{path}: not a secret: {error}; remove it to have one made") from error
    if not found:
        raise UnusableSetting(f"{path}: empty; remove it to have a secret made")
    return found[: 1 + SECRETS_PREVIOUS_MAX]


def _make_secret(path: Path) -> None:
    """A secret stands in *path*, whole: it appears under its name only once written, and one made before is kept."""
    if not _read_secrets(path):
        with _written(path, [secrets.token_urlsafe(32)]) as spare:
            _link_unless_there(spare, path)


@contextmanager
def _written(path: Path, lines: list[str]) -> Iterator[Path]:
    """A spare file beside *path* that holds *lines*, on the disk, for the block to give it the name; gone after it."""
    spare = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        yield spare
    except OSError as error:
        raise UnusableSetting(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        spare.unlink(missing_ok=True)


def _link_unless_there(spare: Path, path: Path) -> None:
    """A rename would take away the secret that another process made in the meantime; a link does not."""
    try:
        path.hardlink_to(spare)
    except FileExistsError:
        return
