"""The tasks that `scheduler bench` measures with; a worker has them with `--import worker.bench`.

Each does as little as its kind allows, so that what is measured is what the product adds.
"""

from __future__ import annotations

import asyncio
import os
import time

from worker.registry import task

STAMPS = "WALCLOCK_BENCH_STAMPS"  # the file that `bench_stamp` appends to; of the benchmark alone, so no setting

_file: int | None = None


@task(name="bench_async")
async def on_the_loop(note: str = "") -> None:
    """Nothing, on the worker's event loop."""


@task(name="bench_thread")
def in_a_thread(note: str = "") -> None:
    """Nothing, in a thread."""


@task(name="bench_process", process=True)
def in_a_process(note: str = "") -> None:
    """Nothing, in a process that could be killed."""


@task(name="bench_sleep")
async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


@task(name="bench_stamp")
async def stamp(number: int) -> None:
    """Writes down when it started, on the machine's monotonic clock and on its wall clock, in nanoseconds.

    One write to a file opened for appending: lines of several workers do not mix.
    """
    monotonic, wall = time.monotonic_ns(), time.time_ns()
    global _file  # noqa: PLW0603  opened once: an open per run would be part of the latency of the next one
    if _file is None:
        _file = os.open(os.environ[STAMPS], os.O_WRONLY | os.O_APPEND)
    os.write(_file, b"%d %d %d\n" % (number, monotonic, wall))
