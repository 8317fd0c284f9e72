"""
The entries of what people read in a browser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobsvc.http import entry as e
from jobsvc.http.entry import Entry, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEXT: Final = {"schema": {"type": "string"}}

PAGES: Final[Mapping[tuple[str, str], Entry]] = {
    ("GET", "/"): Entry(
        "readDashboard",
        "Pages",
        {
            200: Reply("The page.", others={"text/html": _TEXT}, headers={"ETag": "Its digest."}),
            304: Reply("It is known.", headers={"ETag": "Its digest."}),
        },
    ),
    ("GET", "/dashboard/{name}"): Entry(
        "readDashboardFile",
        "Pages",
        {
            200: Reply(
                "A file.", others={"text/javascript": _TEXT, "text/css": _TEXT}, headers={"ETag": "Its digest."}
            ),
            304: Reply("It is known.", headers={"ETag": "Its digest."}),
        },
    ),
    ("GET", "/openapi.json"): Entry(
        "readDocument",
        "Pages",
        {
            200: Reply(
                "The document.", others={e.JSON: {"schema": {"type": "object"}}}, headers={"ETag": "Its digest."}
            ),
            304: Reply("It is known.", headers={"ETag": "Its digest."}),
        },
    ),
    ("GET", "/docs"): Entry("readReference", "Pages", {200: Reply("The page.", others={"text/html": _TEXT})}),
    ("GET", "/client/v1/{name}"): Entry(
        "readClient",
        "Pages",
        {
            200: Reply("A module.", others={"text/javascript": _TEXT}, headers={"ETag": "Its digest."}),
            304: Reply("It is known.", headers={"ETag": "Its digest."}),
        },
    ),
    ("GET", "/docs.css"): Entry("readReferenceStyle", "Pages", {200: Reply("Style.", others={"text/css": _TEXT})}),
}
