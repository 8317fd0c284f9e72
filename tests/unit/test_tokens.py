import base64
import hmac
import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsvc.domain.words import Principal, Role
from jobsvc.tokens import UnusableToken, issue, lease_token, read_bearer, read_lease_token, verify

SECRET = "a secret of more than thirty-two characters"
NOW = 1_764_000_000_000_000
SECOND = 1_000_000
JOB = str(uuid.UUID(int=7))


def _token(role: Role = "user", subject: str = "ada", ttl_s: float = 60) -> str:
    return issue(SECRET, role, subject=subject, ttl_s=ttl_s, now=NOW)


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _signed(header: object, claims: object) -> str:
    """
    Anything at all, signed with the right secret.
    """
    signed = f"{_text(json.dumps(header).encode())}.{_text(json.dumps(claims).encode())}"
    return f"{signed}.{_text(hmac.digest(SECRET.encode(), signed.encode(), 'sha256'))}"


def _claims(**changed: object) -> dict[str, object]:
    return {"sub": "user:ada", "role": "user", "exp": NOW // SECOND + 60} | changed


@pytest.mark.parametrize(
    ("role", "subject", "expected"),
    [
        ("guest", "g1", Principal(role="guest", subject="guest:g1", owner="guest:g1")),
        ("user", "user:ada", Principal(role="user", subject="user:ada", owner="user:ada")),
        ("user", "guest:g1", Principal(role="user", subject="user:guest:g1", owner="user:guest:g1")),
        ("service", "backend", Principal(role="service", subject="backend")),
        ("worker", "w1", Principal(role="worker", subject="w1")),
        ("operator", "op", Principal(role="operator", subject="op")),
        ("viewer", "board", Principal(role="viewer", subject="board")),
    ],
)
def test_a_token_says_who_its_bearer_is(role: Role, subject: str, expected: Principal) -> None:
    """
    Guests and users own what carries their name, which always begins with their role; the others own nothing.
    """
    token = issue(SECRET, role, subject=subject, ttl_s=60, now=NOW)

    principal = verify(SECRET, token, now=NOW)

    assert expected == principal


def test_a_workers_kinds_its_end_and_its_id_survive() -> None:
    """
    Whatever is put into a token comes out of it.
    """
    token = issue(SECRET, "worker", subject="w", kinds=["b", "a"], ttl_s=1.5, now=NOW, token_id="t1")

    bearer = read_bearer(SECRET, token, now=NOW)

    assert frozenset({"a", "b"}) == bearer.principal.kinds
    assert NOW + 1.5 * SECOND == bearer.expires_at
    assert "t1" == bearer.token_id


@pytest.mark.parametrize(("role", "subject"), [("system", "sweeper"), ("root", "x"), ("user", "")])
def test_no_token_is_issued_for_what_nobody_may_be(role: Role, subject: str) -> None:
    """
    The service itself and unknown roles have no tokens, and neither does nobody.
    """
    with pytest.raises(ValueError, match="role that can be issued"):
        issue(SECRET, role, subject=subject, ttl_s=60, now=NOW)


def test_a_token_ends_within_the_leeway() -> None:
    """
    Five seconds after its end a token opens nothing, and says that only its time is over.
    """
    token = _token(ttl_s=60)

    verify(SECRET, token, now=NOW + 64 * SECOND)
    with pytest.raises(UnusableToken) as refused:
        verify(SECRET, token, now=NOW + 65 * SECOND)

    assert refused.value.expired


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "HS512", "typ": "JWT"},
        {"alg": "hs256"},
        {"alg": "HS256", "crit": ["b64"]},
        {"alg": "HS256", "typ": "at+jwt"},
        {"typ": "JWT"},
        ["HS256"],
        None,
    ],
)
def test_no_other_header_is_accepted_even_if_signed(header: object) -> None:
    """
    The algorithm is ours to choose; a token that names another one, or none, is not read.
    """
    token = _signed(header, _claims())

    with pytest.raises(UnusableToken):
        verify(SECRET, token, now=NOW)


def test_an_unsigned_token_is_not_accepted() -> None:
    """
    The oldest trick with JWTs does not work.
    """
    header, body, _ = _signed({"alg": "none"}, _claims()).split(".")

    with pytest.raises(UnusableToken):
        verify(SECRET, f"{header}.{body}.", now=NOW)


