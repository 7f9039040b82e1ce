"""Events of channels, and the jobs that publish them: one function per SQL function, of the same name.

An event is a run with the executor `event`, a channel is an app. Instants come as their text, since PostgreSQL knows
some that Python cannot hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import class_row

Connection = AsyncConnection[Any]


@dataclass(frozen=True, slots=True)
class Event:
    id: int
    published_at: str
    data: str
    lives_until: str
    is_locked: bool
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class ChannelJob:
    """`ttl` in microseconds."""

    name: str
    schedule: str
    data: str
    ttl: int
    created_at: str


_PUBLISH: LiteralString = """
    select e.id, to_char(e.published_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as published_at,
        %(data)s as data,
        to_char(e.lives_until at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as lives_until, false as is_locked
    from scheduler.publish_event(%(app)s::text, %(data)s::text, %(ttl)s::text, %(publish_at)s::timestamptz) e
"""
_LIST: LiteralString = """
    select e.id, to_char(e.published_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as published_at, e.data,
        to_char(e.lives_until at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as lives_until,
        e.is_locked, e.has_more
    from scheduler.list_events(
        p_app => %(app)s::text, p_limit => %(limit)s::integer,
        p_after_at => coalesce(%(after_at)s::timestamptz, '-infinity'), p_after_id => %(after_id)s::bigint
    ) e
"""
_LIST_JOBS: LiteralString = """
    select j.name, j.schedule, coalesce(j.spec ->> 'data', '') as data,
        (extract(epoch from scheduler.event_ttl(j.spec)) * 1000000)::bigint as ttl,
        to_char(j.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at
    from scheduler.job j
    where j.app = %(app)s and j.name >= %(first)s and j.name > %(after)s and j.executor = 'event'
        and j.schedule is not null
    order by j.name
    limit %(limit)s
"""
_REMOVE_JOB: LiteralString = """
    select scheduler.remove_job(j.app, j.name) from scheduler.job j
    where j.app = %(app)s and j.name = %(name)s and j.executor = 'event'
"""


async def publish_event(
    conn: Connection, app: str, data: str, *, ttl: str | None = None, publish_at: datetime | None = None
) -> Event:
    """`ttl` as `scheduler.event_ttl` reads it."""
    async with conn.cursor(row_factory=class_row(Event)) as cursor:
        await cursor.execute(_PUBLISH, {"app": app, "data": data, "ttl": ttl, "publish_at": publish_at})
        event = await cursor.fetchone()
    if event is None:
        raise LookupError("an insert always has a row")
    return event


async def list_events(
    conn: Connection, app: str, *, limit: int, after: tuple[datetime, int] | None = None
) -> list[Event]:
    """In the order of their publication, behind the event that was published at that instant and has that id."""
    after_at, after_id = after or (None, 0)
    async with conn.cursor(row_factory=class_row(Event)) as cursor:
        await cursor.execute(_LIST, {"app": app, "limit": limit, "after_at": after_at, "after_id": after_id})
        return await cursor.fetchall()


async def lock_event(conn: Connection, app: str, event: int, ttl: timedelta) -> int | None:
    """The lock's fence. None: it is locked, or not there."""
    fence = await _answer(conn, "select scheduler.lock_event(%s::text, %s::bigint, %s::interval)", app, event, ttl)
    return None if fence is None else int(fence)


async def unlock_event(conn: Connection, app: str, event: int) -> bool:
    """False: it is not there."""
    return bool(await _answer(conn, "select scheduler.unlock_event(%s::text, %s::bigint)", app, event))


async def end_event(conn: Connection, app: str, event: int) -> bool:
    """False: it is not there."""
    return bool(await _answer(conn, "select scheduler.end_event(%s::text, %s::bigint)", app, event))


async def list_jobs(conn: Connection, app: str, *, limit: int, after: str = "", name: str = "") -> list[ChannelJob]:
    """By name, from `name` on, behind `after`."""
    async with conn.cursor(row_factory=class_row(ChannelJob)) as cursor:
        await cursor.execute(_LIST_JOBS, {"app": app, "limit": limit, "after": after, "first": name})
        return await cursor.fetchall()


async def remove_job(conn: Connection, app: str, name: str) -> bool:
    """False: there is no job of that name that publishes events."""
    cursor = await conn.execute(_REMOVE_JOB, {"app": app, "name": name})
    return cursor.rowcount == 1


async def _answer(conn: Connection, query: LiteralString, *parameters: Any) -> Any:
    row = await (await conn.execute(query, parameters)).fetchone()
    return row[0] if row else None  # a select of one function always has a row
