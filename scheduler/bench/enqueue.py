"""Inserts, one to a transaction from one client and from many, and COPY; beside the same into a bare table."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from scheduler.bench import floor, load
from scheduler.bench.bench import Bench
from scheduler.bench.clients import inserters
from scheduler.bench.connection import Connection, value
from scheduler.bench.meter import Costs
from scheduler.bench.processes import Process, workers
from scheduler.bench.statements import statement

_SPEC = load.spec("bench_async")
_LONG = '{"task": "bench_sleep", "args": {"seconds": 3600}}'
_SLICES = 4  # of the seconds, each: what else the machine does meanwhile then meets both alike


@dataclass(slots=True)
class _Inserted:
    commits: int = 0
    seconds: float = 0.0

    def add(self, commits: int, seconds: float) -> None:
        self.commits += commits
        self.seconds += seconds

    @property
    def rate(self) -> float:
        return self.commits / self.seconds


def measure(bench: Bench) -> None:
    with floor.tables(bench) as scratch:
        for words in bench.repetitions("enqueue"):
            _copy(bench, scratch, words)
            for count in dict.fromkeys((1, bench.options.clients)):
                _one_by_one(bench, scratch, words, count)


def _copy(bench: Bench, scratch: Connection, words: str) -> None:
    runs = bench.options.runs
    with bench.bars.step(f"{words}: COPY", 2 * runs) as advance:
        floor.empty(scratch)
        bench.checkpoint()
        lowest = runs / _timed(lambda: load.copy(scratch, "scratch_run", bench.mark, _SPEC, runs, advance=advance))
        app = bench.app("copy")
        before = bench.meter.read()
        rate = runs / _timed(lambda: load.copy(bench.conn, "run", app, _SPEC, runs, advance=advance))
        costs = bench.meter.since(before).per(runs)
    bench.results.add(
        "enqueue.copy", "enqueue, COPY", "runs/s", rate, floor=lowest, costs=costs, details={"runs": runs}
    )


def _one_by_one(bench: Bench, scratch: Connection, words: str, count: int) -> None:
    """The bare table and the product in turn, a slice of time each, by the same connections.

    Asleep: an idle worker, which a notification wakes and which then finds nothing of an executor that it has.
    Awake: a worker whose only slot is taken, so that nobody waits for a notification. Neither takes a run, or its
    execution would be measured instead of the insert.
    """
    of_clients = f"{count} client{'s' if count > 1 else ''}"
    for state in ("asleep", "awake"):
        app = bench.app(state)
        floor.empty(scratch)
        executor = "shell" if state == "asleep" else "python"
        with (
            workers(bench, app, 1, concurrency=1, executor=executor) as started,
            inserters(bench, count, scratch_insert=["floor", _SPEC], insert=[app, _SPEC]) as clients,
        ):
            if state == "awake":
                _occupy(bench, app, started[0])
            bench.checkpoint()
            with bench.bars.step(f"{words}: {of_clients}, workers {state}", 2 * _SLICES) as advance:
                bare, ours = _Inserted(), _Inserted()
                costs = Costs(0, 0)
                for _ in range(_SLICES):
                    bare.add(*clients.insert("scratch_insert", bench.options.seconds / _SLICES))
                    advance(1)
                    before = bench.meter.read()
                    ours.add(*clients.insert("insert", bench.options.seconds / _SLICES))
                    costs += bench.meter.since(before)
                    advance(1)
        bench.results.add(
            f"enqueue.{'one' if count == 1 else 'many'}.{state}",
            f"enqueue, {of_clients}, workers {state}",
            "runs/s",
            ours.rate,
            floor=bare.rate,
            costs=costs.per(ours.commits),
            details={"clients": count, "commits": ours.commits},
        )


def _occupy(bench: Bench, app: str, worker: Process) -> None:
    """Have the worker of the app begin a run that does not end."""
    bench.conn.execute(statement("insert"), [app, _LONG])
    while not value(bench.conn, "lease_is_there", app):
        worker.check()
        time.sleep(0.01)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
