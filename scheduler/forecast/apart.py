"""A forecast in a process of its own: the month of 10,000 jobs takes 7 s of a core.

A thread would hold Python's lock: whatever else the server does (heartbeats, plans, claims, answers) was 5 ms late at
each step, and up to 48 ms; beside a process it was 0.2 ms, and up to 6. The process is made for one forecast and ends
with it, so nothing of it grows or is left behind; that costs 0.35 s, most of it imports. It is not nice(2) to others:
systemd's unit of a server forbids that.
"""

from __future__ import annotations

import asyncio
import logging
import math
import pickle
import signal
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

import msgspec

from scheduler.forecast.change import Change
from scheduler.forecast.gathered import Gathered
from scheduler.forecast.whole import forecast

log = logging.getLogger(__name__)

TIME_LIMIT = 60.0
"""Seconds. A month of 10,000 jobs, before and after some changes, with 100 peaks each, took 13 s."""
_SLICE = 500
"""Jobs that are packed at a time: a few milliseconds."""


class UnfinishedError(Exception):
    """There is no forecast: it took too long, or the server stops."""


async def forecast_apart(
    gathered: Gathered,
    minutes: int,
    *,
    changes: Sequence[Change] = (),
    peaks: int,
    pulse_below: float,
    ending: asyncio.Event,
) -> bytes:
    """What `forecast` tells, as JSON text. UnfinishedError, also once `ending` is set."""
    limit = TIME_LIMIT
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", __name__, str(math.ceil(limit)),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    stopping = asyncio.ensure_future(ending.wait())
    asking = asyncio.ensure_future(_ask(process, gathered, (minutes, changes, peaks, pulse_below)))
    done: set[asyncio.Future[Any]] = set()
    try:
        done, _ = await asyncio.wait({asking, stopping}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if process.returncode is None:
            process.kill()
        told, said = await asking
    if process.returncode == 0:
        return told
    if ending.is_set():
        raise UnfinishedError("the server stops")
    if not done or process.returncode == -signal.SIGALRM:
        raise UnfinishedError(f"the forecast took longer than {limit:g} s and was given up")
    why = said.decode(errors="replace").strip().rpartition("\n")[2]
    log.error("a forecast ended with status %s: %s", process.returncode, why)
    raise UnfinishedError("the forecast failed; the server's log says more")


async def _ask(process: asyncio.subprocess.Process, gathered: Gathered, what: tuple[Any, ...]) -> tuple[bytes, bytes]:
    slices = [gathered.jobs[place : place + _SLICE] for place in range(0, len(gathered.jobs), _SLICE)]
    packed = [pickle.dumps((len(slices), gathered.now, gathered.workers, *what))]
    for one in slices:
        packed.append(pickle.dumps(one))
        await asyncio.sleep(0)
    return await process.communicate(b"".join(packed))


def _answer(source: BinaryIO) -> bytes:
    """In the process of its own. What it unpacks comes from the server that started it, and from nobody else."""
    count, now, workers, minutes, changes, peaks, pulse_below = pickle.load(source)  # noqa: S301
    jobs = [row for _ in range(count) for row in pickle.load(source)]  # noqa: S301
    told = forecast(Gathered(now, jobs, workers), minutes, changes=changes, peaks=peaks, pulse_below=pulse_below)
    return msgspec.json.encode(told)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the server, which ends this
    signal.alarm(int(sys.argv[1]) + 1)  # and should the server be gone, nobody else would
    sys.stdout.buffer.write(_answer(sys.stdin.buffer))


if __name__ == "__main__":
    main()
