from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from joserfc.jwk import RSAKey

from tests.http.idp import AUDIENCE, ISSUER, Idp, claims_of, new_key, provider, signed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.http.client import JSON
    from tests.http.conftest import Starter
    from tests.http.idp import PrivateKey
    from tests.http.world import World


@pytest.fixture
async def idp() -> AsyncIterator[Idp]:
    """
    The platform's identity provider.
    """
    async with provider() as fresh:
        yield fresh


async def status_of(world: World, token: str) -> int:
    """
    What a read under the token is answered.
    """
    return (await world.with_token(token).get("/api/jobs/active")).status


async def statuses(world: World, *tokens: str) -> list[int]:
    """
    What each of the tokens is answered, one after the other.
    """
    return [await status_of(world, token) for token in tokens]


async def test_a_user_of_the_platform_is_a_user_here(start: Starter, idp: Idp) -> None:
    """
    A token of the provider's makes the owner of its subject, apart from every guest and every other user.
    """
    world = await start(**idp.settings())
    alice, bob = (
        world.with_token(signed(claims_of(world.clock, sub=name), idp.keys["first"])) for name in ("alice", "bob")
    )

    job = await alice.made()
    read = [await caller.get(f"/api/jobs/{job['id']}") for caller in (alice, bob, world.guest, world.user)]

    assert "user:alice" == job["owner"]
    assert [200, 403, 403, 403] == [answer.status for answer in read]


@pytest.mark.parametrize(
    ("kind", "algorithm"), [("RSA", "RS256"), ("RSA", "PS384"), ("EC", "ES256"), ("OKP", "Ed25519")]
)
async def test_a_signature_counts_by_any_listed_algorithm(start: Starter, idp: Idp, kind: str, algorithm: str) -> None:
    """
    And by no other, though the key be the right one.
    """
    key = idp.add("other", kind)
    listing = await start(**idp.settings(idp_algorithms=(algorithm,)))
    other = await start(**idp.settings(idp_algorithms=("ES384",)))
    token = signed(claims_of(listing.clock), key, alg=algorithm)

    assert [200, 401] == [await status_of(world, token) for world in (listing, other)]


@pytest.mark.parametrize(
    "others",
    [
        {"iss": "https://login.evil.example"},
        {"iss": None},
        {"iss": [ISSUER]},
        {"aud": "another-service"},
        {"aud": None},
        {"aud": [AUDIENCE, 1]},
        {"aud": []},
        {"exp": None},
        {"exp": 1_000_000_000},
        {"exp": "tomorrow"},
        {"nbf": 4_000_000_000},
        {"iat": 4_000_000_000},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "two words"},
        {"sub": "ü"},
        {"sub": "x" * 201},
        {"jti": 7},
    ],
    ids=json.dumps,
)
async def test_a_token_that_is_not_for_us_or_of_this_time_is_401(start: Starter, idp: Idp, others: JSON) -> None:
    """
    The right signature alone proves nobody.
    """
    world = await start(**idp.settings())
    good = signed(claims_of(world.clock), idp.keys["first"])
    bad = signed(claims_of(world.clock, **others), idp.keys["first"])

    assert [200, 401] == await statuses(world, good, bad)


async def test_an_audience_among_several_is_enough(start: Starter, idp: Idp) -> None:
    """
    A token may be for others too, and the service may go by several names.
    """
    world = await start(**idp.settings(idp_audience=("a", "b")))
    key = idp.keys["first"]

    assert [200, 200, 401] == await statuses(
        world, *(signed(claims_of(world.clock, aud=aud), key) for aud in ("a", ["x", "b"], ["x"]))
    )


@pytest.mark.parametrize(("seconds", "status"), [(-2, 200), (-9, 401)])
async def test_clocks_may_differ_by_five_seconds(start: Starter, idp: Idp, seconds: int, status: int) -> None:
    """
    A token that ran out a moment ago still counts, and one that begins in a moment already does.
    """
    world = await start(**idp.settings())
    now = world.clock.now() // 1_000_000
    key = idp.keys["first"]
    late, early = (signed(claims_of(world.clock, **at), key) for at in ({"exp": now + seconds}, {"nbf": now - seconds}))

    assert [status, status] == await statuses(world, late, early)


