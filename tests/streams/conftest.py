"""
What the tests of streams under everything that can happen stand on.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_FAST_DISK: Final = Path("/dev/shm")  # noqa: S108  # a folder of its own is made there


@pytest.fixture
def fast_folder(tmp_path: Path) -> Iterator[Path]:
    """
    A folder in memory where the system has such a thing.
    """
    if not _FAST_DISK.is_dir():
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="jobsvc-streams-", dir=_FAST_DISK))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
