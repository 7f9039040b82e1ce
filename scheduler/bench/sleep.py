"""Runs of one millisecond, 200 at a time; beside 200 coroutines that sleep for one in a loop, without a database."""

from __future__ import annotations

import asyncio
import time
from importlib.util import find_spec

from scheduler.bench.bench import Bench
from scheduler.bench.drain import drain

_AT_A_TIME = 200
_SECONDS = 0.001
_SPEC = f'{{"task": "bench_sleep", "args": {{"seconds": {_SECONDS}}}}}'


def measure(bench: Bench) -> None:
    for words in bench.repetitions("sleep"):
        with bench.bars.step(f"{words}: coroutines without a database"):
            lowest = _coroutines(bench.options.seconds)
        with bench.bars.step(f"{words}: runs of 1 ms"):
            drained = drain(bench, spec=_SPEC, runs=bench.options.runs, count=1, concurrency=_AT_A_TIME)
        bench.results.add(
            "sleep",
            f"runs of 1 ms, {_AT_A_TIME} at a time",
            "runs/s",
            drained.rate,
            floor=lowest,
            memory=drained.memory,
            costs=drained.costs,
            details={"runs": bench.options.runs},
        )


def _coroutines(seconds: float) -> float:
    """Sleeps per second, on the event loop that a worker has."""
    factory = None
    if find_spec("uvloop") is not None:
        import uvloop  # noqa: PLC0415  an extra

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_slept(seconds))


async def _slept(seconds: float) -> float:
    started = time.perf_counter()
    until = started + seconds

    async def loop() -> int:
        count = 0
        while time.perf_counter() < until:
            await asyncio.sleep(_SECONDS)
            count += 1
        return count

    counts = await asyncio.gather(*(loop() for _ in range(_AT_A_TIME)))
    return sum(counts) / (time.perf_counter() - started)