# Forged


def _public_key_as_secret(key: PrivateKey, claims: JSON) -> str:
    import hashlib  # noqa: PLC0415  # used here only
    import hmac  # noqa: PLC0415  # used here only
    from base64 import urlsafe_b64encode  # noqa: PLC0415  # used here only

    def text(content: bytes) -> bytes:
        return urlsafe_b64encode(content).rstrip(b"=")

    header = text(json.dumps({"alg": "HS256", "typ": "JWT", "kid": key.kid}).encode())
    message = header + b"." + text(json.dumps(claims).encode())
    public = key.as_pem(private=False)
    return (message + b"." + text(hmac.digest(public, message, hashlib.sha256))).decode()


async def test_forged_tokens_are_401(start: Starter, idp: Idp) -> None:
    """
    No algorithm, a key that nobody listed, keys that the token brings or points at, a public key for a secret.
    """
    rsa = idp.add("rsa", "RSA")
    forger = new_key("forged")
    world = await start(**idp.settings())
    claims = claims_of(world.clock)
    good = signed(claims, rsa)
    head, body, _ = good.split(".")
    none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"
    brought = forger.as_dict(private=False)
    forged = {
        "no signature": f"{head}.{body}.",
        "algorithm none": f"{none}.{body}.",
        "another's signature": f"{head}.{body}.{signed(claims, forger).rpartition('.')[2]}",
        "a key that is not listed": signed(claims, forger),
        "a listed key's id": signed(claims, forger, kid="first"),
        "no key id": signed(claims, forger, kid=None),
        "a key id that is a path": signed(claims, forger, kid="../../../dev/null"),
        "its own key": signed(claims, forger, jwk=brought),
        "a key elsewhere": signed(claims, forger, jku=f"{idp.url}?of=forger", kid="forged"),
        "a certificate elsewhere": signed(claims, forger, x5u=idp.url),
        "something critical": signed(claims, idp.keys["first"], crit=["kid"]),
        "another kind of token": signed(claims, idp.keys["first"], typ="logout+jwt"),
        "the public key as secret": _public_key_as_secret(rsa, claims),
        "changed claims": f"{head}.{body[:-2]}xx.{good.rpartition('.')[2]}",
        "nothing of the kind": "a.b.c",
        "a header that is a list": "WyJhbGciXQ.e30.AA",
        "too long": good + "x" * 9_000,
    }

    answered = {name: await status_of(world, token) for name, token in forged.items()}

    assert 200 == await status_of(world, good)
    assert dict.fromkeys(forged, 401) == answered


async def test_keys_that_a_token_points_at_do_no_harm_to_a_good_one(start: Starter, idp: Idp) -> None:
    """
    They are not looked at: a token that the provider signed counts whatever else its header says.
    """
    world = await start(**idp.settings())
    elsewhere = new_key("first").as_dict(private=False)

    token = signed(claims_of(world.clock), idp.keys["first"], jku="http://127.0.0.1:1/", jwk=elsewhere, x5t="x")

    assert 200 == await status_of(world, token)


async def test_tokens_of_ours_and_of_the_provider_do_not_stand_in_for_each_other(start: Starter, idp: Idp) -> None:
    """
    A claimed role is nothing to the provider's tokens, ours count beside them, and a lease token proves nobody.
    """
    world = await start(**idp.settings())
    claims = claims_of(world.clock, role="operator", kinds=["x"])
    posing = world.with_token(signed(claims, idp.keys["first"]))
    await world.guest.made()
    grant = await world.worker.claim(lease_s=60)

    answers = [
        await posing.get("/api/log/head"),
        await posing.post("/api/worker/claim", {"kinds": ["x"]}),
        await world.operator.get("/api/log/head"),
        await world.with_token(grant.lease_token).get("/api/jobs"),
        await posing.create(owner=world.guest.owner),
    ]

    assert [403, 403, 200, 401, 403] == [answer.status for answer in answers]


