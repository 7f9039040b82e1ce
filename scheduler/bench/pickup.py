"""From a commit to the start of the task on an idle worker; beside a notification between two plain connections."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from scheduler.bench.bench import Bench
from scheduler.bench.clients import listener
from scheduler.bench.meter import Costs
from scheduler.bench.processes import peak_memory, workers
from scheduler.bench.results import percentile
from scheduler.bench.stamps import Stamps
from scheduler.bench.statements import statement

_EVERY = 0.05  # seconds between two inserts
_WARM_UP = 10  # inserts before those that count: the first ones prepare statements and fill caches
_SLOTS = 20  # the default of `scheduler worker`
_SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


def measure(bench: Bench) -> None:
    for words in bench.repetitions("pickup"):
        count = max(1, round(bench.options.seconds / _EVERY))
        with bench.bars.step(f"{words}: LISTEN and NOTIFY", count + _WARM_UP) as advance:
            lowest = _notifications(bench, count, advance)
        with bench.bars.step(f"{words}: an idle worker", count + _WARM_UP) as advance:
            latencies, memory, costs = _runs(bench, count, advance)
        for name, share in _SHARES.items():
            bench.results.add(
                f"pickup.{name}",
                f"pick-up by an idle worker, {name}",
                "ms",
                percentile(latencies, share),
                floor=percentile(lowest, share),
                memory=memory,
                costs=costs,
                details={"runs": count},
            )


def _notifications(bench: Bench, count: int, advance: Callable[[int], None]) -> list[float]:
    """Milliseconds from sending NOTIFY until the other connection hears it.

    From sending, not from the answer to it: the other side often hears it before the sender hears that it is done.
    """
    stamps = Stamps(bench.folder / "notifications")
    sent: dict[int, int] = {}
    with listener(bench, str(stamps.path)), bench.connect() as conn:
        for number in _paced(count + _WARM_UP, advance):
            sent[number] = time.monotonic_ns()
            conn.execute(statement("notify"), [str(number)], prepare=True)
        return _latencies(sent, stamps.wait(len(sent)))


def _runs(bench: Bench, count: int, advance: Callable[[int], None]) -> tuple[list[float], float | None, Costs]:
    """Milliseconds from the answer to an insert's commit until its task starts; the worker's memory; costs of a run."""
    app = bench.app("pickup")
    stamps = Stamps(bench.folder / app)
    committed: dict[int, int] = {}
    env = {"WALCLOCK_BENCH_STAMPS": str(stamps.path)}
    with workers(bench, app, 1, concurrency=_SLOTS, env=env) as started, bench.connect() as conn:
        before = bench.meter.read()
        for number in _paced(count + _WARM_UP, advance):
            spec = f'{{"task": "bench_stamp", "args": {{"number": {number}}}}}'
            conn.execute(statement("insert"), [app, spec], prepare=True)
            committed[number] = time.monotonic_ns()
        found = stamps.wait(len(committed), started[0].check)
        return _latencies(committed, found), peak_memory(started), bench.meter.since(before).per(len(committed))


def _paced(count: int, advance: Callable[[int], None]) -> Iterator[int]:
    started = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, started + number * _EVERY - time.monotonic()))
        yield number
        advance(1)


def _latencies(since: dict[int, int], stamped: dict[int, tuple[int, int]]) -> list[float]:
    return [(stamped[number][0] - began) / 1e6 for number, began in since.items() if number >= _WARM_UP]
