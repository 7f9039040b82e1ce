"""How late delayed runs start: on an idle worker, and on one that drains 10,000 other runs a second meanwhile.

Beside a session that sleeps until each instant in the server.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from scheduler.bench import load
from scheduler.bench.bench import Bench
from scheduler.bench.connection import Connection, value
from scheduler.bench.meter import Costs
from scheduler.bench.processes import Process, peak_memory, workers
from scheduler.bench.results import percentile
from scheduler.bench.stamps import Stamps
from scheduler.bench.statements import statement

_RATE = 100  # delayed runs per second
_AHEAD = 3.0  # seconds from the insert to the first of them: longer than a worker looks ahead
_LOAD = 10_000  # other runs per second, inserted in batches
_BATCHES = 20  # of them per second
_LOOKS = 50  # at the database's clock
_SHARES = {"p50": 0.50, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class _Started:
    late: list[float]  # milliseconds from run_at to the start of each delayed run
    drained: float  # other runs that ended, per second
    memory: float | None  # bytes, of the worker
    costs: Costs  # of a run, delayed or not


def measure(bench: Bench) -> None:
    for words in bench.repetitions("delayed"):
        with bench.bars.step(f"{words}: pg_sleep", 100) as advance:
            lowest = slept(bench.conn, advance)
        for name, load_rate in (("idle", 0), ("loaded", _LOAD)):
            title = "idle" if not load_rate else f"under a drain of {load_rate:,} runs/s"
            with bench.bars.step(f"{words}: {title}"):
                measured = _started(bench, load_rate)
            for of, share in _SHARES.items():
                bench.results.add(
                    f"delayed.{name}.{of}",
                    f"lateness of delayed runs, {title}, {of}",
                    "ms",
                    percentile(measured.late, share),
                    floor=percentile(lowest, share),
                    memory=measured.memory,
                    costs=measured.costs,
                    details={
                        "runs": len(measured.late),
                        "earliest_ms": min(measured.late),
                        "latest_ms": max(measured.late),
                        "other_runs_per_second": measured.drained,
                    },
                )


def slept(conn: Connection, advance: Callable[[int], None], count: int = 100) -> list[float]:
    """Milliseconds that a session is late which sleeps in the server until each of some instants, 10 ms apart."""
    begun = float(value(conn, "now")) + 0.02
    late: list[float] = []
    for number in range(count):
        late.append(float(value(conn, "sleep_until", begun + number * 0.01)) * 1e3)
        advance(1)
    return late


def offset(bench: Bench) -> float:
    """Seconds that the database's clock is ahead of this machine's; none when they are the same.

    Else as the quickest of some looks says, whose round trip bounds the error.
    """
    if bench.meter.is_local:
        return 0.0
    looks = []
    for _ in range(_LOOKS):
        sent = time.time()
        now = float(value(bench.conn, "now"))
        received = time.time()
        looks.append((received - sent, now - (sent + received) / 2))
    return min(looks)[1]


def _started(bench: Bench, load_rate: int) -> _Started:
    seconds, options = bench.options.seconds, bench.options
    app = bench.app("delayed")
    stamps = Stamps(bench.folder / app)
    count = max(1, round(seconds * _RATE))
    env = {"WALCLOCK_BENCH_STAMPS": str(stamps.path)}
    with workers(bench, app, 1, concurrency=options.concurrency, env=env) as started:
        before = bench.meter.read()
        first = float(value(bench.conn, "now")) + _AHEAD
        bench.conn.execute(statement("insert_delayed"), [app, count, first, 1 / _RATE])
        ahead = offset(bench)
        _feed(bench, app, load_rate, _AHEAD + seconds, started[0])
        found = stamps.wait(count, started[0].check)
        late = [(wall / 1e9 + ahead - first - number / _RATE) * 1e3 for number, (_, wall) in found.items()]
        ended = int(value(bench.conn, "ended_of_task", app, "bench_async"))
        costs = bench.meter.since(before).per(count + ended)
        return _Started(late, ended / (_AHEAD + seconds), peak_memory(started), costs)


def _feed(bench: Bench, app: str, rate: int, seconds: float, worker: Process) -> None:
    """For so long, insert runs that are due at once, at a steady rate, which may be none."""
    begun = time.monotonic()
    with bench.connect() as conn:
        for number in range(int(seconds * _BATCHES)):
            time.sleep(max(0.0, begun + number / _BATCHES - time.monotonic()))
            worker.check()
            if rate:
                load.copy(conn, "run", app, load.spec("bench_async"), rate // _BATCHES)
