"""
A worker program that is killed: ``python -m tests.system.dying_worker URL TOKEN SEED`` works until it dies.

Its leases are as short as they may be, and it is at work on several jobs at any moment.
"""

from __future__ import annotations

import asyncio
import sys
from random import Random

from jobsvc.worker import JobFailed, Work, Worker


def work_until_killed(url: str, token: str, seed: str) -> None:
    """
    Jobs of the kind ``work`` are done, most of them well.
    """
    chance = Random(seed)
    worker = Worker(url, token=token, name=f"w{seed}", concurrency=4, lease_s=1, progress_s=0.05)

    @worker.handles("work")
    async def do(work: Work) -> dict[str, int]:
        for step in range(chance.randrange(6)):
            work.progress(20 * step)
            await asyncio.sleep(chance.uniform(0, 0.1))
        if chance.random() < 0.1:
            raise JobFailed("it broke", retry_after_s=0.1)
        return {"attempt": work.job.attempt}

    worker.main()


if __name__ == "__main__":
    work_until_killed(*sys.argv[1:4])
