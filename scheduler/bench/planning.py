"""Many jobs that fire at one second; and a server with many definitions in mind, of which some fire each second."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from scheduler.bench import floor, proc
from scheduler.bench.bench import Bench
from scheduler.bench.connection import value
from scheduler.bench.delayed import slept
from scheduler.bench.meter import Costs
from scheduler.bench.processes import Process, peak_memory, server, workers
from scheduler.bench.results import percentile
from scheduler.bench.statements import statement
from scheduler.config import Settings
from scheduler.errors import SchedulerError

_CHUNK = 10_000  # definitions to a statement
_DEFINED = 2_000  # definitions a second that are written and looked at for the first time, on a slow machine
_START = 5.0  # seconds for the processes
_PATIENCE = 60.0  # seconds without any progress
_SHARES = {"p50": 0.50, "p99": 0.99}


def measure(bench: Bench) -> None:
    with floor.tables(bench) as scratch:
        for words in bench.repetitions("planning"):
            options = bench.options
            with bench.bars.step(f"{words}: plain SQL"):
                moved = floor.drain(scratch, options.jobs, options.batch)
                sleeps = slept(bench.conn, lambda _: None)
            with bench.bars.step(f"{words}: {options.jobs:,} jobs at one second", options.jobs) as advance:
                late, memory, costs = _at_one_second(bench, advance)
            for name, share in _SHARES.items():
                bench.results.add(
                    f"planning.instant.{name}",
                    f"lateness of {options.jobs:,} jobs that fire at one second, {name}",
                    "ms",
                    percentile(late, share),
                    floor=next(seconds for rows, seconds in moved if rows >= share * options.jobs) * 1e3,
                    memory=memory,
                    costs=costs,
                    details={"jobs": options.jobs},
                )
            bench.forget()
            with bench.bars.step(f"{words}: {options.definitions:,} definitions", options.definitions) as advance:
                late, memory, busy = _many_definitions(bench, advance)
            of = f"{options.definitions:,} definitions, {options.due} due a second"
            sizes = {"definitions": options.definitions, "due_per_second": options.due, "fired": len(late)}
            if busy is not None:
                bench.results.add("planning.definitions.cpu", f"server CPU, {of}", "% of a core", busy, details=sizes)
            for name, share in _SHARES.items():
                bench.results.add(
                    f"planning.definitions.{name}",
                    f"lateness, {of}, {name}",
                    "ms",
                    percentile(late, share),
                    floor=percentile(sleeps, share),
                    memory=memory,
                    details=sizes,
                )


def wait_until_read(bench: Bench, app: str, started: Process) -> None:
    """Until the server has looked at each definition of an app for the first time."""
    left, since = None, time.monotonic()
    while (now := int(value(bench.conn, "jobs_unread", app))) > 0:
        started.check()
        if now != left:
            left, since = now, time.monotonic()
        elif time.monotonic() - since > _PATIENCE:
            raise SchedulerError(f"the server does not get to {now} of the definitions")
        time.sleep(0.1)


def _at_one_second(bench: Bench, advance: Callable[[int], None]) -> tuple[list[float], float | None, Costs]:
    """Milliseconds from the instant to the start of each job; the worker's memory; the costs of a job's run.

    The instant lies far enough ahead for the definitions to be written and read, as those of a running system are.
    """
    jobs = bench.options.jobs
    app = bench.app("instant")
    with (
        server(bench),
        workers(bench, app, 1, concurrency=bench.options.concurrency) as started,
    ):
        lead = _START + Settings.from_env().plan_ahead + jobs / _DEFINED
        instant = datetime.fromtimestamp(int(float(value(bench.conn, "now")) + lead), UTC)
        schedule = f"{instant:%S %M %H %d %m} *"
        for done in range(0, jobs, _CHUNK):
            rows = min(_CHUNK, jobs - done)
            bench.conn.execute(statement("insert_jobs"), [app, schedule, done, rows])
            advance(rows)
        before = bench.meter.read()
        _wait_until_ended(bench, app, jobs, instant.timestamp(), started[0])
        memory, costs = peak_memory(started), bench.meter.since(before).per(jobs)
    _refuse_wrong(bench, app, jobs)
    return _late(bench, app, instant.timestamp(), instant.timestamp() + 1), memory, costs


def _wait_until_ended(bench: Bench, app: str, jobs: int, instant: float, started: Process) -> None:
    time.sleep(max(0.0, instant - float(value(bench.conn, "now"))))
    ended, since = 0, time.monotonic()
    while ended < jobs:
        started.check()
        # Counting 100,000 ends ten times a second took 5 % of two cores from those who make them.
        while value(bench.conn, "due_is_there", app) and time.monotonic() - since < _PATIENCE:
            started.check()
            time.sleep(0.1)
        now = int(value(bench.conn, "ended", app))
        if now > ended:
            ended, since = now, time.monotonic()
        elif time.monotonic() - since > _PATIENCE:
            raise SchedulerError(f"{ended} of {jobs} jobs have run, and no more for {_PATIENCE:g} s")
        time.sleep(0.1)


def _refuse_wrong(bench: Bench, app: str, jobs: int) -> None:
    """SchedulerError unless each job fired once, by the ledger, and ran once, by the history."""
    fired, ran, twice = bench.conn.execute(statement("fired"), [app]).fetchone() or (0, 0, 0)
    if (fired, ran, twice) != (jobs, jobs, 0):
        raise SchedulerError(f"of {jobs} jobs {fired} fired and {ran} ran, {twice} of them more than once")


def _many_definitions(bench: Bench, advance: Callable[[int], None]) -> tuple[list[float], float | None, float | None]:
    """Milliseconds of lateness; the worker's memory; the server's CPU in percent of a core."""
    options = bench.options
    app = bench.app("definitions")
    period = max(1, -(-options.definitions // options.due))
    ahead = Settings.from_env().plan_ahead
    with server(bench) as planning, workers(bench, app, 1, concurrency=options.concurrency) as started:
        # They begin to fire in the order of their number when all were read: `due` of them each second from then on.
        begin = int(float(value(bench.conn, "now")) + _START + ahead + options.definitions / _DEFINED)
        for done in range(0, options.definitions, _CHUNK):
            rows = min(_CHUNK, options.definitions - done)
            parameters = [app, f"@every {period}s", done, rows, begin - period, options.due]
            bench.conn.execute(statement("insert_periodic_jobs"), parameters)
            advance(rows)
        wait_until_read(bench, app, planning)
        # Measured once the steady state is there: what falls due later was planned by a server without arrears.
        begin = max(begin, int(float(value(bench.conn, "now")) + ahead) + 1)
        time.sleep(max(0.0, begin - float(value(bench.conn, "now"))))
        before, since = proc.cpu_exactly(planning.pid), time.monotonic()
        time.sleep(options.seconds)
        after, passed = proc.cpu_exactly(planning.pid), time.monotonic() - since
        memory = peak_memory(started)
        time.sleep(1)  # for the last reports
    busy = None if before is None or after is None else (after - before) / passed * 100
    return _late(bench, app, begin, begin + options.seconds), memory, busy


def _late(bench: Bench, app: str, begin: float, end: float) -> list[float]:
    """Milliseconds from each instant in between to the start of its run."""
    late = [float(row[0]) * 1e3 for row in bench.conn.execute(statement("late"), [app, begin, end])]
    if not late:
        raise SchedulerError(f"no job of app {app} ran")
    return late
