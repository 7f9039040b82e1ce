"""Claims and a drain out of a large backlog, due and future, in three priorities; beside those out of a small one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from scheduler.bench import load
from scheduler.bench.bench import Bench
from scheduler.bench.connection import value
from scheduler.bench.meter import Costs
from scheduler.bench.processes import peak_memory, workers
from scheduler.bench.results import percentile
from scheduler.bench.statements import statement
from scheduler.errors import SchedulerError

_SPEC = load.spec("bench_async")
_CHUNK = 100_000  # rows to a statement
_BATCH = 100  # runs to a claim
_CLAIMS = 500  # at most
_HEARTBEAT = 1.0  # seconds
_PAST, _FUTURE = -86_400.0, 86_400.0  # seconds from now: where due and future runs begin
_SHARES = {"p50": 0.50, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class _Found:
    claims: list[float]  # milliseconds
    rate: float
    memory: float | None
    costs: Costs  # of a run of the drain
    taken: int


def measure(bench: Bench) -> None:
    size, small = bench.options.backlog, min(bench.options.runs, bench.options.backlog)
    large_app = bench.app("backlog")
    missing = size
    with bench.bars.step(f"backlog: {size:,} future runs", size) as advance:
        _fill(bench, large_app, size, _FUTURE, advance)
    for words in bench.repetitions("backlog", forgetting=False):
        with bench.bars.step(f"{words}: {missing:,} due runs", missing) as advance:
            _fill(bench, large_app, missing, _PAST, advance)
        small_app = bench.app("few")
        with bench.bars.step(f"{words}: {small:,} due runs", small) as advance:
            _fill(bench, small_app, small, _PAST, advance)
        bench.conn.execute(statement("analyze_run"))
        bench.tidy()
        with bench.bars.step(f"{words}: out of {small:,}"):
            few = _look(bench, small_app, small)
        with bench.bars.step(f"{words}: out of {size:,} due and as many future"):
            many = _look(bench, large_app, size)
        missing = many.taken
        of = f"backlog of {size:,}+{size:,}; floor: of {small:,}"
        sizes = {"due": size, "future": size, "few": small}
        bench.results.add(
            "backlog.drain",
            f"drain, {of}",
            "runs/s",
            many.rate,
            floor=few.rate,
            memory=many.memory,
            costs=many.costs,
            details=sizes,
        )
        for name, share in _SHARES.items():
            bench.results.add(
                f"backlog.claim.{name}",
                f"claim of {_BATCH}, {name}, {of}",
                "ms",
                percentile(many.claims, share),
                floor=percentile(few.claims, share),
                details={"claims": len(many.claims), **sizes},
            )
    bench.forget()


def _fill(bench: Bench, app: str, count: int, begin: float, advance: Callable[[int], None]) -> None:
    """Runs of three priorities, a millisecond apart, made by the server."""
    for done in range(0, count, _CHUNK):
        rows = min(_CHUNK, count - done)
        bench.conn.execute(statement("insert_backlog"), [app, _SPEC, rows, begin + done * 0.001])
        advance(rows)


def _look(bench: Bench, app: str, due: int) -> _Found:
    claims = _claims(bench, app, min(_CLAIMS, max(1, due // 2 // _BATCH)))
    before = bench.meter.read()
    with workers(bench, app, 1, concurrency=bench.options.concurrency) as started:
        worker = value(bench.conn, "worker_of", app)
        _while_busy(bench, app, bench.options.seconds)
        memory = peak_memory(started)
    count, seconds = bench.conn.execute(statement("worked"), [app, worker]).fetchone() or (0, None)
    if not count:
        raise SchedulerError(f"the worker ended no run of app {app} in {bench.options.seconds:g} s")
    costs = bench.meter.since(before).per(count)
    return _Found(claims, count / float(seconds), memory, costs, count + len(claims) * _BATCH)


def _while_busy(bench: Bench, app: str, seconds: float) -> None:
    """Wait for so long, or until nothing that is due is left."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and value(bench.conn, "due_is_there", app):
        time.sleep(0.1)


def _claims(bench: Bench, app: str, count: int) -> list[float]:
    """Milliseconds of each claim, made as a worker makes it; what was claimed is finished in between."""
    worker = int(value(bench.conn, "register", bench.label(), app))
    took: list[float] = []
    beaten = time.monotonic()
    with bench.connect() as conn:
        for _ in range(count):
            if time.monotonic() - beaten > _HEARTBEAT:
                conn.execute(statement("heartbeat"), [worker])
                beaten = time.monotonic()
            started = time.perf_counter()
            rows = conn.execute(statement("claim"), [app, worker, _BATCH], prepare=True, binary=True).fetchall()
            took.append((time.perf_counter() - started) * 1e3)
            if len(rows) < _BATCH:
                raise SchedulerError(f"a claim of {_BATCH} runs found {len(rows)}")
            conn.execute(statement("finish"), [app, worker, rows[0][0]], prepare=True)
        conn.execute(statement("retire"), [worker])
    return took
