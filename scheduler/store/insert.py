"""Runs that come as JSON or as COPY data: inserted as any SQL client would, many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

from psycopg import AsyncConnection

Connection = AsyncConnection[Any]

# One JSON text, put together of what came: Python need not make thirteen arrays of it.
_GIVEN: LiteralString = """
    with g as (
        select g.app, g.executor, coalesce(g.spec, '{}') as spec, coalesce(g.queue, 'default') as queue,
            coalesce(g.run_at, scheduler.clock() + coalesce(g.delay, 0) * interval '1 second') as run_at,
            coalesce(g.priority, 0) as priority, g.unique_key, coalesce(g.max_attempts, 3) as max_attempts,
            g.timeout * interval '1 second' as timeout, g.tags, g.concurrency_key, g.concurrency_limit,
            g.traceparent
        from json_to_recordset(%s::json) as g (
            app text, executor text, spec jsonb, queue text, run_at timestamptz, delay float8, priority integer,
            unique_key text, max_attempts integer, timeout float8, tags text[], concurrency_key text,
            concurrency_limit integer, traceparent text
        )
    )
"""
_INSERT: LiteralString = """
    insert into scheduler.run (
        app, executor, spec, queue, run_at, priority, unique_key, max_attempts, timeout, tags, concurrency_key,
        concurrency_limit, traceparent
    )
    select g.app, g.executor, g.spec, g.queue, g.run_at, g.priority, g.unique_key, g.max_attempts, g.timeout, g.tags,
        g.concurrency_key, g.concurrency_limit, g.traceparent
    from g
    returning id
"""
# Each call of enqueue draws a number first, so one that was there before has another than the last drawn.
_ENQUEUE: LiteralString = """
    select e.id, e.id = currval('scheduler.run_id')
    from g
    cross join lateral scheduler.enqueue(
        app => g.app, executor => g.executor, spec => g.spec, queue => g.queue, run_at => g.run_at,
        priority => g.priority, unique_key => g.unique_key, max_attempts => g.max_attempts, timeout => g.timeout,
        tags => g.tags, concurrency_key => g.concurrency_key, concurrency_limit => g.concurrency_limit,
        traceparent => g.traceparent
    ) as e (id)
"""
COPY: LiteralString = """
    copy scheduler.run (
        app, queue, executor, run_at, spec, priority, max_attempts, timeout, unique_key, tags, concurrency_key,
        concurrency_limit
    ) from stdin
"""
# A column more for every line, so only where all of them have one.
COPY_TRACED: LiteralString = """
    copy scheduler.run (
        app, queue, executor, run_at, spec, priority, max_attempts, timeout, unique_key, tags, concurrency_key,
        concurrency_limit, traceparent
    ) from stdin
"""


async def insert_runs(conn: Connection, rows: Sequence[bytes]) -> list[int]:
    """The ids of runs given as JSON objects, in their order. UniqueViolation when a unique key is taken."""
    cursor = await conn.execute(_GIVEN + _INSERT, (_array(rows),), prepare=True)
    return [row[0] for row in await cursor.fetchall()]


async def enqueue_row(conn: Connection, row: bytes) -> tuple[int, bool]:
    """The id of a run given as a JSON object, or False and that of the one which has its unique key."""
    cursor = await conn.execute(_GIVEN + _ENQUEUE, (_array([row]),), prepare=True)
    ((run, is_new),) = await cursor.fetchall()
    return run, is_new


async def copy_runs(conn: Connection, lines: bytes, *, traced: bool = False) -> None:
    """Inserts lines of COPY data; `traced`: each has a traceparent at its end."""
    async with conn.cursor() as cursor, cursor.copy(COPY_TRACED if traced else COPY) as copy:
        await copy.write(lines)


def _array(rows: Sequence[bytes]) -> str:
    return "[" + b",".join(rows).decode() + "]"
