"""What people ask of the scheduler: one function per SQL function, of the same name, and the definition of a job."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any, LiteralString

from psycopg import AsyncConnection

from scheduler.model import NewJob, NewRun

Connection = AsyncConnection[Any]

ENQUEUE: LiteralString = """
    select scheduler.enqueue(
        app => %(app)s::text, executor => %(executor)s::text, spec => %(spec)s::jsonb, queue => %(queue)s::text,
        run_at => %(run_at)s::timestamptz, priority => %(priority)s::smallint, unique_key => %(unique_key)s::text,
        max_attempts => %(max_attempts)s::smallint, timeout => %(timeout)s::interval, tags => %(tags)s::text[],
        concurrency_key => %(concurrency_key)s::text, concurrency_limit => %(concurrency_limit)s::integer,
        traceparent => %(traceparent)s::text
    )
"""
_ADD_JOB: LiteralString = """
    insert into scheduler.job as j (
        app, name, schedule, timezone, executor, spec, queue, priority, max_attempts, timeout, retry_delay,
        retry_max_delay, overlap, misfire, misfire_grace, misfire_limit, dst_gap, dst_fold, jitter, starts_at, ends_at,
        paused_at, tags, concurrency_key, concurrency_limit
    ) values (
        %(app)s, %(name)s, %(schedule)s, %(timezone)s, %(executor)s, %(spec)s::jsonb, %(queue)s, %(priority)s,
        %(max_attempts)s, %(timeout)s, %(retry_delay)s, %(retry_max_delay)s, %(overlap)s, %(misfire)s,
        %(misfire_grace)s, %(misfire_limit)s, %(dst_gap)s, %(dst_fold)s, %(jitter)s, %(starts_at)s, %(ends_at)s,
        case when %(paused)s then scheduler.clock() end, %(tags)s::text[], %(concurrency_key)s, %(concurrency_limit)s
    )
"""
_UNLESS_THERE: LiteralString = " on conflict (app, name) do nothing"
# A definition that is replaced stays paused: nobody asked for it to start.
_INSTEAD: LiteralString = """
    on conflict (app, name) do update set
        schedule = excluded.schedule, timezone = excluded.timezone, executor = excluded.executor, spec = excluded.spec,
        queue = excluded.queue, priority = excluded.priority, max_attempts = excluded.max_attempts,
        timeout = excluded.timeout, retry_delay = excluded.retry_delay, retry_max_delay = excluded.retry_max_delay,
        overlap = excluded.overlap, misfire = excluded.misfire, misfire_grace = excluded.misfire_grace,
        misfire_limit = excluded.misfire_limit, dst_gap = excluded.dst_gap, dst_fold = excluded.dst_fold,
        jitter = excluded.jitter, starts_at = excluded.starts_at, ends_at = excluded.ends_at, tags = excluded.tags,
        concurrency_key = excluded.concurrency_key, concurrency_limit = excluded.concurrency_limit,
        paused_at = coalesce(j.paused_at, excluded.paused_at), updated_at = scheduler.clock()
"""


def enqueue_parameters(run: NewRun) -> dict[str, Any]:
    """The parameters of ENQUEUE."""
    return {**asdict(run), "tags": None if run.tags is None else list(run.tags)}


async def enqueue(conn: Connection, run: NewRun) -> int:
    """The id of the run, or of the pending or running one that has its unique key."""
    return int(await _answer(conn, ENQUEUE, enqueue_parameters(run)))


async def add_job(conn: Connection, job: NewJob, *, replace: bool = False) -> bool:
    """Adds a definition, or with `replace` overwrites one of that name. False: it is there and was left alone."""
    query = _ADD_JOB + (_INSTEAD if replace else _UNLESS_THERE)
    cursor = await conn.execute(query, {**asdict(job), "tags": list(job.tags)})
    return cursor.rowcount == 1


async def lock_job(conn: Connection, app: str, name: str) -> bool:
    """Nobody else edits or removes it until this transaction ends. False: there is none."""
    query: LiteralString = "select from scheduler.job j where j.app = %(app)s and j.name = %(name)s for update"
    return (await conn.execute(query, {"app": app, "name": name})).rowcount == 1


async def cancel(conn: Connection, app: str, run: int) -> bool:
    """False: there is no such run, or it has ended."""
    return bool(await _answer(conn, "select scheduler.cancel(%(app)s, %(run)s)", {"app": app, "run": run}))


async def retry(conn: Connection, app: str, run: int) -> int:
    """The id of the new run. ConflictError when the old one has not ended, NotFoundError when there is none."""
    return int(await _answer(conn, "select scheduler.retry(%(app)s, %(run)s)", {"app": app, "run": run}))


async def trigger(conn: Connection, app: str, job: str, spec: str | None = None) -> int:
    """The id of the run; `spec` is JSON text to be laid over the job's. NotFoundError."""
    query: LiteralString = "select scheduler.trigger(%(app)s, %(job)s, %(spec)s::jsonb)"
    return int(await _answer(conn, query, {"app": app, "job": job, "spec": spec}))


async def pause(conn: Connection, app: str, job: str | None = None) -> bool:
    """Of a job, or of the whole app. False: it was paused already. NotFoundError for an unknown job."""
    return bool(await _answer(conn, "select scheduler.pause(%(app)s, %(job)s)", {"app": app, "job": job}))


async def resume(conn: Connection, app: str, job: str | None = None) -> bool:
    """False: it was not paused. NotFoundError for an unknown job."""
    return bool(await _answer(conn, "select scheduler.resume(%(app)s, %(job)s)", {"app": app, "job": job}))


async def limit_queue(
    conn: Connection,
    app: str,
    queue: str,
    *,
    concurrency_limit: int | None,
    rate_limit: int | None,
    rate_interval: timedelta | None,
) -> None:
    """What a queue is allowed from now on, as its whole; None: no limit of that kind."""
    await conn.execute(
        "select scheduler.limit_queue(%s::text, %s::text, %s::integer, %s::integer, %s::interval)",
        (app, queue, concurrency_limit, rate_limit, rate_interval),
    )


async def remove_job(conn: Connection, app: str, job: str) -> None:
    """NotFoundError for an unknown job."""
    await conn.execute("select scheduler.remove_job(%(app)s, %(job)s)", {"app": app, "job": job})


async def _answer(conn: Connection, query: LiteralString, parameters: dict[str, Any]) -> Any:
    row = await (await conn.execute(query, parameters)).fetchone()
    return row[0] if row else None  # a select of one function always has a row
