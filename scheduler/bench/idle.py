"""What a server and a worker cost while there is nothing to do. There is no floor to this but nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from scheduler.bench import proc
from scheduler.bench.bench import Bench
from scheduler.bench.connection import value
from scheduler.bench.planning import wait_until_read
from scheduler.bench.processes import Process, server, workers
from scheduler.bench.statements import statement

_SETTLED = 2.0  # seconds: who has just worked looks more often for a while
_FLUSHED = 1.1  # seconds after which a session tells what it did before, with its next statement
_CHUNK = 10_000


def measure(bench: Bench) -> None:
    definitions = bench.options.definitions
    for words in bench.repetitions("idle"):
        app = bench.app("idle")
        # Half a year away: nothing is due, and nothing is planned ahead.
        far = datetime.now(UTC) + timedelta(days=180)
        for done in range(0, definitions, _CHUNK):
            rows = min(_CHUNK, definitions - done)
            bench.conn.execute(statement("insert_jobs"), [app, f"0 {far:%M %H %d %m} *", done, rows])
        for kind in ("server", "worker"):
            with bench.bars.step(f"{words}: a {kind}"), _alone(bench, app, kind) as process:
                time.sleep(_SETTLED)
                value(bench.conn, "transactions")  # with this one we tell what we did until here, and it is not counted
                time.sleep(_FLUSHED)
                _observe(bench, kind, process)


@contextmanager
def _alone(bench: Bench, app: str, kind: str) -> Iterator[Process]:
    """The only process of ours that uses the database, and one that has done all there was to do."""
    if kind == "worker":
        with workers(bench, app, 1, concurrency=20) as started:
            yield started[0]
    else:
        with server(bench) as planning:
            wait_until_read(bench, app, planning)
            yield planning


def _observe(bench: Bench, kind: str, process: Process) -> None:
    of = f"idle {kind}, {bench.options.definitions:,} definitions"
    sizes = {"definitions": bench.options.definitions}
    transactions, before = int(value(bench.conn, "transactions")), proc.cpu_exactly(process.pid)
    since = time.monotonic()
    time.sleep(bench.options.seconds)
    passed = time.monotonic() - since
    after = proc.cpu_exactly(process.pid)
    # Each statement of theirs is a transaction of its own; one is the look above.
    queries = max(0, int(value(bench.conn, "transactions")) - transactions - 1)
    bench.results.add(f"idle.{kind}.queries", f"{of}: queries", "queries/s", queries / passed, details=sizes)
    if before is not None and after is not None:
        percent = (after - before) / passed * 100
        bench.results.add(f"idle.{kind}.cpu", f"{of}: CPU", "% of a core", percent, details=sizes)
    memory = process.peak_memory
    if memory is not None:
        bench.results.add(f"idle.{kind}.memory", f"{of}: memory", "MB", memory / 1e6, memory=memory, details=sizes)
