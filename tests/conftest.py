"""
What every test stands on: settings that come from the test alone.

Fixtures that only one folder needs live in that folder.
"""

import os
from typing import Final

OF_TESTS: Final = frozenset({"JOBSVC_CHAOS_SEED"})
"""
Variables that are the tests' own; the service knows none of them.
"""


def pytest_configure() -> None:
    """
    Leave no JOBSVC_* variable of the caller's shell in force, neither here nor in a process that a test starts.
    """
    for name in [name for name in os.environ if name.startswith("JOBSVC_") and name not in OF_TESTS]:
        del os.environ[name]
