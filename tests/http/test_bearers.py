from __future__ import annotations

from jobsvc.domain.words import Principal
from jobsvc.http.bearers import KnownBearers
from jobsvc.http.revocations import Revocation
from jobsvc.tokens import Bearer


def bearer(name: str, *, token_id: str | None = None, issued_at: int = 0) -> Bearer:
    """
    A guest.
    """
    return Bearer(Principal("guest", name, name), 10, token_id, issued_at)


def test_the_least_lately_seen_make_room() -> None:
    """
    Whoever comes often stays known, however many others come once.
    """
    known = KnownBearers(bearers_max=2)
    known.add("often", bearer("guest:often"))

    for number in range(5):
        known.add(f"{number}", bearer(f"guest:{number}"))
        assert known.get("often") is not None

    assert (None, 2) == (known.get("3"), len(known))


def test_whom_a_revocation_is_about_is_forgotten_and_nobody_else() -> None:
    """
    All tokens of a subject, those issued before a moment, or one by its id.
    """
    known = KnownBearers(bearers_max=10)
    known.add("old", bearer("guest:ann", issued_at=1, token_id="a"))
    known.add("new", bearer("guest:ann", issued_at=3))
    known.add("other", bearer("guest:bob", token_id="b"))

    known.forget(Revocation("guest:ann", "left", issued_before=2))
    assert [False, True, True] == [known.get(text) is not None for text in ("old", "new", "other")]
    known.forget(Revocation("jti:b", "lost"))
    known.forget(Revocation("guest:nobody", "left"))
    assert [False, True, False] == [known.get(text) is not None for text in ("old", "new", "other")]
    known.forget(Revocation("guest:ann", "left"))
    assert 0 == len(known)


def test_nothing_is_left_of_who_was_forgotten() -> None:
    """
    Memory follows who is known, by whatever way they were forgotten.
    """
    known = KnownBearers(bearers_max=3)
    for number in range(10):
        known.add(f"{number}", bearer(f"guest:{number}", token_id=f"{number}"))

    for number in range(10):
        known.forget(Revocation(f"jti:{number}", "lost"))

    assert (0, {}) == (len(known), known._hashes_of)  # noqa: SLF001  # what nobody can see grow
