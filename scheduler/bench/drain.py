"""A full queue, emptied by workers; beside a loop of one statement that moves the same rows into a history."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from scheduler.bench import floor, load
from scheduler.bench.bench import Bench
from scheduler.bench.connection import value
from scheduler.bench.meter import Costs
from scheduler.bench.processes import Process, peak_memory, workers
from scheduler.bench.statements import statement
from scheduler.errors import SchedulerError

_LOOK = 0.01  # seconds between two looks at whether all have ended
_STALLED = 120.0  # seconds without an end


@dataclass(frozen=True, slots=True)
class Kind:
    """How tasks are executed. Slow kinds get a part of the runs, and a worker as many at a time as it can use."""

    name: str
    share: float
    concurrency: int | None  # None: the option's


KINDS = (
    Kind("async", 1.0, None),
    Kind("thread", 0.2, 100),
    Kind("process", 0.02, 4 * (os.cpu_count() or 1)),
)


@dataclass(frozen=True, slots=True)
class Drained:
    rate: float  # runs per second, from the first start until all have ended
    memory: float | None  # bytes, of the largest worker
    costs: Costs


def measure(bench: Bench) -> None:
    options = bench.options
    with floor.tables(bench) as scratch:
        for words in bench.repetitions("drain"):
            with bench.bars.step(f"{words}: plain SQL"):
                bench.checkpoint()
                lowest = floor.drain_rate(scratch, options.runs, options.batch)
            for kind in KINDS:
                for count in dict.fromkeys((1, options.workers)):
                    with bench.bars.step(f"{words}: {kind.name} tasks, {_of(count)}"):
                        _measure(bench, kind, count, lowest)


def _measure(bench: Bench, kind: Kind, count: int, lowest: float) -> None:
    runs = max(1, int(bench.options.runs * kind.share))
    drained = drain(
        bench,
        spec=load.spec(f"bench_{kind.name}"),
        runs=runs,
        count=count,
        concurrency=kind.concurrency or bench.options.concurrency,
    )
    bench.results.add(
        f"drain.{kind.name}.{'one' if count == 1 else 'many'}",
        f"drain, {kind.name} tasks, {_of(count)}",
        "runs/s",
        drained.rate,
        floor=lowest,
        memory=drained.memory,
        costs=drained.costs,
        details={"runs": runs, "workers": count},
    )


def _of(count: int) -> str:
    return f"{count} worker{'s' if count > 1 else ''}"


def drain(bench: Bench, *, spec: str, runs: int, count: int, concurrency: int) -> Drained:
    """Fill an app's queue and have it emptied by new workers.

    The workers are there before the runs: these become visible at one commit, so that all workers start at once and
    their own start-up is not measured.
    """
    bench.forget()
    app = bench.app("drain")
    bench.checkpoint()
    with workers(bench, app, count, concurrency=concurrency) as started, bench.connect() as filling:
        with filling.transaction():
            load.copy(filling, "run", app, spec, runs)
            filling.execute(statement("analyze_run"))
            before = bench.meter.read()
        ended_at = _all_ended(bench, app, started)
        costs = bench.meter.since(before).per(runs)
        memory = peak_memory(started)
    first, succeeded = bench.conn.execute(statement("drained"), [app]).fetchone() or (None, 0)
    if succeeded != runs:
        raise SchedulerError(f"{succeeded} of {runs} runs of app {app} succeeded")
    return Drained(runs / (ended_at - float(first)), memory, costs)


def _all_ended(bench: Bench, app: str, started: list[Process]) -> float:
    """The database's time when no run of the app was left.

    Leases are looked at again and again, being few; runs only when there is none. Looking for a run that is not there
    reads all that were and are not vacuumed: with a snapshot held open, 500,000 dead rows at every look.
    """
    late = time.monotonic() + _STALLED
    while True:
        if not _is_held(bench, app)[0] and not value(bench.conn, "run_is_there", app):
            is_held, now = _is_held(bench, app)  # once more: between the two looks the last runs may have been claimed
            if not is_held:
                return now
        for one in started:
            one.check()
        if time.monotonic() > late:
            raise SchedulerError(f"the runs of app {app} have not ended within {_STALLED:g} s")
        time.sleep(_LOOK)


def _is_held(bench: Bench, app: str) -> tuple[bool, float]:
    """Whether a worker holds runs of the app, and the database's time."""
    is_held, now = bench.conn.execute(statement("lease_is_there"), [app]).fetchone() or (True, 0.0)
    return bool(is_held), float(now)
