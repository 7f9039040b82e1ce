"""The worker protocol for those who speak it over HTTP: the functions of the same names, with JSON in and out.

Each names the apps that the caller reaches (None: all). A worker that was registered for others, or for all, is not the
caller's: there is no row for it, as for one that never was, and NotFoundError.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString, NamedTuple

from psycopg import AsyncConnection

from scheduler.errors import NotFoundError

Connection = AsyncConnection[Any]
Apps = Sequence[str] | None

# Without the condition that follows each: whose worker it is.
_WORKER: LiteralString = "select w.apps, w.queues, w.executors from scheduler.worker w"
_CLAIM: LiteralString = """
    select (
        select case when count(*) > 0 then json_build_object(
            'app', %(app)s::text, 'queue', %(queue)s::text, 'lease', max(c.lease), 'limited', bool_or(c.limited),
            'runs', json_agg(json_build_object(
                'id', c.id, 'executor', c.executor, 'spec', c.spec, 'attempt', c.attempt, 'run_at', c.run_at,
                'scheduled_at', c.scheduled_at, 'job', c.job, 'timeout', extract(epoch from c.timeout),
                'max_attempts', c.max_attempts, 'lost', c.lost, 'priority', c.priority,
                'traceparent', c.traceparent
            ))
        )::text end
        from scheduler.claim(
            %(app)s, w.id, %(queue)s, %(limit)s, coalesce(%(executors)s::text[], w.executors),
            make_interval(secs => %(horizon)s), %(begin)s
        ) c
    )
    from scheduler.worker w
"""
_BEGIN: LiteralString = "select scheduler.begin(%(app)s, w.id, %(lease)s) from scheduler.worker w"
_HEARTBEAT: LiteralString = """
    select json_build_object('now', h.now, 'cancels', h.cancels)::text
    from scheduler.worker w
    cross join lateral scheduler.heartbeat(w.id) h
"""
_FINISH: LiteralString = """
    select scheduler.finish(
        %(app)s, w.id, %(lease)s, e.runs, e.outcomes, e.results, e.errors, e.started, e.finished, e.retries, e.attempts
    )
    from scheduler.worker w
    cross join (
        select array_agg(g.run) as runs, array_agg(g.outcome) as outcomes, array_agg(g.result) as results,
            array_agg(g.error) as errors, array_agg(g.started_at) as started, array_agg(g.finished_at) as finished,
            array_agg(make_interval(secs => g.retry_after)) as retries, array_agg(g.max_attempts) as attempts
        from json_to_recordset(%(ends)s::json) as g (
            run bigint, outcome text, result jsonb, error text, started_at timestamptz, finished_at timestamptz,
            retry_after float8, max_attempts smallint
        )
    ) e
"""
_RELEASE: LiteralString = (
    "select scheduler.release(%(app)s, w.id, %(lease)s, %(runs)s::bigint[]) from scheduler.worker w"
)
_LEASES: LiteralString = """
    select (
        select coalesce(json_agg(json_build_object('app', l.app, 'lease', l.lease)), '[]')::text
        from scheduler.leases_of(w.id) l
    )
    from scheduler.worker w
"""
_APPEND_LOG: LiteralString = """
    select scheduler.append_log(%(app)s, e.runs, e.attempts, e.lines, e.at, e.streams, e.texts)
    from scheduler.worker w
    cross join (
        select array_agg(g.run) as runs, array_agg(g.attempt) as attempts, array_agg(g.line) as lines,
            array_agg(g.at) as at, array_agg(g.stream) as streams, array_agg(g.text) as texts
        from json_to_recordset(%(lines)s::json) as g (
            run bigint, attempt smallint, line integer, at timestamptz, stream text, text text
        )
    ) e
"""
_RETIRE: LiteralString = "select scheduler.retire_worker(w.id) from scheduler.worker w"
_OF_THE_CALLER: LiteralString = """
    where w.id = %(worker)s and (%(reach)s::text[] is null or w.apps <@ %(reach)s::text[])
"""


class Known(NamedTuple):
    """What a worker was registered for; None: all."""

    apps: list[str] | None
    queues: list[str] | None
    executors: list[str]


async def register_worker(conn: Connection, **given: Any) -> int:
    cursor = await conn.execute(
        "select scheduler.register_worker(%(label)s, %(host)s, %(pid)s, %(apps)s::text[], %(queues)s::text[],"
        " %(executors)s::text[], %(concurrency)s, %(version)s)",
        given,
    )
    return int((await cursor.fetchall())[0][0])


async def worker_of(conn: Connection, reach: Apps, worker: int) -> Known:
    return Known(*await _row(conn, _WORKER, reach, worker))


async def next_due(conn: Connection, apps: Apps, queues: Apps, executors: Apps) -> list[tuple[str, str, float]]:
    """(app, queue, seconds until the earliest run of it may start), the earliest first."""
    cursor = await conn.execute(
        "select d.app, d.queue, extract(epoch from d.due_in)::float8"
        " from scheduler.next_due(%s::text[], %s::text[], %s::text[]) d",
        (apps, queues, executors),
    )
    return await cursor.fetchall()


async def claim(conn: Connection, reach: Apps, worker: int, **given: Any) -> str | None:
    """A lease with its runs as JSON; None when nothing was due."""
    text: str | None = (await _row(conn, _CLAIM, reach, worker, **given))[0]
    return text


async def begin(conn: Connection, reach: Apps, worker: int, app: str, lease: int) -> list[int] | None:
    """The runs that must not be executed any more; None: nothing of the lease may."""
    runs: list[int] | None = (await _row(conn, _BEGIN, reach, worker, app=app, lease=lease))[0]
    return runs


async def heartbeat(conn: Connection, reach: Apps, worker: int) -> str:
    """JSON. LeaseLostError (JS004) when the worker was declared dead."""
    return str((await _row(conn, _HEARTBEAT, reach, worker))[0])


async def finish(conn: Connection, reach: Apps, worker: int, *, app: str, lease: int, ends: str | None) -> int:
    """How many counted. `ends` is a JSON array; None: all that is open in the lease has succeeded."""
    return int((await _row(conn, _FINISH, reach, worker, app=app, lease=lease, ends=ends))[0])


async def release(conn: Connection, reach: Apps, worker: int, *, app: str, lease: int, runs: list[int] | None) -> int:
    return int((await _row(conn, _RELEASE, reach, worker, app=app, lease=lease, runs=runs))[0])


async def leases_of(conn: Connection, reach: Apps, worker: int) -> str:
    """JSON."""
    return str((await _row(conn, _LEASES, reach, worker))[0])


async def append_log(conn: Connection, reach: Apps, worker: int, app: str, lines: str) -> None:
    """`lines` is a JSON array that is not empty."""
    await _row(conn, _APPEND_LOG, reach, worker, app=app, lines=lines)


async def retire_worker(conn: Connection, reach: Apps, worker: int) -> None:
    await _row(conn, _RETIRE, reach, worker)


async def await_hints(conn: Connection, apps: Apps) -> None:
    await conn.execute("select scheduler.await_hints(%s::text[])", (apps,))


async def decline_hints(conn: Connection) -> None:
    await conn.execute("select scheduler.decline_hints()")


async def _row(conn: Connection, query: LiteralString, reach: Apps, worker: int, **given: Any) -> tuple[Any, ...]:
    row = await (await conn.execute(query + _OF_THE_CALLER, {"reach": reach, "worker": worker, **given})).fetchone()
    if row is None:
        raise NotFoundError(f"there is no worker {worker}")
    return row  # type: ignore[no-any-return]