async def test_a_subject_that_looks_like_another_owner_is_none(start: Starter, idp: Idp) -> None:
    """
    Whatever the provider calls somebody, the owner is a user, and nobody else's.
    """
    world = await start(**idp.settings())
    names = ("guest:ann", "user:carol", "carol")

    owners = [
        (await world.with_token(signed(claims_of(world.clock, sub=name), idp.keys["first"])).made())["owner"]
        for name in names
    ]

    assert ["user:guest:ann", "user:user:carol", "user:carol"] == owners


# Roles and subjects


async def test_a_claim_makes_a_role_where_the_settings_say_so(start: Starter, idp: Idp) -> None:
    """
    Text or list; the first that fits; everybody else is a user.
    """
    roles = {"idp_role_claim": "groups", "idp_roles": {"admins": "operator", "support": "viewer"}}
    world = await start(**idp.settings(**roles))
    key = idp.keys["first"]
    groups: list[JSON] = ["admins", ["x", "support"], ["support", "admins"], ["x"], 7, None]
    callers = [world.with_token(signed(claims_of(world.clock, groups=each), key)) for each in groups]

    logs = [(await caller.get("/api/log/head")).status for caller in callers]
    views = [(await caller.get("/api/projections")).status for caller in callers]

    assert [200, 403, 200, 403, 403, 403] == logs
    assert [200, 200, 200, 403, 403, 403] == views


async def test_which_claim_names_the_user_is_a_setting(start: Starter, idp: Idp) -> None:
    """
    Some platforms have an account id of their own.
    """
    world = await start(**idp.settings(idp_subject_claim="account"))

    token = signed(claims_of(world.clock, account="acc-7"), idp.keys["first"])

    assert "user:acc-7" == (await world.with_token(token).made())["owner"]


# Keys that change


async def test_the_provider_rotates_its_keys_while_the_service_runs(start: Starter, idp: Idp) -> None:
    """
    No restart: the first token under the new key counts, and the old key does for as long as it is listed.
    """
    world = await start(**idp.settings())
    old = signed(claims_of(world.clock), idp.keys["first"])
    before = await status_of(world, old)

    new = signed(claims_of(world.clock), idp.add("second"))
    during = await statuses(world, new, old)
    del idp.keys["first"]
    newest = signed(claims_of(world.clock), idp.add("third"))
    after = await statuses(world, newest, new, old)

    assert (200, [200, 200], [200, 200, 401]) == (before, during, after)


async def test_a_rotation_without_key_ids_is_noticed_too(start: Starter, idp: Idp) -> None:
    """
    A provider with one nameless key may replace it.
    """
    world = await start(**idp.settings())

    def nameless(key: PrivateKey) -> bytes:
        return json.dumps({"keys": [{k: v for k, v in key.as_dict(private=False).items() if k != "kid"}]}).encode()

    seen = []
    for name in ("one", "two"):
        key = new_key(name)
        idp.answer = (200, nameless(key))
        seen.append(await status_of(world, signed(claims_of(world.clock), key, kid=None)))

    assert [200, 200] == seen


async def test_a_key_that_takes_the_id_of_another_is_noticed_too(start: Starter, idp: Idp) -> None:
    """
    A provider that gives no new name to its new key is not held to the old one.
    """
    world = await start(**idp.settings())
    old = signed(claims_of(world.clock), idp.keys["first"])
    before = await status_of(world, old)

    new = signed(claims_of(world.clock, sub="bob"), idp.add("first"))
    after = await status_of(world, new)

    assert (200, 200, 401) == (before, after, await status_of(world, old))


async def test_a_flood_of_made_up_key_ids_does_not_hammer_the_provider(start: Starter, idp: Idp) -> None:
    """
    Two hundred of them cost one fruitless fetch an interval, and a real rotation is noticed after it.
    """
    world = await start(**idp.settings())
    await status_of(world, signed(claims_of(world.clock), idp.keys["first"]))
    before = idp.fetches
    made_up = [signed(claims_of(world.clock), new_key(f"made-up-{number}")) for number in range(200)]

    answers = await asyncio.gather(*(status_of(world, token) for token in made_up[50:]))
    answers += await statuses(world, *made_up[:50])
    flooded = idp.fetches - before
    rotated = signed(claims_of(world.clock), idp.add("second"))
    world.clock.advance(6)
    after = await status_of(world, rotated)

    assert {401} == set(answers)
    assert flooded <= 2
    assert (200, 1) == (after, idp.fetches - before - flooded)


