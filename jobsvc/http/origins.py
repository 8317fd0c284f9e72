"""
The origins: whether a browser's request may be believed, and by what name it carries our cookie.

A page of another site can make a browser send requests here, with our cookie on them, or reach us under a name of its
own (rebinding). What must never live here: who somebody is.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, Final

from jobsvc.domain.errors import AccessDenied
from jobsvc.http.problems import Misdirected
from jobsvc.settings import is_loopback

if TYPE_CHECKING:
    from jobsvc.http.request import Head, Request
    from jobsvc.settings import Settings

COOKIE: Final = "jobsvc_session"
SECURE_COOKIE: Final = f"__Host-{COOKIE}"
"""A browser takes this name from us alone, over TLS, for every path: no neighbour on the domain can plant one."""
_SAME_SITE: Final = frozenset({"same-origin", "none"})
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_MET_MAX: Final = 100


class Origins:
    """Which hosts and origins are ours. One per service."""

    def __init__(self, settings: Settings) -> None:
        self._allowed = frozenset(settings.allowed_origins)
        self._behind_tls = settings.cookie_secure
        self._hosts = _hosts_of(settings)
        self._met: set[str] = set()
        """Host headers that were found to be ours, as they were sent."""
        self._takes_addresses = not settings.allowed_hosts and not is_loopback(settings.host)

    def is_secure(self, request: Request) -> bool:
        """True if the browser sent *request* over TLS: to us, or to what stands in front of us as a setting says."""
        return self._behind_tls or request.aiohttp.secure

    def cookie_name(self, request: Request) -> str:
        """The one name under which the session's cookie counts on *request*."""
        return SECURE_COOKIE if self.is_secure(request) else COOKIE

    def check_host(self, head: Head) -> None:
        """
        Refuses a Host name that is not ours, which a rebinding page would send; ports are not compared.

        Raises:
            Misdirected: It is not ours.
        """
        host = head.host or ""
        if host in self._met:
            return
        name = _name_of(host)
        if name not in self._hosts and not (self._takes_addresses and _is_address(name)):
            raise Misdirected
        if len(self._met) < _MET_MAX:
            self._met.add(host)

    def check_origin(self, request: Request) -> None:
        """
        Refuses a write that a page of another origin may have caused with our cookie.

        Raises:
            AccessDenied: The Origin is another (scheme, name and port), or there is none and the browser says that the
                site is another.
        """
        if request.method in _READS:
            return
        origin = request.headers.get("Origin")
        if origin is not None:
            scheme = "https" if self.is_secure(request) else "http"
            if origin in self._allowed or origin == f"{scheme}://{request.headers.get('Host', '')}":
                return
        elif request.headers.get("Sec-Fetch-Site", "none") in _SAME_SITE:
            return
        message = "this request came from a page of another origin"
        raise AccessDenied(message)


def _hosts_of(settings: Settings) -> frozenset[str]:
    """The host names that are ours; none are known of a service that listens beyond loopback and has no list."""
    if settings.allowed_hosts:
        return frozenset(host.lower() for host in settings.allowed_hosts)
    if is_loopback(settings.host):
        return frozenset({"localhost", "127.0.0.1", "[::1]", settings.host.lower()})
    return frozenset({"localhost", settings.host.lower(), socket.gethostname().lower()})


def _is_address(name: str) -> bool:
    """True for an address, which no page can have made lead here as it can a name of its own."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _name_of(host: str) -> str:
    """The host name of a Host header, without its port."""
    if host.startswith("["):
        return host[: host.find("]") + 1].lower()
    return host.partition(":")[0].lower()
