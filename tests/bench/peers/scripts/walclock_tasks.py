"""What `scheduler worker --import` loads: the task, behind the same starting gate as every other worker."""

from __future__ import annotations

import os

from tests.bench.peers.scripts.protocol import ready
from worker import task

recorder = ready(os.environ["BENCH_MODE"], int(os.environ["BENCH_COUNT"]))


@task
async def t(i: int, k: str) -> None:
    recorder.hit(i)