@pytest.mark.parametrize(
    "answer", [(500, b""), (200, b"not json"), (200, b'{"keys": 7}'), (200, b"[" * 5_000), (302, b""), (404, b"{}")]
)
async def test_while_the_provider_is_down_its_last_good_keys_go_on(
    start: Starter, idp: Idp, answer: tuple[int, bytes]
) -> None:
    """
    Whatever it answers instead of keys, known keys count, and new ones do as soon as it is back.
    """
    world = await start(**idp.settings())
    key = idp.keys["first"]
    await status_of(world, signed(claims_of(world.clock), key))
    second = idp.add("second")

    idp.answer = answer
    down = await statuses(world, signed(claims_of(world.clock, sub="bob"), key), signed(claims_of(world.clock), second))
    idp.answer = None
    world.clock.advance(6)
    back = await status_of(world, signed(claims_of(world.clock), second))

    assert ([200, 401], 200) == (down, back)


async def test_a_service_starts_while_its_provider_is_down(start: Starter, idp: Idp) -> None:
    """
    Guests and workers are served; users are as soon as the provider answers.
    """
    idp.answer = (503, b"")
    world = await start(**idp.settings())
    token = signed(claims_of(world.clock), idp.keys["first"])
    down = [await status_of(world, token), (await world.guest.get("/api/jobs")).status]

    idp.answer = None
    world.clock.advance(6)

    assert ([401, 200], 200) == (down, await status_of(world, token))


async def test_keys_are_bounded_in_bytes_and_in_number(start: Starter, idp: Idp) -> None:
    """
    A list that is larger than may be is no list.
    """
    few = await start(**idp.settings(idp_keys_max=1))
    small = await start(**idp.settings(idp_jwks_bytes_max=len(idp.jwks())))
    first = [await status_of(world, signed(claims_of(world.clock), idp.keys["first"])) for world in (few, small)]

    second = idp.add("second")
    then = [await status_of(world, signed(claims_of(world.clock), second)) for world in (few, small)]

    assert ([200, 200], [401, 401]) == (first, then)


async def test_a_provider_that_does_not_answer_is_waited_for_only_so_long(start: Starter, idp: Idp) -> None:
    """
    Whoever comes with an unknown key has an answer after the time that a fetch may take.
    """
    idp.open.clear()
    world = await start(**idp.settings(idp_timeout_s=0.2))

    answered = await status_of(world, signed(claims_of(world.clock), idp.keys["first"]))

    assert 401 == answered
    assert 200 == (await world.guest.get("/api/jobs")).status


async def test_a_withdrawn_key_s_tokens_count_no_more(start: Starter, idp: Idp) -> None:
    """
    Also those that were believed before: the keys are fetched again by themselves.
    """
    world = await start(**idp.settings(idp_refresh_s=0.05))
    token = signed(claims_of(world.clock), idp.keys["first"])
    before = await status_of(world, token)

    idp.add("second")
    del idp.keys["first"]
    async with asyncio.timeout(10):
        while await status_of(world, token) == 200:
            pass

    assert 200 == before


async def test_keys_that_cannot_verify_are_passed_over(start: Starter, idp: Idp) -> None:
    """
    Shared secrets and what is not understood do not keep the good one from counting.
    """
    odd: list[JSON] = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "first"},
        {"kty": "XYZ", "kid": "first"},
        {"kty": ["RSA"]},
        {"kty": "RSA", "n": 7, "e": "AQAB"},
        {"kty": "EC", "crv": "P-256"},
        {},
        idp.keys["first"].as_dict(private=False),
    ]
    idp.answer = (200, json.dumps({"keys": odd}).encode())
    world = await start(**idp.settings())

    assert 200 == await status_of(world, signed(claims_of(world.clock), idp.keys["first"]))


