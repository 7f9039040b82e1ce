"""How late delayed runs start: on an idle worker, and on one that drains 10,000 other runs a second meanwhile.

Beside a session that sleeps until each instant in the server.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from scheduler.bench import load
from scheduler.bench.bench import Bench
from scheduler.bench.connection import Connection, value
from scheduler.bench.processes import peak_memory, workers
from scheduler.bench.results import percentile
from scheduler.bench.stamps import Stamps
from scheduler.bench.statements import statement

_RATE = 100  # delayed runs per second
_AHEAD = 3.0  # seconds from the insert to the first of them: longer than a worker looks ahead
_LOAD = 10_000  # other runs per second, inserted in batches
_BATCHES = 20  # of them per second
_LOOKS = 50  # at the database's clock
_SHARES = {"p50": 0.50, "p99": 0.99}


def measure(bench: Bench) -> None:
    for words in bench.repetitions("delayed"):
        with bench.bars.step(f"{words}: pg_sleep", 100) as advance:
            lowest = slept(bench.conn, advance)
        for name, load_rate in (("idle", 0), ("loaded", _LOAD)):
            title = "idle" if not load_rate else f"under a drain of {load_rate:,} runs/s"
            with bench.bars.step(f"{words}: {title}"):
                late, memory, drained = _started(bench, load_rate)
            for of, share in _SHARES.items():
                bench.results.add(
                    f"delayed.{name}.{of}",
                    f"lateness of delayed runs, {title}, {of}",
                    "ms",
                    percentile(late, share),
                    floor=percentile(lowest, share),
                    memory=memory,
                    details={
                        "runs": len(late),
                        "earliest_ms": min(late),
                        "latest_ms": max(late),
                        "other_runs_per_second": drained,
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


def _started(bench: Bench, load_rate: int) -> tuple[list[float], float | None, float]:
    """Milliseconds from run_at to each start; the worker's memory; other runs that ended a second."""
    seconds, options = bench.options.seconds, bench.options
    app = bench.app("delayed")
    stamps = Stamps(bench.folder / app)
    count = max(1, round(seconds * _RATE))
    env = {"WALCLOCK_BENCH_STAMPS": str(stamps.path)}
    with workers(bench, app, 1, concurrency=options.concurrency, env=env) as started:
        first = float(value(bench.conn, "now")) + _AHEAD
        bench.conn.execute(statement("insert_delayed"), [app, count, first, 1 / _RATE])
        ahead = offset(bench)
        if load_rate:
            _feed(bench, app, load_rate, _AHEAD + seconds)
        found = stamps.wait(count, started[0].check)
        late = [(wall / 1e9 + ahead - first - number / _RATE) * 1e3 for number, (_, wall) in found.items()]
        ended = int(value(bench.conn, "ended_of_task", app, "bench_async"))
        return late, peak_memory(started), ended / (_AHEAD + seconds)


def _feed(bench: Bench, app: str, rate: int, seconds: float) -> None:
    """Insert runs that are due at once, at a steady rate, for so long."""
    begun = time.monotonic()
    with bench.connect() as conn:
        for number in range(int(seconds * _BATCHES)):
            time.sleep(max(0.0, begun + number / _BATCHES - time.monotonic()))
            load.copy(conn, "run", app, load.spec("bench_async"), rate // _BATCHES)