@pytest.mark.parametrize(
    "claims",
    [
        _claims(role="system"),
        _claims(role="root"),
        _claims(sub=""),
        _claims(sub="ada"),
        _claims(sub="guest:g1"),
        _claims(sub="user:"),
        _claims(sub=None),
        _claims(exp="never"),
        _claims(nbf=NOW // SECOND + 6),
        _claims(kinds="a"),
        {"sub": "user:ada", "role": "user"},
        [],
    ],
)
def test_claims_that_make_no_principal_are_refused_even_if_signed(claims: object) -> None:
    """
    A signature does not make sense of a token: without an end, with a foreign subject or role, it opens nothing.
    """
    token = _signed({"alg": "HS256", "typ": "JWT"}, claims)

    with pytest.raises(UnusableToken):
        verify(SECRET, token, now=NOW)


def test_a_token_for_ever_has_an_end_that_can_be_written() -> None:
    """
    An absurd end is brought down to the last moment that there is a date for.
    """
    token = _signed({"alg": "HS256"}, _claims(exp=1e300))

    bearer = read_bearer(SECRET, token, now=NOW)

    assert 253_402_300_799 * SECOND == bearer.expires_at


@given(place=st.integers(min_value=0), letter=st.characters())
def test_a_token_changed_anywhere_is_refused(place: int, letter: str) -> None:
    """
    Not one letter of a token can be another one.
    """
    token = _token()
    place %= len(token)
    changed = token[:place] + letter + token[place + 1 :]

    if changed != token:
        with pytest.raises(UnusableToken):
            verify(SECRET, changed, now=NOW)


@given(st.one_of(st.text(), st.from_regex(r"[\w-]*\.[\w-]*\.[\w-]*"), st.text().map(lambda text: text + "x" * 9000)))
def test_junk_is_refused_and_raises_nothing_else(junk: str) -> None:
    """
    Whatever somebody sends as a token, there is one answer.
    """
    with pytest.raises(UnusableToken):
        verify(SECRET, junk, now=NOW)


def test_another_secret_opens_nothing() -> None:
    """
    A token of one service is nothing to another.
    """
    token = _token()

    with pytest.raises(UnusableToken):
        verify(SECRET + "x", token, now=NOW)


@given(fence=st.integers(min_value=0, max_value=10**18 - 1))
def test_a_lease_token_gives_its_fence_back(fence: int) -> None:
    """
    The fence of any lease can be read off its token.
    """
    token = lease_token(SECRET, "epoch", job_id=JOB, fence=fence)

    read = read_lease_token(SECRET, "epoch", job_id=JOB, token=token)

    assert fence == read


@pytest.mark.parametrize(
    ("secret", "epoch", "job_id"),
    [("other", "epoch", JOB), (SECRET, "other", JOB), (SECRET, "epoch", JOB[:-1] + "8"), (SECRET, "epoc", "h" + JOB)],
)
def test_a_lease_token_is_bound_to_secret_log_and_job(secret: str, epoch: str, job_id: str) -> None:
    """
    A token for one job of one log says nothing about any other.
    """
    token = lease_token(SECRET, "epoch", job_id=JOB, fence=3)

    read = read_lease_token(secret, epoch, job_id=job_id, token=token)

    assert -1 == read


def test_the_readable_fence_of_a_lease_token_cannot_be_changed() -> None:
    """
    Who held an old lease cannot make the current one of it, nor write the same fence in another way.
    """
    proof = lease_token(SECRET, "epoch", job_id=JOB, fence=3).partition(".")[2]
    changed = [f"{fence}.{proof}" for fence in ("4", "03", "+3", " 3", "٣", "", "-3", "3.", "9" * 19, "9" * 5000)]

    read = {read_lease_token(SECRET, "epoch", job_id=JOB, token=token) for token in changed}

    assert {-1} == read


@given(st.text())
def test_junk_is_no_lease_token(junk: str) -> None:
    """
    Whatever somebody sends as a lease token, there is one answer, and no error.
    """
    read = read_lease_token(SECRET, "epoch", job_id=JOB, token=junk)

    assert -1 == read


def test_a_bearer_token_is_no_lease_token_nor_the_other_way_round() -> None:
    """
    The two kinds of token share a secret and nothing else.
    """
    bearer = _token()
    lease = lease_token(SECRET, "epoch", job_id=JOB, fence=3)

    with pytest.raises(UnusableToken):
        verify(SECRET, lease, now=NOW)

    assert -1 == read_lease_token(SECRET, "epoch", job_id=JOB, token=bearer)
