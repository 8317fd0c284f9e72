"""
The documentation says what is so: its blocks run, its generated parts are fresh, its links lead somewhere.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

import pytest
from click import Context

from docs.generate import posts_and_jobs, rendered
from jobsvc.cli import main as jobsvc
from jobsvc.client import Client
from jobsvc.domain.events import EventType
from jobsvc.http.problems import STATUS_OF_CODE
from jobsvc.http.routes import ROUTES
from jobsvc.metrics import Metrics
from jobsvc.settings_loading import load_settings
from jobsvc.telemetry import LEVELS
from tests.process import SECRET, ServiceProcess, running_process, token
from tests.system.logs import select

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted(
    page
    for page in {
        *ROOT.glob("*.md"),
        *(page for folder in ("docs", "examples", "bench") for page in (ROOT / folder).rglob("*.md")),
    }
    # What npm installed beside an example is not ours to hold to anything.
    if "node_modules" not in page.parts
)
SERVED_AT: Final = "http://127.0.0.1:8080"
PATIENCE_S: Final = 30.0

_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN: Final = re.compile(r"`([^`\n]+)`")
_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)


# What runs


@pytest.mark.process
async def test_the_readme_s_commands_print_what_it_says(tmp_path: Path) -> None:
    """
    A create is 201, the other spelling is 200 with the same job, and the stream begins with the frames that are named.
    """
    (commands,) = (block for block in _blocks("README.md", "sh") if "curl" in block)
    (frames,) = (block for block in _blocks("README.md", "text") if "event: " in block)

    async with running_process(tmp_path / "jobsvc.db") as service:
        _, output = await _shell(commands, service=service)

    created, attached = re.findall(r'\{"job":\{"id":"([^"]+)".*\n(\d+)\n', output)
    assert (created[0], "201", "200") == (attached[0], created[1], attached[1])
    assert frames.splitlines() == re.findall(r"^event: \w+", output, re.MULTILINE)[:3]
    assert f'{{"jobs":[{{"id":"{created[0]}"' in output


@pytest.mark.process
async def test_the_commands_for_workers_do_a_job(tmp_path: Path) -> None:
    """
    Created, claimed, kept alive, told of and completed, each with the answer that a worker reads.
    """
    commands = "\n".join(_blocks("docs/workers.md", "sh"))

    async with running_process(tmp_path / "jobsvc.db") as service:
        code, output = await _shell(commands, service=service)

    assert 0 == code
    assert 2 == output.count('"cancel_requested":false,"deadline":null}')
    assert '"state":"completed"' in output
    assert '"result":{"pages": 3}' in output or '"result":{"pages":3}' in output


@pytest.mark.process
@pytest.mark.parametrize(
    ("page", "kind", "result"),
    [("README.md", "x-post", {"saved": "https://x.com/ada/status/1"}), ("docs/workers.md", "page", {"pages": 3})],
)
async def test_the_workers_in_python_work(tmp_path: Path, page: str, kind: str, result: object) -> None:
    """
    As it stands on the page, a program that does a job and ends with SIGTERM.
    """
    (source,) = (block for block in _blocks(page, "python") if "Worker(" in block)

    async with (
        running_process(tmp_path / "jobsvc.db") as service,
        _client(service) as client,
        _python(source, service=service) as worker,
    ):
        job = await client.create(kind, key="front", url="https://x.com/ada/status/1")
        ended = await client.wait(job.id, timeout_s=PATIENCE_S)
        worker.terminate()
        code = await worker.wait()

    assert ("completed", result) == (ended.state, ended.result)
    assert 0 == code


@pytest.mark.process
async def test_the_commands_for_operators_start_ask_and_stop_a_service(tmp_path: Path, unused_tcp_port: int) -> None:
    """
    Ready, alive, measured, a refusal found in its log by request id, and 0 after SIGTERM.
    """
    commands, *_ = _blocks("docs/operations.md", "sh")

    commands = commands.replace("8080", str(unused_tcp_port))
    code, output = await _run(f"unset JOBSVC_SECRET\n{commands}", folder=tmp_path)

    assert 0 == code
    assert '{"status":"ready"}{"status":"alive"}' in output.replace("\n", "")
    assert "jobsvc_store_ready 1.0" in output
    assert '"event":"request.refused","code":"unauthenticated"' in output
    assert "exit 0" == output.splitlines()[-1]


@pytest.mark.process
async def test_the_commands_that_follow_a_request_find_its_event(tmp_path: Path) -> None:
    """
    The id that the create was sent with is that of the event.
    """
    _, commands, *_ = _blocks("docs/operations.md", "sh")

    async with running_process(tmp_path / "jobsvc.db") as service:
        code, output = await _shell(commands, service=service)

    (line,) = output.splitlines()
    assert (0, "operator:olga") == (code, json.loads(line)["actor"])


@pytest.mark.process
async def test_the_command_that_rotates_the_secret_keeps_the_one_before(tmp_path: Path) -> None:
    """
    Two secrets stand in the file afterwards, the one that the service made being the second.
    """
    _, _, command, *_ = _blocks("docs/operations.md", "sh")
    made = tmp_path / "jobs.db.secret"
    async with running_process(tmp_path / "jobs.db", environ={"JOBSVC_SECRET": ""}) as service:
        await service.stop()
    (before,) = made.read_text().splitlines()

    code, _ = await _run(f"unset JOBSVC_SECRET\n{command}", folder=tmp_path)

    assert 0 == code
    assert [before] == made.read_text().splitlines()[1:]


@pytest.mark.process
async def test_the_commands_that_back_up_and_move_a_log_do(tmp_path: Path) -> None:
    """
    While the service runs, a verified copy; once it is stopped, the log elsewhere under the same identity.
    """
    backing_up, moving = (
        block for block in _blocks("docs/operations.md", "sh") if "backup" in block or "export" in block
    )
    async with running_process(tmp_path / "jobs.db") as service:
        copied, told = await _run(backing_up, folder=tmp_path)
        await service.stop()
    moved, _ = await _run(moving, folder=tmp_path)

    epochs = [
        select(tmp_path / f"{name}.db", "SELECT epoch FROM head") for name in ("jobs", "moved", "again", "restored")
    ]
    assert (0, 0) == (copied, moved), told
    assert epochs[0] == epochs[1] == epochs[2] != epochs[3]


@pytest.mark.process
async def test_a_provider_of_one_s_own_makes_users(tmp_path: Path) -> None:
    """
    The page's key and token, with the page's settings, make alice an owner; a new key counts without a restart.
    """
    (source,) = _blocks("docs/identity.md", "python")
    serve, create, revoke = _blocks("docs/identity.md", "sh")
    settings = dict(pair.split("=", 1) for pair in re.findall(r"--set (\S+=\S+)", serve))
    environment = {f"JOBSVC_{name.upper()}": value for name, value in settings.items()}
    environment["JOBSVC_IDP_JWKS"] = str(tmp_path / "jwks.json")
    await _issue(source, folder=tmp_path)

    async with running_process(tmp_path / "jobsvc.db", environ=environment) as service:
        _, created = await _shell(create, service=service)
        await _issue(source, folder=tmp_path)
        _, attached = await _shell(create, service=service)
        _, revoked = await _shell(revoke, service=service)
        _, refused = await _shell(create, service=service)

    assert '"owner":"user:alice"' in created
    assert '"deduplicated":true' in attached
    assert '"revoked":"user:alice"' in revoked
    assert '"code":"unauthenticated"' in refused


async def _issue(source: str, *, folder: Path) -> None:
    """
    The page's program has run: there is another key and another token.
    """
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", source, cwd=folder)
    assert await process.wait() == 0


# What is generated


def test_the_generated_parts_are_fresh() -> None:
    """
    What `make docs` would write is what is there.
    """
    stale = [path.relative_to(ROOT) for path, text in rendered().items() if path.read_text(encoding="utf-8") != text]

    assert [] == stale, "run make docs"


def test_the_readme_lists_the_routes() -> None:
    """
    Each route of the table, in its order, and no other.
    """
    listed = re.findall(r"^\| ([A-Z]+) \| `([^`]+)` \|", _text("README.md"), re.MULTILINE)

    assert [(route.method, route.path) for route in ROUTES] == listed


def test_every_name_that_users_meet_is_listed() -> None:
    """
    Settings, codes of problems, events, metrics and log lines: each on its page.
    """
    metrics = re.findall(r"^# TYPE (\S+)", Metrics().exposition().decode(), re.MULTILINE)
    names = {
        "docs/settings.md": {*load_settings({}, {}).sources},
        "docs/reference.md": {*STATUS_OF_CODE, *get_args(EventType)},
        "docs/operations.md": {*metrics, *LEVELS},
    }

    missing = {page: sorted(wanted - set(_SPAN.findall(_text(page)))) for page, wanted in names.items()}

    assert {page: [] for page in names} == missing


def test_the_readme_s_figures_of_the_demo_are_right() -> None:
    """
    So many URLs become so many jobs, by the file that is shipped.
    """
    (figures,) = re.findall(r"(\d+) post URLs, .* become (\d+) jobs", _text("README.md"))

    assert posts_and_jobs() == tuple(map(int, figures))


# What is named


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    """
    To a file or folder that is there, and to a heading that it has.
    """
    links = [link for link in _LINK.findall(page.read_text(encoding="utf-8")) if not re.match(r"[a-z]+:", link)]

    assert [] == [link for link in links if not _leads_somewhere(page, link)]


def test_every_make_target_that_is_named_exists() -> None:
    """
    In spans and blocks of code, since prose may make anything.
    """
    targets = set(re.findall(r"^([a-z]+):", _text("Makefile"), re.MULTILINE))
    named = {target for code in _all_code() for target in re.findall(r"\bmake ([a-z]+)", code)}

    assert {"run", "test", "demo"} <= named
    assert set() == named - targets


def test_every_verb_that_is_named_exists() -> None:
    """
    What the pages call by `jobsvc VERB` is a verb of the command line.
    """
    named = {verb for code in _all_code() for verb in re.findall(r"(?:^|[\s(/])jobsvc ([a-z][a-z-]*)", code)}

    assert "token" in named
    assert set() == named - set(jobsvc.list_commands(Context(jobsvc)))


# Reading pages


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _blocks(name: str, language: str) -> list[str]:
    return [block for marked, block in _BLOCK.findall(_text(name)) if marked == language]


def _all_code() -> Iterator[str]:
    """
    Each span and each block of code on every page, the log of changes apart, which tells of what was.
    """
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if page.name != "CHANGELOG.md":
            yield from (block for marked, block in _BLOCK.findall(text) if marked != "text")
            yield from _SPAN.findall(_BLOCK.sub("", text))


def _leads_somewhere(page: Path, link: str) -> bool:
    path, _, heading = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return False
    return not heading or heading in map(_anchor, _HEADING.findall(target.read_text(encoding="utf-8")))


def _anchor(heading: str) -> str:
    """
    As the places that show Markdown name a heading: lower case, hyphens for blanks, nothing else but letters.
    """
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


# Running blocks


def _client(service: ServiceProcess) -> Client:
    return Client(service.url, token=token("user", "ada"))


def _environ() -> dict[str, str]:
    """
    A shell that finds this checkout's programs and the secret of its services.
    """
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": programs, "JOBSVC_SECRET": SECRET, "JOBSVC_TOKEN": token("worker", "w1")}


async def _shell(commands: str, *, service: ServiceProcess) -> tuple[int | None, str]:
    """
    The exit code and output of *commands*, with the port of *service* in place of the usual one.
    """
    return await _run(commands.replace(SERVED_AT, service.url), folder=service.database.parent)


async def _run(commands: str, *, folder: Path) -> tuple[int | None, str]:
    """
    The exit code and output of *commands* in *folder*.
    """
    shell = shutil.which("sh")
    assert shell is not None
    process = await asyncio.create_subprocess_exec(
        *(shell, "-u", "-c", commands),
        cwd=folder,
        env=_environ(),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_S):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


@asynccontextmanager
async def _python(source: str, *, service: ServiceProcess) -> AsyncIterator[asyncio.subprocess.Process]:
    """
    *source* as a running program.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", source.replace(SERVED_AT, service.url)), cwd=service.database.parent, env=_environ()
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
