"""
The verbs ``token``, a bearer token for somebody, signed with the service's secret, and ``rotate-secret``.

Who can read the secret can be anybody; this verb only saves the arithmetic.
"""

from __future__ import annotations

import re
import time
import uuid
from typing import TYPE_CHECKING, Final

import click

from jobsvc.cli.options import Length, Misused, output_option, print_json, secret_of, settings_from, settings_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobsvc.domain.words import Role


@click.command(epilog="Example: jobsvc token worker --subject w1 --kinds x-post,page --ttl 12h --database jobs.db")
@click.argument("role", type=click.Choice(["guest", "user", "service", "worker", "operator", "viewer"]))
@click.option("--subject", metavar="NAME", help="Who it is.  [default: the role; a new id for guest and user]")
@click.option("--kinds", metavar="A,B", default="", help="The only kinds a worker may touch.  [default: any]")
@click.option("--ttl", "ttl_s", type=Length(), default="1h", show_default=True, help="How long it lasts.")
@settings_options
@output_option
def token(  # click passes options by name
    role: Role,
    *,
    subject: str | None,
    kinds: str,
    ttl_s: float,
    config_path: str | None,
    pairs: tuple[str, ...],
    output: str,
    **flags: object,
) -> None:
    """
    Print a bearer token that makes its bearer ROLE.

    It is signed with JOBSVC_SECRET, else with the secret beside --database.
    """
    from jobsvc.domain.moments import rfc3339
    from jobsvc.tokens import issue, read_bearer

    loaded = settings_from(flags, config_path=config_path, pairs=pairs)
    if ttl_s > loaded.settings.revocation_ttl_s:
        raise Misused(f"--ttl: at most {loaded.settings.revocation_ttl_s:g} seconds, for so long a revocation is kept")
    named = [kind.strip() for kind in kinds.split(",") if kind.strip()]
    _check(subject, named)
    secret = secret_of(loaded)
    now = time.time_ns() // 1000
    token_id = str(uuid.uuid4())
    text = issue(secret, role, subject=subject or _anybody(role), kinds=named, ttl_s=ttl_s, now=now, token_id=token_id)
    if output == "text":
        click.echo(text)
        return
    bearer = read_bearer(secret, text, now=now)
    shown = {"token": text, "role": role, "subject": bearer.principal.subject, "kinds": sorted(named)}
    print_json(shown | {"token_id": token_id, "expires_at": rfc3339(bearer.expires_at)})


def _check(subject: str | None, kinds: Sequence[str]) -> None:
    """
    A token can be used as it is asked for, and taken back.

    Raises:
        Misused: Nobody could be named so elsewhere, or there are no such kinds.
    """
    if subject is not None and _NAME.fullmatch(subject) is None:
        raise Misused("--subject: 1 to 200 printable ASCII characters without a space")
    for kind in kinds:
        if _KIND.fullmatch(kind) is None:
            raise Misused(f"--kinds: {kind}: a kind has 1 to 64 of a-z, 0-9, '.', '_' and '-'")


_NAME: Final = re.compile(r"[!-~]{1,200}")
_KIND: Final = re.compile(r"[a-z0-9._-]{1,64}")


def _anybody(role: Role) -> str:
    """A name where none was given. Guests and users are somebody new each time, since their name is what they own."""
    return str(uuid.uuid4()) if role in {"guest", "user"} else role


@click.command("rotate-secret", epilog="Example: jobsvc rotate-secret --database jobs.db")
@click.option("--forget", is_flag=True, help="Keep none of the earlier secrets: every token and lease is void.")
@settings_options
def rotate_secret(*, forget: bool, config_path: str | None, pairs: tuple[str, ...], **flags: object) -> None:
    """
    Have another secret sign, from the next start of the service on.

    It is written to the file beside --database. The secrets before it, at most 8, still verify: nobody is logged out,
    and no worker loses a lease. A secret that is configured is rotated where it is: move it to secret_previous.
    """
    from jobsvc import secretfile
    from jobsvc.settings import UnusableSetting

    settings = settings_from(flags, config_path=config_path, pairs=pairs).settings
    if settings.secret:
        raise Misused("a secret is configured; set another there, and add this one to secret_previous")
    try:
        previous = secretfile.rotate_secret(settings.secret_path, forget=forget)
    except UnusableSetting as error:
        raise Misused(str(error)) from error
    click.echo(f"{settings.secret_path}: another secret signs from the next start on; {previous} more still verify")
