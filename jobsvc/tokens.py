"""
Tokens that this service signs itself.

Bearer tokens say who somebody is; lease tokens say which job a worker may report on. What lives here: making
and checking them, with HMAC-SHA-256: made with one secret, checked with that and the few before it. A bearer token has
the form of a JWT (RFC 7519, HS256), so that other programs can read it.

What must never live here: a choice of algorithm. The signature is checked, always the same way, before anything of a
token is looked at; its header can only be right or wrong. Tokens of an identity provider are http/provider.py's.
"""

from __future__ import annotations

import binascii
import hmac
import sys
from base64 import urlsafe_b64encode
from functools import lru_cache
from typing import TYPE_CHECKING, Final, cast

import msgspec
from msgspec import Struct

from jobsvc.domain.moments import SECOND_US
from jobsvc.domain.words import Principal, Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LEEWAY_US: Final = 5 * SECOND_US
"""By how much clocks may differ: an expired token is accepted for this long."""

ISSUABLE: Final[frozenset[str]] = frozenset({"guest", "user", "service", "worker", "operator", "viewer"})
OWNERS: Final[frozenset[str]] = frozenset({"guest", "user"})
"""Roles that act for themselves: the subject is the owner, and begins with the role."""

TOKEN_CHARACTERS_MAX: Final = 8_192
FENCE_DIGITS_MAX: Final = 18
_ANY: Final[frozenset[str]] = frozenset()
"""The one for all: bearers are kept, and an empty set weighs as much as all the rest of one."""
_MAC_BYTES: Final = 18
"""144 bits: no padding in base64, and beyond any guessing in the life of a lease."""


class UnusableToken(Exception):
    """
    The token says nothing that can be relied on: it is not ours, was changed, or has run out.

    Attributes:
        expired: True if it was ours and only its time is over.
    """

    def __init__(self, message: str = "the token is not valid", *, expired: bool = False) -> None:
        super().__init__(message)
        self.expired = expired


class Bearer(Struct, frozen=True, gc=False):
    """
    What a valid bearer token says.

    Attributes:
        principal: Who the bearer is.
        expires_at: When it stops, without leeway.
        token_id: Its ``jti``, if it has one.
        issued_at: When it was made, if it says so.
    """

    principal: Principal
    expires_at: int
    token_id: str | None = None
    issued_at: int | None = None


class _Header(Struct, frozen=True):
    alg: str
    typ: str = "JWT"
    crit: object = None


class _Claims(Struct, frozen=True, omit_defaults=True):
    sub: str
    role: str
    exp: float
    kinds: tuple[str, ...] = ()
    iat: float | None = None
    nbf: float | None = None
    jti: str | None = None


_ENCODER: Final = msgspec.json.Encoder()
_HEADER_DECODER: Final = msgspec.json.Decoder(_Header)
_CLAIMS_DECODER: Final = msgspec.json.Decoder(_Claims)


# --- Bearer tokens -------------------------------------------------------------------------------------------------


def issue(
    secret: str,
    role: Role,
    *,
    subject: str,
    ttl_s: float,
    now: int,
    kinds: Iterable[str] = (),
    token_id: str | None = None,
) -> str:
    """
    A token that makes its bearer *subject* in *role* from *now* on, for *ttl_s* seconds.

    Args:
        secret: Of the service.
        role: Any but ``system``.
        subject: A name; for guests and users with or without ``guest:`` or ``user:`` before it.
        ttl_s: From *now*; a negative one gives a token that has run out.
        now: Microseconds.
        kinds: The only kinds a worker may touch; none means any.
        token_id: Its ``jti``.

    Raises:
        ValueError: No such role, or an empty subject.
    """
    if role not in ISSUABLE or not subject:
        raise ValueError("a token needs a role that can be issued, and a subject")
    issued_s = now // SECOND_US
    claims = _Claims(
        sub=_full_subject(role, subject),
        role=role,
        exp=_whole(issued_s + ttl_s),
        kinds=tuple(sorted(set(kinds))),
        iat=issued_s,
        jti=token_id,
    )
    signed = _HEADER_TEXT + b"." + _text(_ENCODER.encode(claims))
    return (signed + b"." + _signature(secret, signed)).decode("ascii")


def verify(secret: str, token: str, *, now: int) -> Principal:
    """
    Who bears *token*.

    Raises:
        UnusableToken: It is not ours, was changed, has run out or is not valid yet. Nothing else is ever raised.

    Cost: a few microseconds.
    """
    return read_bearer(secret, token, now=now).principal


