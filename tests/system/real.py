"""
The service itself, on a free port of loopback with a log of its own, for tests that come from outside.
"""

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from jobsvc.app import running, serving
from jobsvc.client import Client
from jobsvc.domain.words import Role
from jobsvc.secretfile import with_made_secret
from jobsvc.settings_loading import load_settings
from jobsvc.tokens import issue


class Real(NamedTuple):
    """A running service."""

    url: str
    secret: str

    def token(self, role: Role, subject: str, *, kinds: tuple[str, ...] = ()) -> str:
        """A bearer token for an hour."""
        now = time.time_ns() // 1000
        return issue(self.secret, role, subject=subject, kinds=kinds, ttl_s=3600, now=now)

    def client(self, role: Role = "user", subject: str = "ada") -> Client:
        """A client of somebody."""
        return Client(self.url, token=self.token(role, subject), patience_s=5)


@contextlib.asynccontextmanager
async def real_service(folder: Path, **flags: object) -> AsyncIterator[Real]:
    """A service whose log is in *folder*; the same folder again is the same log."""
    said = {"database": str(folder / "jobs.db"), "host": "127.0.0.1", "port": 0, "drain_s": 0.1, **flags}
    settings = with_made_secret(load_settings(said, {})).settings
    async with running(settings) as service, serving(service) as url:
        yield Real(url, settings.secret)
