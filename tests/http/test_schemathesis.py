from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from tests.process import running_process, token

if TYPE_CHECKING:
    from jobsvc.domain.words import Role

CONFIG: Final = Path(__file__).with_name("schemathesis.toml")
ROOT: Final = Path(__file__).parents[2]
SEED: Final = 20_261_124
EXAMPLES: Final[dict[Role, int]] = {"operator": 12, "guest": 6, "worker": 6, "service": 4}
"""
How many requests are made of each operation in each phase, by who makes them: who may do most, most.
"""
PHASES: Final = "examples,fuzzing,stateful"
"""
Of everybody. The operator, who gets furthest, also goes through every bound of every parameter (coverage).
"""
PATIENCE_S: Final = 100.0


@pytest.mark.process
@pytest.mark.parametrize("role", EXAMPLES)
async def test_every_answer_is_one_that_the_document_names(tmp_path: Path, role: Role) -> None:
    """
    Requests made from the document, valid and not, alone and in chains along its links: no answer is a 5xx, has a
    status, type, header or body that the document does not name, or takes what the document says is refused.
    """
    async with running_process(tmp_path / "jobs.db", environ={"JOBSVC_GUESTS_PER_MINUTE_MAX": "100000"}) as service:
        await _create_work(service.url)

        code, output = await _schemathesis(service.url, role=role, folder=tmp_path)

    assert 0 == code, output[-20_000:]
    assert "Stateful" in output


async def _create_work(url: str) -> None:
    """
    Jobs are there that a worker may claim, and others that an operator sees.
    """
    headers = {"Authorization": f"Bearer {token('operator')}"}
    jobs = [{"kind": "x-post", "key": f"k{number}", "owner": "guest:guest"} for number in range(200)]
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/api/jobs/batch", json={"jobs": jobs}, headers=headers) as answer,
    ):
        assert 200 == answer.status


async def _schemathesis(url: str, *, role: Role, folder: Path) -> tuple[int | None, str]:
    """
    Its exit code and all that it printed; what it remembers from run to run stays in *folder*.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{url}/openapi.json"),
        *("--header", f"Authorization: Bearer {token(role)}", "--seed", str(SEED), "--max-examples"),
        *(str(EXAMPLES[role]), "--phases", f"{PHASES},coverage" if role == "operator" else PHASES),
        *("--continue-on-failure", "--no-color", "--generation-database", "none"),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode()
