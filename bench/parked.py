"""
The service as it is where its hand-over does not work: aiohttp's handler stays with each stream, parked.

Run as ``python -m bench.parked serve …``, as ``python -m jobsvc`` is.
"""

from __future__ import annotations

from jobsvc.cli import main
from jobsvc.http.wire import HandOver


async def _never() -> bool:
    return False


if __name__ == "__main__":
    HandOver.works = staticmethod(_never)  # type: ignore[method-assign]
    main()
