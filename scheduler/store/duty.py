"""What the duties of a server ask of the database.

Durations cross this border as seconds, instants as aware datetimes. PostgreSQL knows instants and intervals that Python
cannot hold (infinity, the year 10000): a single job that came with one by plain SQL would fail the read of its whole
page, so what people may write is brought into Python's range here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow, class_row
from psycopg.types.json import Jsonb

Connection = AsyncConnection[TupleRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class DueJob:
    """A job that has something to plan, as it was read at `read_at` by the database's clock.

    `next_at` None: its next instant is to be computed; only those after `after_at` count. `expected` is `next_at` in
    the database's own words, for plan_fires to compare. `misfire_grace` and `jitter` are in seconds.
    """

    app: str
    job: str
    schedule: str
    timezone: str
    dst_gap: str
    dst_fold: str
    overlap: str
    misfire: str
    misfire_grace: float
    misfire_limit: int
    jitter: float
    starts_at: datetime | None
    ends_at: datetime | None
    next_at: datetime | None
    expected: str
    after_at: datetime
    anchor_at: datetime
    revision: int
    read_at: datetime


@dataclass(frozen=True, slots=True)
class Planned:
    """What became of an instant: planned, skipped, coalesced, missed, deferred. Or a job whose next was set: moved."""

    job: str
    scheduled_at: datetime | None
    outcome: str
    run_id: int | None


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """A lease that was taken back. `lost`: its runs had started, and an attempt of each is gone."""

    app: str
    lease: int
    worker: int
    runs: int
    lost: bool


# Intervals end at 317 years, which is forever, and instants at the year 9999; earlier than 1970 is no bound at all.
_DUE_JOBS: LiteralString = """
    select d.app, d.job, d.schedule, d.timezone, d.dst_gap, d.dst_fold, d.overlap, d.misfire, d.misfire_limit,
        least(extract(epoch from d.misfire_grace), 1e10)::float8 as misfire_grace,
        least(coalesce(extract(epoch from d.jitter), 0), 1e10)::float8 as jitter,
        case when d.starts_at > '1970-01-01Z' then least(d.starts_at, '9999-01-01Z') end as starts_at,
        case when d.ends_at < '9999-01-01Z' then greatest(d.ends_at, '1970-01-01Z') end as ends_at,
        case when isfinite(d.next_at) then d.next_at end as next_at, d.next_at::text as expected,
        d.after_at, least(greatest(d.anchor_at, '1970-01-01Z'), '9999-01-01Z') as anchor_at, d.revision, d.read_at
    from scheduler.due_jobs(
        make_interval(secs => %(ahead)s), %(limit)s, %(expected)s::timestamptz, %(app)s::text, %(job)s::text
    ) d
"""


async def due_jobs(conn: Connection, *, ahead: float, limit: int, after: DueJob | None = None) -> list[DueJob]:
    """A page of the jobs that have an instant within `ahead` seconds, earliest first, behind the row `after`."""
    place = {"expected": after.expected, "app": after.app, "job": after.job} if after else _FROM_THE_START
    async with conn.cursor(row_factory=class_row(DueJob)) as cursor:
        await cursor.execute(_DUE_JOBS, {"ahead": ahead, "limit": limit, **place})
        return await cursor.fetchall()


_FROM_THE_START = {"expected": None, "app": None, "job": None}


async def next_plan_at(conn: Connection, *, ahead: float) -> float | None:
    """Seconds until a job that has nothing within `ahead` seconds will have; None: there is none."""
    query: LiteralString = "select extract(epoch from scheduler.next_plan_at(make_interval(secs => %s)))::float8"
    seconds = await _answer(conn, query, [ahead])
    return None if seconds is None else float(seconds)


async def plan_fires(conn: Connection, app: str, plans: Sequence[dict[str, Any]]) -> list[Planned]:
    """Writes the plans of jobs of one app, each that nobody else was quicker with, in one transaction."""
    async with conn.cursor(row_factory=class_row(Planned)) as cursor:
        await cursor.execute(
            "select f.job, f.scheduled_at, f.outcome, f.run_id from scheduler.plan_fires(%s, %s) f",
            [app, Jsonb(list(plans))],
        )
        return await cursor.fetchall()


async def schedule_after(conn: Connection) -> int:
    """How many jobs with a fixed delay were given their next instant, now that their run has ended."""
    return int(await _answer(conn, "select scheduler.schedule_after()"))


async def release_waiting(conn: Connection) -> int:
    """How many runs may start, that waited for their job's previous one."""
    return int(await _answer(conn, "select scheduler.release_waiting()"))


async def reclaim(conn: Connection, *, dead_after: float, limit: int) -> list[Reclaimed]:
    """Declares dead who was silent for `dead_after` seconds; the leases that were taken back, at most `limit`."""
    async with conn.cursor(row_factory=class_row(Reclaimed)) as cursor:
        await cursor.execute(
            """
            select r.app, r.lease, r.worker, r.runs, r.lost
            from scheduler.reclaim(make_interval(secs => %s), %s) r
            """,
            [dead_after, limit],
        )
        return await cursor.fetchall()


async def forget(conn: Connection, *, older_than: float) -> int:
    """Deletes some of what is older (seconds) and in no partition of its own; how many rows, and 0 when all is gone."""
    return int(
        await _answer(conn, "select scheduler.forget(scheduler.clock() - make_interval(secs => %s))", [older_than])
    )


async def register_server(
    conn: Connection, *, label: str, host: str, pid: int, address: str | None, version: str
) -> int:
    """A new identity, never used before."""
    query: LiteralString = "select scheduler.register_server(%s, %s, %s, %s, %s)"
    return int(await _answer(conn, query, [label, host, pid, address, version]))


async def heartbeat_server(conn: Connection, server: int) -> datetime:
    """The database's time. SQLSTATE JS004 when the server was declared dead."""
    now: datetime = await _answer(conn, "select scheduler.heartbeat_server(%s)", [server])
    return now


async def retire_server(conn: Connection, server: int) -> None:
    await conn.execute("select scheduler.retire_server(%s)", [server])


async def _answer(conn: Connection, query: LiteralString, parameters: Sequence[Any] = ()) -> Any:
    row = await (await conn.execute(query, parameters)).fetchone()
    return row[0] if row else None  # a select of one function always has a row
