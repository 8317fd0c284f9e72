"""
The owner of a log: which running service holds the file, and where it can be asked.

The service says so in the lock file beside the database, and the lock says whether it still counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from msgspec import Struct, ValidationError, json

from jobsvc.store.driver import FileLock

if TYPE_CHECKING:
    from pathlib import Path

_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104  # what stands for every address, and what for us
"""Who listens on every address is asked on loopback."""


class Owner(Struct, frozen=True):
    """
    A service that holds the file.

    Attributes:
        url: Where it listens.
        host: The name to ask it by, where it takes only some.
    """

    url: str
    host: str | None = None


def announcement(url: str, allowed_hosts: tuple[str, ...]) -> bytes:
    """What a service that listens at *url* announces."""
    parts = urlsplit(url)
    reachable = _ANYWHERE.get(parts.hostname or "")
    if reachable is not None:
        url = f"{parts.scheme}://{reachable}:{parts.port}"
    return json.encode(Owner(url, allowed_hosts[0] if allowed_hosts else None))


def owner_of(database: Path) -> Owner | None:
    """The service that holds *database*, None if none does or it cannot be asked."""
    where = FileLock(database).read_owner()
    try:
        return None if where is None else json.decode(where, type=Owner)
    except ValidationError:
        return None
