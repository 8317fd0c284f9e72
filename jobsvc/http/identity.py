"""
Who is asking: bearer tokens, the guest's cookie, one-use codes; and whether a browser's request may be believed.

Default is deny: a request without a valid credential is nobody's. What a principal may do with a job is decided in the
domain; here is only who it is, which roles a route takes being the route table's.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from jobsvc.domain.errors import AccessDenied, SlowDown
from jobsvc.domain.moments import SECOND_US
from jobsvc.http.problems import Misdirected, Unauthenticated
from jobsvc.settings import is_loopback
from jobsvc.tokens import Bearer, UnusableToken, issue, read_bearer

if TYPE_CHECKING:
    from aiohttp import web

    from jobsvc.clock import Clock
    from jobsvc.http.revocations import Revocation, Revocations
    from jobsvc.settings import Settings

COOKIE: Final = "jobsvc_session"
_BEARERS_MAX: Final = 10_000
_ADDRESSES_MAX: Final = 100_000
_CODES_MAX: Final = 10_000
_MINUTE_US: Final = 60 * SECOND_US
_COOKIE_ROLES: Final = frozenset({"guest", "user"})
_SAME_SITE: Final = frozenset({"same-origin", "none"})
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Credential(Struct, frozen=True):
    """A proved principal: who, until when, by what text, and whether a browser sent it by itself (``cookie``)."""

    bearer: Bearer
    text: str
    cookie: bool


class OneUseCodes:
    """
    Codes that each stand for a principal once, for a short while.

    Memory only: a restart forgets them, which is the safe side.
    """

    def __init__(self, clock: Clock, *, ttl_us: int) -> None:
        self._clock = clock
        self._ttl_us = ttl_us
        self._codes: OrderedDict[str, tuple[int, Bearer]] = OrderedDict()
        self._spent: OrderedDict[str, None] = OrderedDict()

    def make(self, bearer: Bearer) -> tuple[str, int]:
        """A new code for *bearer*, and when it runs out."""
        code, expires_at = secrets.token_urlsafe(24), self._clock.now() + self._ttl_us
        self._codes[code] = (expires_at, bearer)
        while len(self._codes) > _CODES_MAX:
            self._codes.popitem(last=False)
        return code, expires_at

    def spend(self, code: str) -> Bearer | None:
        """
        Whom the code stood for, once; None if it was spent or has run out.

        Raises:
            Unauthenticated: There never was such a code, as far as we remember.
        """
        found = self._codes.pop(code, None)
        if found is None:
            if code in self._spent:
                return None
            raise Unauthenticated
        self._spent[code] = None
        while len(self._spent) > _CODES_MAX:
            self._spent.popitem(last=False)
        expires_at, bearer = found
        return bearer if expires_at > self._clock.now() else None


class Identity:
    """Proves principals and makes guests. One per service."""

    def __init__(self, settings: Settings, clock: Clock, revocations: Revocations) -> None:
        self._settings = settings
        self._clock = clock
        self._revocations = revocations
        revocations.on_revoked.append(self._forget)
        self._bearers: OrderedDict[str, Bearer] = OrderedDict()
        self._guests_made: OrderedDict[str, deque[int]] = OrderedDict()
        self._hosts = _hosts_of(settings)
        self.links = OneUseCodes(clock, ttl_us=int(settings.link_code_ttl_s * SECOND_US))

    # Proving

    async def prove(self, request: web.BaseRequest) -> Credential:
        """
        Who sent *request*. Where cookie and Authorization both come, Authorization wins.

        Cost: a dict's for a bearer that is known, and no turn of the loop; one look-up in the store for a new one.

        Raises:
            Unauthenticated: Neither proves anybody.
            AccessDenied: A write under a cookie that another site's page may have caused.
        """
        authorization = request.headers.get("Authorization")
        if authorization is not None:
            scheme, _, text = authorization.partition(" ")
            if scheme.lower() != "bearer":
                raise Unauthenticated
            return Credential(await self._bearer(text.strip()), text, cookie=False)
        cookie = request.cookies.get(COOKIE)
        if cookie is None:
            raise Unauthenticated
        bearer = await self._bearer(cookie)
        if bearer.principal.role not in _COOKIE_ROLES:
            raise Unauthenticated
        self.check_origin(request)
        return Credential(bearer, cookie, cookie=True)

    async def _bearer(self, text: str) -> Bearer:
        known = self._bearers.get(text)
        if known is not None and known.expires_at > self._clock.now():
            return known
        try:
            bearer = read_bearer(self._settings.secret, text, now=self._clock.now())
        except UnusableToken as error:
            raise Unauthenticated(str(error)) from error
        if await self._revocations.covers(bearer):
            raise Unauthenticated("this token was revoked")
        self._know(text, bearer)
        return bearer

    def _know(self, text: str, bearer: Bearer) -> None:
        self._bearers[text] = bearer
        if len(self._bearers) > _BEARERS_MAX:
            self._bearers.popitem(last=False)

    def _forget(self, revocation: Revocation, _farewell: str) -> None:
        """Whoever *revocation* is about has to be proved again."""
        for text in [text for text, bearer in self._bearers.items() if revocation.covers(bearer)]:
            del self._bearers[text]

    # Browsers

    def check_host(self, request: web.BaseRequest) -> None:
        """
        Refuses a Host name that is not ours, which a rebinding page would send; ports are not compared.

        Raises:
            Misdirected: It is not ours.
        """
        if self._hosts and _name_of(request.headers.get("Host", "")) not in self._hosts:
            raise Misdirected

    def check_origin(self, request: web.BaseRequest) -> None:
        """
        Refuses a write that a page of another origin may have caused with our cookie.

        Raises:
            AccessDenied: The Origin is another, or there is none and the browser says that the site is another.
        """
        if request.method in _READS:
            return
        origin = request.headers.get("Origin")
        if origin is not None:
            if origin in self._settings.allowed_origins or origin.partition("://")[2] == request.headers.get("Host"):
                return
        elif request.headers.get("Sec-Fetch-Site", "none") in _SAME_SITE:
            return
        message = "this request came from a page of another origin"
        raise AccessDenied(message)

    # Guests

    def make_guest(self, guest_id: str, address: str) -> tuple[str, str, int]:
        """
        (owner, token, expires_at) of a new guest.

        Raises:
            SlowDown: This address made as many in the last minute as it may.
        """
        self._count_guest(address)
        now, ttl_s = self._clock.now(), self._settings.guest_ttl_s
        owner = f"guest:{guest_id}"
        token = issue(self._settings.secret, "guest", subject=owner, ttl_s=ttl_s, now=now)
        bearer = read_bearer(self._settings.secret, token, now=now)
        # Nobody can have revoked what nobody has heard of: its first request asks no store.
        self._know(token, bearer)
        return owner, token, bearer.expires_at

    def make_operator(self, subject: str, ttl_s: float) -> str:
        """A token of an operator, for the page that was opened by the link printed at start."""
        return issue(self._settings.secret, "operator", subject=subject, ttl_s=ttl_s, now=self._clock.now())

    def _count_guest(self, address: str) -> None:
        now = self._clock.now()
        made = self._guests_made.setdefault(address, deque())
        self._guests_made.move_to_end(address)
        while made and made[0] <= now - _MINUTE_US:
            made.popleft()
        if len(made) >= self._settings.guests_per_minute_max:
            message = "this address made many guests in the last minute; keep the guest that you have, or wait"
            raise SlowDown(message, retry_after_s=(made[0] + _MINUTE_US - now) / SECOND_US)
        made.append(now)
        while len(self._guests_made) > _ADDRESSES_MAX:
            self._guests_made.popitem(last=False)


def _hosts_of(settings: Settings) -> frozenset[str]:
    """The host names that are ours; empty for any, which only a service beyond loopback without a list has."""
    if settings.allowed_hosts:
        return frozenset(host.lower() for host in settings.allowed_hosts)
    if is_loopback(settings.host):
        return frozenset({"localhost", "127.0.0.1", "[::1]", settings.host.lower()})
    return frozenset()


def _name_of(host: str) -> str:
    """The host name of a Host header, without its port."""
    if host.startswith("["):
        return host[: host.find("]") + 1].lower()
    return host.partition(":")[0].lower()