def read_bearer(secret: str, token: str, *, now: int, previous: Sequence[str] = ()) -> Bearer:
    """
    All that *token* says, signed with *secret* or with one of the few that came before it.

    Raises:
        UnusableToken: As for `verify`.
    """
    claims = _claims((secret, *previous), token)
    if claims.role not in ISSUABLE or not claims.sub or claims.sub != _full_subject(claims.role, claims.sub):
        raise UnusableToken
    now_s = now / SECOND_US
    leeway_s = LEEWAY_US / SECOND_US
    if not now_s < claims.exp + leeway_s:
        raise UnusableToken("the token has expired", expired=True)
    if claims.nbf is not None and not claims.nbf - leeway_s <= now_s:
        raise UnusableToken("the token is not valid yet")
    issued_at = None if claims.iat is None else moment_of(claims.iat)
    return Bearer(_principal(claims), moment_of(claims.exp), claims.jti, issued_at)


def _claims(ring: Sequence[str], token: str) -> _Claims:
    """The claims of a token with a signature of ours; a refusal for any other text."""
    if not token.isascii() or len(token) > TOKEN_CHARACTERS_MAX:
        raise UnusableToken
    signed, _, signature = token.encode("ascii").rpartition(b".")
    header, _, body = signed.partition(b".")
    if not any(hmac.compare_digest(_signature(secret, signed), signature) for secret in ring):
        raise UnusableToken
    # From here on the text is one that a holder of the secret signed. It may still be a token of another kind.
    try:
        read = _HEADER_DECODER.decode(_bytes(header))
        claims = _CLAIMS_DECODER.decode(_bytes(body))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise UnusableToken from None
    if read.alg != "HS256" or read.typ.upper() != "JWT" or read.crit is not None:
        raise UnusableToken
    return claims


def _principal(claims: _Claims) -> Principal:
    # The same few words for everybody: bearers are kept.
    role = cast("Role", sys.intern(claims.role))
    owner = claims.sub if role in OWNERS else None
    kinds = frozenset(claims.kinds) if claims.kinds else _ANY
    return Principal(role=role, subject=claims.sub, owner=owner, kinds=kinds)


def _full_subject(role: str, subject: str) -> str:
    """Two owners can never be the same by name, since the role stands before it."""
    prefix = f"{role}:"
    if role not in OWNERS or (subject.startswith(prefix) and subject != prefix):
        return subject
    return prefix + subject


def _whole(seconds: float) -> float:
    return int(seconds) if seconds == int(seconds) else seconds


def moment_of(seconds: float) -> int:
    """*seconds* since the epoch in microseconds, at most the last moment that can be written as a date."""
    return int(min(max(seconds, 0.0), 253_402_300_799.0) * SECOND_US)


def _signature(secret: str, signed: bytes) -> bytes:
    return _text(hmac.digest(secret.encode(), signed, "sha256"))


def _text(content: bytes) -> bytes:
    return urlsafe_b64encode(content).rstrip(b"=")


def _bytes(text: bytes) -> bytes:
    """What *text* encodes; ValueError for anything that is not exactly the base64url of something."""
    content = binascii.a2b_base64(text.translate(_FROM_URL_SAFE) + b"=" * (-len(text) % 4))
    if _text(content) != text:
        raise ValueError("not base64url")
    return content


_FROM_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_HEADER_TEXT: Final = _text(b'{"alg":"HS256","typ":"JWT"}')


# --- Lease tokens --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8_192)
def lease_token(secret: str, epoch: str, *, job_id: str, fence: int) -> str:
    """
    The right to report on a job under *fence*: the fence, readable, and a MAC over epoch, job and fence.

    Never stored: the same four always give the same token. Remembered for the reports that a grant is followed by.
    Cost: 1.5 µs, then 0.2 µs.
    """
    # No signed part of a bearer token holds a NUL, so neither kind of token can stand in for the other.
    mac = _keyed(secret).copy()
    mac.update(f"lease\0{epoch}\0{job_id}\0{fence}".encode())
    return f"{fence}.{urlsafe_b64encode(mac.digest()[:_MAC_BYTES]).decode('ascii')}"


@lru_cache(maxsize=8)
def _keyed(secret: str) -> hmac.HMAC:
    """The MAC before anything was said: a copy of it costs less than to begin anew."""
    return hmac.new(secret.encode(), digestmod="sha256")


def read_lease_token(secret: str, epoch: str, *, job_id: str, token: str, previous: Sequence[str] = ()) -> int:
    """
    The fence under which *token* may report on the job, -1 if it is not a token of ours for that job.

    Made with *secret* or with one of the few that came before it. Whether the fence is still the current one is the
    decider's to say. Cost: below 5 µs, and as much for each previous secret that is tried.
    """
    digits = token.partition(".")[0]
    if not token.isascii() or not digits.isdigit() or len(digits) > FENCE_DIGITS_MAX:
        return -1
    fence = int(digits)
    for each in (secret, *previous):
        if hmac.compare_digest(lease_token(each, epoch, job_id=job_id, fence=fence), token):
            return fence
    return -1
