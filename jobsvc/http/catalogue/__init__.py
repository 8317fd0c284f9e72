"""
The catalogue: for every route of the table, what a caller must know that its row does not say.

Facts only, as data: what a request may hold, what is answered when, and which problems may come. A route without its
entry fails the build. How an entry becomes a piece of the OpenAPI document is openapi.py's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobsvc.http.catalogue.jobs import JOBS
from jobsvc.http.catalogue.operators import OPERATORS
from jobsvc.http.catalogue.pages import PAGES
from jobsvc.http.catalogue.past import PAST
from jobsvc.http.catalogue.sessions import SESSIONS
from jobsvc.http.catalogue.stream import STREAM
from jobsvc.http.catalogue.workers import WORKERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobsvc.http.entry import Entry

CATALOGUE: Final[Mapping[tuple[str, str], Entry]] = {
    **JOBS,
    **PAST,
    **STREAM,
    **WORKERS,
    **SESSIONS,
    **OPERATORS,
    **PAGES,
}
"""Every entry, by the route that it is about."""
