"""The tasks of `scheduler verify`; a worker has them with `--import worker.verify`.

Each writes down what happens, in a file outside the database that no rollback undoes: a line when an attempt begins and
one when it ends, each by one write to a file opened for appending, so that lines of several processes do not mix.
Instants are of the machine's monotonic clock, which all its processes share and nobody can set.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time

from worker.context import Context
from worker.registry import task

RECORD = "WALCLOCK_VERIFY_RECORD"  # the file that is appended to; of this command alone, so no setting

_file: int | None = None


@task(name="verify_effect")
async def effect(ctx: Context, key: str, seconds: float) -> None:
    """Something that takes a while; complete when both its lines are there."""
    note(ctx, "B", key)
    await asyncio.sleep(seconds)
    note(ctx, "E", key)


@task(name="verify_poison")
async def poison(ctx: Context, key: str, seconds: float) -> None:
    """Kills the process that executes it, whichever that is."""
    note(ctx, "B", key)
    await asyncio.sleep(seconds)
    note(ctx, "P", key)
    os.kill(os.getpid(), signal.SIGKILL)


def note(ctx: Context, what: str, key: str) -> None:
    """`what key run attempt fence pid monotonic-nanoseconds scheduled`, the last in seconds since the epoch, or `-`."""
    global _file  # noqa: PLW0603  opened once per process
    if _file is None:
        _file = os.open(os.environ[RECORD], os.O_WRONLY | os.O_APPEND)
    scheduled = "-" if ctx.scheduled_at is None else f"{ctx.scheduled_at.timestamp():.6f}"
    now = time.monotonic_ns()
    os.write(_file, f"{what} {key} {ctx.run_id} {ctx.attempt} {ctx.fence} {os.getpid()} {now} {scheduled}\n".encode())
