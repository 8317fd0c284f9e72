"""
The limits: how many requests may be held or coming in at a time, and what may be done how often.

Counted here for the whole service, by principal, for all guests and for all; the numbers are settings.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from jobsvc.http.rates import LastMinute, Rate
from jobsvc.shares import Shares

if TYPE_CHECKING:
    from jobsvc.clock import Clock
    from jobsvc.settings import Settings

TOO_MANY_WAIT: Final = "as many requests are held as may be; ask again without a wait, or later"
ALL_ADDRESSES: Final = "all"
"""The name under which every guest is counted, wherever it came from."""


_CUSTOMER_BITS: Final = 64
"""So much of an IPv6 address is one customer's at least (RFC 6177); of the rest it has as many as it likes."""

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""Behind a translator every IPv4 address comes as one in here (RFC 6052): all of IPv4 would be one network."""


def network_of(address: str | None) -> str:
    """
    Who is behind *address*, as far as it tells: itself, and of IPv6 the network of 64 bits that it is in.

    An IPv4 address written as one of IPv6, be it mapped or translated, is that IPv4 address.
    """
    try:
        known = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(known, ipaddress.IPv4Address):
        return str(known)
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    if known in _NAT64:
        return str(ipaddress.IPv4Address(known.packed[-4:]))
    return str(ipaddress.IPv6Network((int(known), _CUSTOMER_BITS), strict=False))


class Limits:
    """
    What is counted. One per service.

    Attributes:
        waits: Requests held for something to happen.
        bodies: Bodies that are coming in.
        looks: Looks at the whole log.
        writes: Requests of guests and users that may change something.
        guests_of_network: New guests from one address, or one network of IPv6; see `network_of`.
        guests: New guests from all addresses.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.waits = Shares(
            each_max=settings.waits_per_principal_max,
            guests_max=settings.waits_guests_max,
            total_max=settings.waits_total_max,
        )
        self.bodies = Shares(
            each_max=settings.bodies_per_principal_max,
            guests_max=settings.bodies_guests_max,
            total_max=settings.bodies_total_max,
        )
        self.looks = Shares(each_max=1, guests_max=settings.looks_guests_max, total_max=settings.looks_total_max)
        self.writes = Rate(
            clock,
            per_minute_max=settings.writes_per_minute_max,
            message="this many writes a minute are more than one guest or user may make",
        )
        self.guests_of_network = LastMinute(
            clock,
            per_minute_max=settings.guests_per_minute_max,
            message="this address or network made many guests in a minute; keep the guest that you have, or wait",
        )
        self.guests = Rate(
            clock,
            per_minute_max=settings.guests_per_minute_total_max,
            message="many guests were made in the last minute; keep the guest that you have, or wait",
        )