@pytest.mark.parametrize("said", [{"use": "enc"}, {"key_ops": ["encrypt"]}, {"alg": "ES384"}, {"crv": "P-384"}])
async def test_a_key_that_is_for_something_else_signs_nothing(start: Starter, idp: Idp, said: JSON) -> None:
    """
    What the list says of a key is held to.
    """
    idp.answer = (200, json.dumps({"keys": [idp.keys["first"].as_dict(private=False) | said]}).encode())
    world = await start(**idp.settings())

    assert 401 == await status_of(world, signed(claims_of(world.clock), idp.keys["first"]))


@pytest.mark.filterwarnings("ignore:Key size should be")
async def test_a_short_key_signs_nothing(start: Starter, idp: Idp) -> None:
    """
    RSA of 1,024 bits can be broken, listed or not.
    """
    idp.keys["short"] = key = RSAKey.generate_key(1024, {"kid": "short"})
    world = await start(**idp.settings())

    assert 401 == await status_of(world, signed(claims_of(world.clock), key))


async def test_keys_can_stand_in_a_file_that_is_read_again_when_it_changes(
    start: Starter, idp: Idp, tmp_path: Path
) -> None:
    """
    Its new key counts without a restart; a file that is gone or broken leaves the last good keys.
    """
    file = tmp_path / "jwks.json"
    file.write_bytes(idp.jwks())
    world = await start(**idp.settings(idp_jwks=str(file)))
    old = signed(claims_of(world.clock), idp.keys["first"])
    first = await status_of(world, old)

    new = signed(claims_of(world.clock), idp.add("second"))
    file.write_bytes(idp.jwks())
    second = await status_of(world, new)
    file.unlink()
    gone = await statuses(world, old, signed(claims_of(world.clock), new_key("third")))

    assert (200, 200, [200, 401]) == (first, second, gone)


# A shared secret, revocation, streams


async def test_a_provider_may_share_a_secret(start: Starter, idp: Idp) -> None:
    """
    HS256 by that secret counts, by another or by another algorithm does not.
    """
    from joserfc import jwt  # noqa: PLC0415  # used here only
    from joserfc.jwk import OctKey  # noqa: PLC0415  # used here only

    shared, other = "what the platform and we alone know", "what the platform and we do not know"
    world = await start(**idp.settings(idp_jwks="", idp_secret=shared))
    claims = claims_of(world.clock)

    def token(secret: str, algorithm: str) -> str:
        return jwt.encode({"alg": algorithm}, claims, OctKey.import_key(secret), algorithms=[algorithm])

    tokens = [token(shared, "HS256"), token(other, "HS256"), token(shared, "HS512"), signed(claims, idp.keys["first"])]

    assert [200, 401, 401, 401] == await statuses(world, *tokens)


async def test_a_platform_s_user_can_be_revoked(start: Starter, idp: Idp) -> None:
    """
    By name all of the tokens, by the id one.
    """
    world = await start(**idp.settings())
    key = idp.keys["first"]
    alice, lost, bob = (
        signed(claims_of(world.clock, **who), key)
        for who in ({"sub": "alice"}, {"sub": "bob", "jti": "t1"}, {"sub": "bob", "jti": "t2"})
    )
    before = await statuses(world, alice, lost, bob)

    for whose in ({"subject": "user:alice"}, {"token_id": "t1"}):
        await world.operator.post("/api/operator/revoke", {"reason": "left"} | whose)

    assert ([200, 200, 200], [401, 401, 200]) == (before, await statuses(world, alice, lost, bob))


async def test_a_platform_s_user_s_stream_ends_with_the_token(start: Starter, idp: Idp) -> None:
    """
    It is told bye with reason expired.
    """
    world = await start(**idp.settings())
    now = world.clock.now() // 1_000_000
    user = world.with_token(signed(claims_of(world.clock, exp=now + 2), idp.keys["first"]))

    async with user.stream() as frames:
        farewell = (await frames.rest())[-1]

    assert ("bye", {"reason": "expired"}) == (farewell.event, farewell.data)
