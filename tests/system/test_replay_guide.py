"""
docs/replay.md says what is so: its blocks run, one after the other, and print what the page shows.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.system.logs import jobsvc

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK: Final = "--- block"
PATIENCE_S: Final = 90.0


@pytest.mark.process
@pytest.mark.timeout(120)
def test_the_guide_through_an_incident_runs(tmp_path: Path) -> None:
    """
    Each block of commands prints the lines that stand below it on the page.
    """
    blocks = _BLOCK.findall((ROOT / "docs" / "replay.md").read_text(encoding="utf-8"))
    (source,) = [text for kind, text in blocks if kind == "python"]
    (tmp_path / "attempts.py").write_text(source)
    commands = [text for kind, text in blocks if kind == "sh"]

    printed = _run([_elsewhere(text, _ports()) for text in commands], tmp_path)

    assert len(commands) == len(printed)
    wanted = list(_expected(blocks))
    missing = [
        (number, line)
        for number, lines in wanted
        for line in lines
        if not any(line in shown for shown in printed[number].splitlines())
    ]
    assert [] == missing, printed
    assert len(wanted) >= len(commands) - 2


def test_the_projection_of_the_readme_runs_on_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Fifteen lines at most, replayed by name over the log of the demo's own posts.
    """
    blocks = _BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    (source,) = [text for kind, text in blocks if kind == "python" and "def apply" in text]
    (tmp_path / "own.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    (port, _) = _ports()
    served = f"""
jobsvc serve --database jobs.db --port {port} > service.out &
service=$!
until curl -sf http://127.0.0.1:{port}/readyz > ready.json; do sleep 0.1; done
jobsvc demo --against http://127.0.0.1:{port} --database jobs.db > demo.out
kill $service
wait $service
"""
    _run([served], tmp_path)

    name = re.findall(r"^class (\w+)", source, re.MULTILINE)[0]
    result = jobsvc("replay", "--projection", f"own:{name}", "-o", "json", "--database", str(tmp_path / "jobs.db"))

    assert len(source.strip().splitlines()) <= 15
    assert 0 == result.exit_code, result.output
    assert 44 == sum(row["row"] for row in json.loads(result.stdout)["rows"])


def _expected(blocks: list[tuple[str, str]]) -> Iterator[tuple[int, list[str]]]:
    """
    For each block of commands that is followed by what it prints: its number, and those lines.
    """
    number = -1
    for kind, text in blocks:
        if kind == "sh":
            number += 1
        elif kind == "text":
            yield number, text.splitlines()


def _run(commands: list[str], folder: Path) -> list[str]:
    """
    What each of *commands* prints, run one after the other in one shell.
    """
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin", "HOME": str(folder)}
    script = f"\necho '{_MARK}'\n".join(commands)
    ended = subprocess.run(
        ["/bin/sh", "-u", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert 0 == ended.returncode, ended.stderr
    return ended.stdout.split(f"{_MARK}\n")


def _elsewhere(text: str, ports: tuple[int, int]) -> str:
    return text.replace("8080", str(ports[0])).replace("8081", str(ports[1]))


_CHOSEN: list[int] = []


def _ports() -> tuple[int, int]:
    """
    Two that nobody listens on, the same throughout this run.
    """
    if not _CHOSEN:
        with socket.socket() as first, socket.socket() as second:
            for one in (first, second):
                one.bind(("127.0.0.1", 0))
                _CHOSEN.append(one.getsockname()[1])
    return _CHOSEN[0], _CHOSEN[1]
