"""
The identity provider's public keys: fetched from its URL or read from a file, kept, and fetched again as they change.

A refresh comes by itself every while, and at once when no key fits a token, so that a rotation is noticed without a
restart; a flood of forged tokens is worth one fruitless refresh an interval. While the provider
does not answer, the keys it last listed go on. A key counts for as long as it is listed.
What must never live here: tokens, or a key that anything but the provider named.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey
from msgspec import Struct

from jobsvc.domain.moments import SECOND_US
from jobsvc.telemetry import log

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobsvc.clock import Clock
    from jobsvc.settings import Settings

Key = RSAKey | ECKey | OKPKey
"""A public key. Never a shared secret: what everybody can read must not be able to sign."""

_RSA_MODULUS_CHARACTERS_MIN: Final = 342
"""2,048 bits in base64url."""
_KINDS: Final = frozenset({"RSA", "EC", "OKP"})


class UnusableKeys(Exception):
    """What came is no list of keys, or more than may be."""


class _Listed(Struct, frozen=True):
    keys: list[dict[str, Any]]


_DECODER: Final = msgspec.json.Decoder(_Listed)


def read_keys(content: bytes, *, keys_max: int) -> tuple[Key, ...]:
    """
    The keys of a JWK set (RFC 7517) that can verify a signature; those that are not understood are passed over.

    Raises:
        UnusableKeys: It is none, or lists more than *keys_max*.
    """
    try:
        listed = _DECODER.decode(content).keys
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UnusableKeys(f"not a JWK set: {error}") from error
    if len(listed) > keys_max:
        raise UnusableKeys(f"{len(listed)} keys, which is more than {keys_max}")
    return tuple(key for jwk in listed if (key := _key_of(jwk)) is not None)


def _is_for_signatures(jwk: dict[str, Any]) -> bool:
    """True for a public key of a kind that we know, and long enough. What else it is for is checked as it is used."""
    return jwk["kty"] in _KINDS and (jwk["kty"] != "RSA" or len(jwk["n"]) >= _RSA_MODULUS_CHARACTERS_MIN)


def _key_of(jwk: dict[str, Any]) -> Key | None:
    try:
        key = JWKRegistry.import_key(jwk) if _is_for_signatures(jwk) else None
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return key if isinstance(key, Key) else None


class Jwks:
    """
    The keys as the provider lists them. One per service.

    Attributes:
        on_withdrawn: Called when a key is listed no more: what it signed counts no more.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._place = settings.idp_jwks
        self._refresh_s = settings.idp_refresh_s
        self._pause_us = int(settings.idp_refresh_min_s * SECOND_US)
        self._timeout_s = settings.idp_timeout_s
        self._bytes_max = settings.idp_jwks_bytes_max
        self._keys_max = settings.idp_keys_max
        self._clock = clock
        self._keys: dict[str, Key] = {}
        """By thumbprint and key id, so that the same keys in another order are the same keys."""
        self._stamp: tuple[int, int, int] | None = None
        self._pause_until = 0
        self._session: aiohttp.ClientSession | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self.on_withdrawn: list[Callable[[], None]] = []

    # Life

    def start(self) -> None:
        """The keys are being fetched, and will be again and again. Waits for nothing: the provider may be down."""
        self._refreshing = asyncio.create_task(self._refresh_for_ever(), name="jwks.refresh")

    async def stop(self) -> None:
        """Nothing is fetched any more."""
        for running in (self._refreshing, self._fetching):
            if running is not None:
                running.cancel()
                await asyncio.wait({running})
        if self._session is not None:
            await self._session.close()

    async def _refresh_for_ever(self) -> None:
        while True:
            await self._join_fetch()
            await asyncio.sleep(self._refresh_s)

    # Looking

    def fitting(self, key_id: str | None, algorithm: str) -> list[Key]:
        """The keys that may have signed a token with this header; without a key id, all of the algorithm's type."""
        return [key for key in self._keys.values() if _fits(key, key_id, algorithm)]

    async def refresh(self) -> bool:
        """
        True if the keys were fetched just now, because somebody came with a signature that none of them fits.

        Whoever comes while they are being fetched waits for that. A fetch that brings no new key makes the next who
        ask wait for nothing, until the pause is over.
        """
        if self._fetching is not None:
            await self._join_fetch()
            return True
        if self._clock.elapsed() < self._pause_until:
            return False
        before = set(self._keys)
        await self._join_fetch()
        if not set(self._keys) - before:
            self._pause_until = self._clock.elapsed() + self._pause_us
        return True

    # Fetching

    async def _join_fetch(self) -> None:
        """The fetch under way has ended, or one that began now. It goes on if whoever waits for it goes away."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch(), name="jwks.fetch")
        await asyncio.shield(self._fetching)

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                content = await (self._download() if "://" in self._place else self._read_if_changed())
            if content is not None:
                self._take(read_keys(content, keys_max=self._keys_max))
        except Exception as error:  # noqa: BLE001  # whatever a broken provider comes up with, its last good keys go on
            log("provider.unreachable", cause=repr(error), count=len(self._keys))
        finally:
            self._fetching = None

    def _take(self, listed: tuple[Key, ...]) -> None:
        before, self._keys = self._keys, {f"{key.thumbprint()} {key.kid}": key for key in listed}
        if before.keys() != self._keys.keys():
            log("provider.keys_changed", count=len(self._keys))
        if before.keys() - self._keys.keys():
            for tell in self.on_withdrawn:
                tell()

    async def _download(self) -> bytes:
        """What the URL answers; a redirect is no answer, since it may lead where nobody meant to ask."""
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
        async with self._session.get(self._place, headers=headers, allow_redirects=False) as response:
            if response.status != 200:  # noqa: PLR2004  # OK
                raise UnusableKeys(f"answered {response.status}")
            content = bytearray()
            async for part in response.content.iter_any():
                content += part
                if len(content) > self._bytes_max:
                    raise UnusableKeys(f"more than {self._bytes_max} bytes")
            return bytes(content)

    async def _read_if_changed(self) -> bytes | None:
        stamp, content = await asyncio.to_thread(_read_file, Path(self._place), self._stamp, self._bytes_max)
        if content is not None and len(content) > self._bytes_max:
            raise UnusableKeys(f"more than {self._bytes_max} bytes")
        self._stamp = stamp
        return content


def _read_file(
    path: Path, seen: tuple[int, int, int] | None, bytes_max: int
) -> tuple[tuple[int, int, int], bytes | None]:
    """What tells one state of the file from another, and its content if that is not what was *seen*."""
    with path.open("rb") as file:
        status = path.stat()
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        return stamp, None if stamp == seen else file.read(bytes_max + 1)


_TYPES: Final = {"R": "RSA", "P": "RSA", "E": "EC"}


def _fits(key: Key, key_id: str | None, algorithm: str) -> bool:
    if key_id is not None and key.kid is not None and key.kid != key_id:
        return False
    expected = "OKP" if algorithm == "Ed25519" else _TYPES.get(algorithm[0])
    return key.key_type == expected and key.get("alg", algorithm) == algorithm
