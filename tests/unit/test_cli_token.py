import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jobsvc.cli import main
from jobsvc.secretfile import with_made_secret
from jobsvc.settings_loading import load_settings
from jobsvc.tokens import UnusableToken, read_bearer, verify

SECRET = "a secret of more than thirty-two characters"
SECOND = 1_000_000


def _now() -> int:
    return time.time_ns() // 1000


def _token(*arguments: str, secret: str = SECRET) -> Result:
    return CliRunner().invoke(main, ["token", *arguments], env={"JOBSVC_SECRET": secret})


@pytest.mark.parametrize("role", ["guest", "user", "service", "worker", "operator", "viewer"])
def test_every_role_can_have_a_token(role: str) -> None:
    """
    The one line that is printed is a token of that role, signed with the configured secret.
    """
    printed = _token(role, "--subject", "s")

    principal = verify(SECRET, printed.output.strip(), now=_now())
    assert (0, role) == (printed.exit_code, principal.role)
    assert principal.subject in {"s", f"{role}:s"}


def test_a_guest_without_a_name_is_a_new_one() -> None:
    """
    Two tokens for nobody in particular are two owners.
    """
    owners = {verify(SECRET, _token("guest").output.strip(), now=_now()).owner for _ in range(2)}

    assert 2 == len(owners)


def test_kinds_and_length_of_life_are_in_the_token() -> None:
    """
    A worker's token names its kinds, and ends when it should; as JSON it says so too.
    """
    printed = _token("worker", "--kinds", "b, a", "--ttl", "1h30m", "-o", "json")

    shown = json.loads(printed.output)
    bearer = read_bearer(SECRET, shown["token"], now=_now())
    assert ["a", "b"] == shown["kinds"] == sorted(bearer.principal.kinds)
    assert 5_395 <= (bearer.expires_at - _now()) / SECOND <= 5_400
    assert shown["expires_at"].endswith("Z")
    assert (True, shown["token_id"]) == (bool(bearer.token_id), bearer.token_id)


@pytest.mark.parametrize("ttl", ["0", "-1h", "soon", "1x", "h", ""])
def test_a_length_that_is_none_is_wrong_usage(ttl: str) -> None:
    """
    A life that is not above zero, or not readable, makes no token.
    """
    printed = _token("user", "--ttl", ttl)

    assert 2 == printed.exit_code
    assert "not a length of time" in printed.output


def test_no_token_is_made_that_would_outlive_its_revocation() -> None:
    """
    A revocation is kept for ten years, so a token may live no longer.
    """
    printed = _token("user", "--ttl", "3651d")

    assert 2 == printed.exit_code
    assert "for so long a revocation is kept" in printed.output


@pytest.mark.parametrize(
    ("ttl", "seconds"), [("90", 90), ("9.5s", 9.5), ("30m", 1_800), ("2h", 7_200), ("7d", 604_800)]
)
def test_lengths_are_read_in_every_unit(ttl: str, seconds: float) -> None:
    """
    A plain number is seconds.
    """
    token = _token("user", "--ttl", ttl).output.strip()

    left_s = (read_bearer(SECRET, token, now=0).expires_at - _now()) / SECOND

    assert seconds - 5 <= left_s <= seconds


def test_without_a_configured_secret_the_one_beside_the_database_signs(tmp_path: Path) -> None:
    """
    The token fits the service that made that secret, and no other.
    """
    database = str(tmp_path / "jobs.db")
    secret = with_made_secret(load_settings({"database": database}, {})).settings.secret

    token = _token("operator", "--database", database, secret="").output.strip()

    assert "operator" == verify(secret, token, now=_now()).role
    with pytest.raises(UnusableToken):
        verify(SECRET, token, now=_now())


def test_without_any_secret_there_is_no_token(tmp_path: Path) -> None:
    """
    Rather than sign with nothing, the verb says where a secret would come from.
    """
    printed = _token("user", "--database", str(tmp_path / "none.db"), secret="")

    assert 2 == printed.exit_code
    assert "set JOBSVC_SECRET" in printed.output
    assert [] == list(tmp_path.iterdir())


def test_at_most_eight_secrets_stay_beside_the_new_one(tmp_path: Path) -> None:
    """
    Rotating for ever makes no token slower to refuse.
    """
    database = str(tmp_path / "jobs.db")
    with_made_secret(load_settings({"database": database}, {}))

    for _ in range(10):
        assert 0 == CliRunner().invoke(main, ["rotate-secret", "--database", database]).exit_code

    assert 9 == len((tmp_path / "jobs.db.secret").read_text().split())
    assert 8 == len(with_made_secret(load_settings({"database": database}, {})).settings.secret_previous)


@pytest.mark.parametrize(("secret", "said"), [(SECRET, "secret_previous"), ("", "jobsvc serve makes one")])
def test_what_cannot_be_rotated_says_so(tmp_path: Path, secret: str, said: str) -> None:
    """
    A configured secret is rotated where it is configured, and where there is none yet nothing is made.
    """
    arguments = ["rotate-secret", "--database", str(tmp_path / "none.db")]

    printed = CliRunner().invoke(main, arguments, env={"JOBSVC_SECRET": secret})

    assert 2 == printed.exit_code
    assert said in printed.output
    assert "Errno" not in printed.output
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ("user", "--subject", "a b"),
        ("user", "--subject", "ada\n"),
        ("operator", "--subject", "zoë"),
        ("user", "--subject", ""),
        ("user", "--subject", "a" * 201),
        ("worker", "--kinds", "x-post,A B"),
    ],
)
def test_no_token_is_made_for_a_name_that_nobody_could_revoke_or_kinds_that_there_are_not(
    arguments: tuple[str, ...],
) -> None:
    """
    Wrong usage: neither an owner nor a revocation can be written so, nor a job's kind.
    """
    result = _token(*arguments)

    assert 2 == result.exit_code
    assert "eyJ" not in result.output


@contextmanager
def _shut(folder: Path) -> Iterator[None]:
    """
    Nothing in *folder* can be looked at, by whoever runs the tests: to root no folder is shut.
    """
    folder.chmod(0o000)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65_534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o700)


@pytest.mark.parametrize("arguments", [["rotate-secret"], ["token", "viewer"]])
def test_a_secret_that_may_not_be_read_is_said_to_be_somebody_elses(tmp_path: Path, arguments: list[str]) -> None:
    """
    In a folder that the caller may not look into, the verb ends with 2 and says whom it is for.
    """
    loaded = load_settings({"database": str(tmp_path / "jobs.db")}, {})
    with_made_secret(loaded)

    with _shut(tmp_path):
        result = CliRunner().invoke(
            main, [*arguments, "--database", str(tmp_path / "jobs.db")], env={"JOBSVC_SECRET": ""}
        )

    assert 2 == result.exit_code, result.output
    assert "the user whom the service runs as" in result.output
