"""
The entries of sessions: who is asking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobsvc.http import bodies, samples, shapes
from jobsvc.http.entry import Entry, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

SESSIONS: Final[Mapping[tuple[str, str], Entry]] = {
    ("POST", "/api/sessions/guest"): Entry(
        "openGuestSession",
        "Sessions",
        {
            201: Reply("A new guest.", shapes.SessionAnswer, samples.SESSION, headers={"Set-Cookie": "The session."}),
            200: Reply("The same one.", shapes.SessionAnswer, samples.SESSION, headers={"Set-Cookie": "The session."}),
        },
        bodies.EmptyBody,
        {},
        codes=("access-denied", "slow-down"),
        proofs=("none", "bearer", "cookie"),
    ),
    ("POST", "/api/sessions/claim"): Entry(
        "claimGuest",
        "Sessions",
        {
            200: Reply(
                "What the guest had is the user's, and its token counts no more.",
                shapes.ClaimedAnswer,
                {"moved": 4, "merged": 1},
                headers={"Set-Cookie": "Takes the guest's session away, if the request brought it."},
            )
        },
        bodies.SessionClaimBody,
        {"guest_token": samples.SESSION["token"]},
        more=(
            "Each of the guest's jobs counts once: as merged if the user had an active one for the same work, else as "
            "moved. Of two for the same work the older stays, unless it is being cancelled already, and the other is "
            "cancelled for it (`superseded`). Ended jobs that have not moved within `handover_wait_max_s` follow soon "
            "after and are not counted. A `guest_token` that is spent or no guest's is refused with 422."
        ),
    ),
    ("POST", "/api/sessions/link"): Entry(
        "spendLink",
        "Sessions",
        {201: Reply("An operator's token.", shapes.LinkAnswer, {"token": samples.SESSION["token"]})},
        bodies.LinkBody,
        {"code": "w1Yk0m3v"},
        codes=("unauthenticated",),
    ),
}
