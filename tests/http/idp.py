"""
An identity provider on loopback: publishes its keys over real HTTP, signs tokens, rotates, and can fall silent.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.http.client import JSON
    from tests.http.world import MovableClock

    PrivateKey = RSAKey | ECKey | OKPKey

ISSUER: Final = "https://login.platform.example"
AUDIENCE: Final = "jobsvc"


class Idp:
    """
    The provider, and what it was asked.

    Attributes:
        url: Where its keys are.
        keys: Those it lists, by key id.
        fetches: How often they were fetched.
        answer: Answers with this instead, if set: status and body.
        open: While it is not set, whoever asks waits.
    """

    def __init__(self) -> None:
        self.url = ""
        self.keys: dict[str, PrivateKey] = {}
        self.fetches = 0
        self.answer: tuple[int, bytes] | None = None
        self.open = asyncio.Event()
        self.open.set()

    def add(self, key_id: str, kind: str = "EC") -> PrivateKey:
        """
        A new key that is listed from now on.
        """
        key = new_key(key_id, kind)
        self.keys[key_id] = key
        return key

    def jwks(self) -> bytes:
        """
        Its list of keys.
        """
        return json.dumps({"keys": [key.as_dict(private=False) for key in self.keys.values()]}).encode()

    def settings(self, **others: JSON) -> dict[str, JSON]:
        """
        Those of a service whose users come from here.
        """
        return {"idp_jwks": self.url, "idp_issuer": ISSUER, "idp_audience": (AUDIENCE,)} | others

    async def serve(self, _: web.Request) -> web.Response:
        """
        The answer to whoever asks for the keys.
        """
        self.fetches += 1
        await self.open.wait()
        status, body = self.answer or (200, self.jwks())
        return web.Response(status=status, body=body, headers={"Location": "/elsewhere"} if status == 302 else None)

    async def serve_elsewhere(self, _: web.Request) -> web.Response:
        """
        The keys, where nobody was told to look for them.
        """
        return web.Response(body=self.jwks())


def new_key(key_id: str, kind: str = "EC") -> PrivateKey:
    """
    A key that nobody lists yet.
    """
    match kind:
        case "RSA":
            return RSAKey.generate_key(2048, {"kid": key_id})
        case "OKP":
            return OKPKey.generate_key("Ed25519", {"kid": key_id})
        case _:
            return ECKey.generate_key("P-256", {"kid": key_id})


def claims_of(clock: MovableClock, **others: JSON) -> dict[str, Any]:
    """
    Claims of a good token of user alice for an hour; *others* instead, None for left out.
    """
    now = clock.now() // 1_000_000
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 3_600} | others
    return {name: value for name, value in claims.items() if value is not None}


def signed(claims: dict[str, Any], key: PrivateKey, **header: JSON) -> str:
    """
    The claims, signed with the key; *header* beside what a header needs.
    """
    algorithm = {"RSA": "RS256", "EC": "ES256", "OKP": "Ed25519"}[key.key_type]
    said = {"alg": algorithm, "kid": key.kid} | header
    whole = {name: value for name, value in said.items() if value is not None}
    registry = _lenient(whole["alg"])
    return jwt.encode(whole, claims, key, registry=registry)


def _lenient(algorithm: str) -> Any:  # noqa: ANN401  # joserfc's registry
    from joserfc.jws import JWSRegistry  # noqa: PLC0415  # used here only

    registry = JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    registry.max_header_length = 8_192
    return registry


@asynccontextmanager
async def provider() -> AsyncIterator[Idp]:
    """
    A provider with one key, ``first``.
    """
    idp = Idp()
    idp.add("first")
    app = web.Application()
    app.router.add_get("/jwks", idp.serve)
    app.router.add_get("/elsewhere", idp.serve_elsewhere)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        idp.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks"
        yield idp
    finally:
        idp.open.set()
        await runner.cleanup()
