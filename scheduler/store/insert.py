"""Runs that come as JSON or as COPY data: inserted as any SQL client would, many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString

from psycopg import AsyncConnection

Connection = AsyncConnection[Any]

COPIED = (
    "app", "queue", "executor", "run_at", "spec", "priority", "max_attempts", "timeout", "unique_key", "tags",
    "concurrency_key", "concurrency_limit",
)  # fmt: skip
"""The columns of a line of COPY data, in this order."""

_GIVEN: LiteralString = """
    json_to_recordset(%s::json) as g (
        app text, executor text, spec jsonb, queue text, run_at timestamptz, delay float8, priority integer,
        unique_key text, max_attempts integer, timeout float8, tags text[], concurrency_key text,
        concurrency_limit integer
    )
"""
# Handed over as one JSON text, of which Python knows no part: as arrays, thirteen for each statement, it took 30 us a run.
_INSERT: LiteralString = (
    """
    insert into scheduler.run (
        app, executor, spec, queue, run_at, priority, unique_key, max_attempts, timeout, tags, concurrency_key,
        concurrency_limit
    )
    select g.app, g.executor, coalesce(g.spec, '{}'), coalesce(g.queue, 'default'),
        coalesce(g.run_at, scheduler.clock() + coalesce(g.delay, 0) * interval '1 second'), coalesce(g.priority, 0),
        g.unique_key, coalesce(g.max_attempts, 3), g.timeout * interval '1 second', g.tags, g.concurrency_key,
        g.concurrency_limit
    from """
    + _GIVEN
    + " returning id"
)
# The other run's id was never of this session's making: each call of enqueue draws a number first.
_ENQUEUE: LiteralString = (
    "select e.id, e.id = currval('scheduler.run_id') from "
    + _GIVEN
    + """
    cross join lateral scheduler.enqueue(
        app => g.app, executor => g.executor, spec => coalesce(g.spec, '{}'), queue => coalesce(g.queue, 'default'),
        run_at => coalesce(g.run_at, scheduler.clock() + coalesce(g.delay, 0) * interval '1 second'),
        priority => coalesce(g.priority, 0), unique_key => g.unique_key, max_attempts => coalesce(g.max_attempts, 3),
        timeout => g.timeout * interval '1 second', tags => g.tags, concurrency_key => g.concurrency_key,
        concurrency_limit => g.concurrency_limit
    ) as e (id)
"""
)
_COPY: LiteralString = """
    copy scheduler.run (
        app, queue, executor, run_at, spec, priority, max_attempts, timeout, unique_key, tags, concurrency_key,
        concurrency_limit
    ) from stdin
"""


async def insert_runs(conn: Connection, rows: Sequence[bytes]) -> list[int]:
    """The ids of runs given as JSON objects, in their order. UniqueViolation when a unique key is taken."""
    cursor = await conn.execute(_INSERT, (_array(rows),), prepare=True)
    return [row[0] for row in await cursor.fetchall()]


async def enqueue_row(conn: Connection, row: bytes) -> tuple[int, bool]:
    """The id of a run given as a JSON object, or False and that of the one which has its unique key."""
    cursor = await conn.execute(_ENQUEUE, (_array([row]),), prepare=True)
    return (await cursor.fetchall())[0]


async def copy_runs(conn: Connection, lines: bytes) -> None:
    """Inserts lines of COPY data, with the columns COPIED."""
    async with conn.cursor() as cursor, cursor.copy(_COPY) as copy:
        await copy.write(lines)


async def clock(conn: Connection) -> datetime:
    """The database's time."""
    now: datetime = (await (await conn.execute("select scheduler.clock()")).fetchall())[0][0]
    return now


def _array(rows: Sequence[bytes]) -> str:
    return "[" + b",".join(rows).decode() + "]"
