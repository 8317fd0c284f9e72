import subprocess
import sys

import pytest
from click.testing import CliRunner

from jobsvc.cli import VERBS, main


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    """
    Who asks a verb for help sees what it does and a line to copy.
    """
    asked = CliRunner().invoke(main, [verb, "--help"])

    assert 0 == asked.exit_code
    assert "Example: " in asked.output
    assert f"jobsvc {verb}" in asked.output


def test_the_list_of_verbs_says_what_each_does() -> None:
    """
    The program's own help names every verb, each with a sentence.
    """
    asked = CliRunner().invoke(main, ["--help"])

    silent = [verb for verb in VERBS if not any(line.startswith(f"  {verb} ") for line in asked.output.splitlines())]
    assert 0 == asked.exit_code
    assert [] == silent


@pytest.mark.parametrize("arguments", [["nothing"], ["token"], ["token", "king"], ["serve", "--port", "x"], ["--odd"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    """
    A verb, argument or flag that does not exist is told apart from something being wrong.
    """
    asked = CliRunner().invoke(main, arguments)

    assert 2 == asked.exit_code
    assert "Error: " in asked.output


def test_help_does_not_load_the_service() -> None:
    """
    Asking for help answers at once: no verb's own modules are imported for it.
    """
    program = "import sys, jobsvc.cli; sys.exit(any(name in sys.modules for name in ('aiohttp', 'rich', 'pysqlite3')))"

    ended = subprocess.run([sys.executable, "-c", program], check=False)

    assert 0 == ended.returncode
