"""
The command line: arguments in, text out.

Here lives one file for each family of verbs, and the list of verbs, each loaded only when it runs.
No verb decides anything about a job; it asks the service or reads the log. Exit codes: 0 done, 1 found something
wrong, 2 wrong usage.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

import jobsvc

VERBS: Final = {
    "serve": "jobsvc.cli.serve:serve",
    "token": "jobsvc.cli.tokens:token",
    "rotate-secret": "jobsvc.cli.tokens:rotate_secret",
    "config": "jobsvc.cli.config:config",
    "demo": "jobsvc.cli.demo:demo",
    "openapi": "jobsvc.cli.document:openapi",
    "tail": "jobsvc.cli.tail:tail",
    "replay": "jobsvc.cli.replay:replay",
    "rebuild": "jobsvc.cli.repair:rebuild",
    "doctor": "jobsvc.cli.doctor:doctor",
    "parked": "jobsvc.cli.parked:parked",
    "verify": "jobsvc.cli.repair:verify",
    "state-at": "jobsvc.cli.past:state_at",
    "diff": "jobsvc.cli.past:diff",
    "bisect": "jobsvc.cli.past:bisect",
    "explain": "jobsvc.cli.explain:explain",
    "export": "jobsvc.cli.carry:export",
    "import": "jobsvc.cli.carry:import_",
    "backup": "jobsvc.cli.carry:backup",
    "restore": "jobsvc.cli.carry:restore",
    "archive": "jobsvc.cli.retention:archive",
    "erase": "jobsvc.cli.retention:erase",
}
"""Each verb, and where its command is."""


class Verbs(click.Group):
    """The verbs, in the order of the list; a verb's file is imported when the verb is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's own signature
        """The names, as the help shows them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # as above
        """The verb's command, None if there is no such verb."""
        if cmd_name not in VERBS:
            return None
        module, _, name = VERBS[cmd_name].partition(":")
        command = getattr(import_module(module), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{VERBS[cmd_name]} is not a command")
        return command


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: jobsvc serve --database jobs.db --port 8080",
)
@click.version_option(jobsvc.__version__, prog_name="jobsvc")
def main() -> None:
    """
    One job per key, a live stream of its state, and a log that replays.

    Exit codes: 0 done, 1 found something wrong, 2 wrong usage.
    """
