"""The same work in plain SQL, on tables of the same columns and indexes without triggers, checks and partitions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.sql import SQL, Identifier

from scheduler.bench import load
from scheduler.bench.bench import Bench
from scheduler.bench.connection import Connection, value
from scheduler.bench.statements import statement

_APP = "floor"


@contextmanager
def tables(bench: Bench) -> Iterator[Connection]:
    """A session in which `run` and `history` are empty scratch tables, which go with the block."""
    with bench.connect(scratch=True) as conn:
        schema = Identifier(bench.schema)
        conn.execute(SQL("create schema {}").format(schema).as_bytes())
        for table in ("run", "history"):
            conn.execute(statement(f"scratch_{table}"))
        yield conn
        conn.execute(SQL("drop schema {} cascade").format(schema).as_bytes())


def empty(conn: Connection) -> None:
    conn.execute(statement("scratch_truncate"))


def drain(conn: Connection, runs: int, batch: int) -> list[tuple[int, float]]:
    """Move so many runs into the history, a batch with each statement: how many were moved, and when in seconds."""
    empty(conn)
    load.copy(conn, "scratch_run", _APP, load.spec("bench_async"), runs)
    conn.execute(statement("scratch_analyze"))
    done: list[tuple[int, float]] = []
    started = time.perf_counter()
    moved = 0
    while moved < runs:
        moved += int(value(conn, "scratch_drain", _APP, batch))
        done.append((moved, time.perf_counter() - started))
    return done


def drain_rate(conn: Connection, runs: int, batch: int) -> float:
    """Runs per second of `drain`."""
    moved, seconds = drain(conn, runs, batch)[-1]
    return moved / seconds
