"""What the duties of a server ask of the database.

Durations cross this border as seconds, instants as aware datetimes. PostgreSQL knows instants and intervals that Python
cannot hold (infinity, the year 10000): a single job that came with one by plain SQL would fail the read of its whole
page, so what people may write is brought into Python's range here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow, class_row
from psycopg.types.json import Jsonb

Connection = AsyncConnection[TupleRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class DueJobs:
    """Jobs that have something to plan and are to be decided alike, read at `read_at` by the database's clock.

    `epoch` is that of the server's ownership of the app, for plan_fires to compare.
    `jobs` and `revisions` run parallel; `last_job` is the greatest name, as the database sorts them.
    `next_at` None: it is to be computed; only instants after `after_at` count, which means nothing otherwise.
    `expected` is `next_at` in the database's own words, for plan_fires to compare. `anchor_at` is there for schedules
    with an @, as is `limited`: a concurrency key, or a limit of the queue. `misfire_grace` and `jitter` are in seconds;
    with a jitter there is one job only.
    """

    app: str
    epoch: int
    jobs: list[str]
    revisions: list[int]
    last_job: str
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
    anchor_at: datetime | None
    read_at: datetime
    limited: bool


@dataclass(frozen=True, slots=True)
class Stock:
    """`due_in`: seconds until there is something to plan, zero or less: there is now; None: not within the time asked.

    `deferred_in`: the same of the instants that are decided when they come. `waits`: something goes on when a run ends.
    """

    due_in: float | None
    deferred_in: float | None
    waits: bool


@dataclass(frozen=True, slots=True)
class Fires:
    """What was decided for jobs of an app, as `plan_fires` takes it; `named` are those whose names are asked for."""

    app: str
    epoch: int
    plans: list[dict[str, Any]]
    named: list[str]


@dataclass(frozen=True, slots=True)
class Written:
    """Of an app: how many jobs were given their next instant, which of those that were asked about, how many were
    deferred, how many runs were written, and how many instants came into the ledger, by outcome.
    """

    app: str
    moved: int
    named: list[str]
    deferred: int
    planned: int
    skipped: int = 0
    coalesced: int = 0
    missed: int = 0

    @property
    def fires(self) -> dict[str, int]:
        fires = {name: getattr(self, name) for name in ("planned", "skipped", "coalesced", "missed")}
        return {name: number for name, number in fires.items() if number}


@dataclass(frozen=True, slots=True)
class Assigned:
    """How many apps moved; None: another server is at it just now. `next_in`: seconds until a server may be declared
    dead, or an app that was passed over can move.
    """

    moved: int | None
    next_in: float | None


@dataclass(frozen=True, slots=True)
class EventPlace:
    """Where a look through the events ended; `run_at` in the database's own words."""

    app: str
    queue: str
    priority: int
    executor: str
    run_at: str
    id: int


@dataclass(frozen=True, slots=True)
class Expired:
    """Of `seen` events so many had expired. `place`: where to go on; None: at the beginning."""

    seen: int
    expired: int
    place: EventPlace | None


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """A lease that was taken back. `lost`: its runs had started, and an attempt of each is gone. `poisoned`: so many of
    them have failed, since each attempt killed what ran it.
    """

    app: str
    lease: int
    worker: int
    runs: int
    lost: bool
    poisoned: int


# Intervals end at 317 years, which is forever, and instants at the year 9999; earlier than 1970 is no bound at all.
_DUE_JOBS: LiteralString = """
    select d.app, d.epoch, d.jobs, d.revisions, d.last_job, d.schedule, d.timezone, d.dst_gap, d.dst_fold, d.overlap,
        d.misfire, d.misfire_limit,
        least(extract(epoch from d.misfire_grace), 1e10)::float8 as misfire_grace,
        least(coalesce(extract(epoch from d.jitter), 0), 1e10)::float8 as jitter,
        case when d.starts_at > '1970-01-01Z' then least(d.starts_at, '9999-01-01Z') end as starts_at,
        case when d.ends_at < '9999-01-01Z' then greatest(d.ends_at, '1970-01-01Z') end as ends_at,
        case when isfinite(d.next_at) then d.next_at end as next_at, d.next_at::text as expected,
        coalesce(d.after_at, d.read_at) as after_at,
        least(greatest(d.anchor_at, '1970-01-01Z'), '9999-01-01Z') as anchor_at, d.read_at,
        d.limited
    from scheduler.due_jobs(
        %(server)s, make_interval(secs => %(ahead)s), %(limit)s, %(new)s, %(expected)s::timestamptz, %(app)s::text,
        %(last_job)s::text
    ) d
"""
_FROM_THE_START = {"expected": None, "app": None, "last_job": None}


async def take_stock(conn: Connection, server: int, *, ahead: float, within: float) -> Stock:
    """Lets go on what waited for the end of a run in the server's apps, and says when there is something to plan, if
    that is `within` so many seconds.
    """
    async with conn.cursor(row_factory=class_row(Stock)) as cursor:
        await cursor.execute(
            """
            select extract(epoch from s.due_in)::float8 as due_in,
                extract(epoch from s.deferred_in)::float8 as deferred_in, s.waits
            from scheduler.take_stock(%s, make_interval(secs => %s), make_interval(secs => %s)) s
            """,
            [server, ahead, within],
        )
        return await cursor.fetchone() or Stock(None, None, waits=False)  # there always is a row


async def due_jobs(
    conn: Connection, server: int, *, ahead: float, limit: int, new: bool = False, after: DueJobs | None = None
) -> list[DueJobs]:
    """A page of `limit` jobs of the server's apps that have an instant within `ahead` seconds, earliest first, behind
    the group `after`.

    With `new` those whose next instant is yet to be computed.
    """
    place = {"expected": after.expected, "app": after.app, "last_job": after.last_job} if after else _FROM_THE_START
    async with conn.cursor(row_factory=class_row(DueJobs)) as cursor:
        await cursor.execute(_DUE_JOBS, {"server": server, "ahead": ahead, "limit": limit, "new": new, **place})
        return await cursor.fetchall()


async def plan_fires(conn: Connection, server: int, these: Sequence[Fires]) -> list[Written]:
    """Writes the plans of several apps, each that nobody else was quicker with, in one transaction; none of an app that
    the server does not own under this epoch any more. An app for which nothing was written is left out.

    What was written is counted and not listed, but for the jobs that are `named`: there are two rows to each job.
    """
    async with conn.cursor(row_factory=class_row(Written)) as cursor:
        await cursor.execute(
            """
            select t.app, count(*) filter (where f.outcome = 'moved') as moved,
                coalesce(array_agg(f.job) filter (where f.outcome = 'moved' and t.named ? f.job), '{}') as named,
                count(*) filter (where f.outcome = 'deferred') as deferred,
                count(*) filter (where f.outcome = 'planned') as planned,
                count(*) filter (where f.outcome = 'skipped') as skipped,
                count(*) filter (where f.outcome = 'coalesced') as coalesced,
                count(*) filter (where f.outcome = 'missed') as missed
            from unnest(%s::text[], %s::bigint[], %s::jsonb[], %s::jsonb[]) as t (app, epoch, plans, named)
            cross join lateral scheduler.plan_fires(t.app, %s, t.epoch, t.plans) f
            group by t.app
            """,
            [
                [one.app for one in these],
                [one.epoch for one in these],
                [Jsonb(one.plans) for one in these],
                [Jsonb(one.named) for one in these],
                server,
            ],
        )
        return await cursor.fetchall()


async def plan_pulses(conn: Connection, app: str, server: int, epoch: int, plans: Sequence[dict[str, Any]]) -> int:
    """Hands jobs of one app over to workers' timers, each that nobody else was quicker with; how many."""
    query: LiteralString = "select scheduler.plan_pulses(%s, %s, %s, %s)"
    return int(await _answer(conn, query, [app, server, epoch, Jsonb(list(plans))]))


async def recall_pulses(conn: Connection, *, below: float) -> int:
    """Has jobs planned by rows again whose period is not below so many seconds any more; how many."""
    return int(await _answer(conn, "select scheduler.recall_pulses(make_interval(secs => %s))", [below]))


async def reclaim(conn: Connection, *, dead_after: float, limit: int) -> list[Reclaimed]:
    """Declares workers dead that were silent for `dead_after` seconds; what was taken back, at most `limit` leases."""
    async with conn.cursor(row_factory=class_row(Reclaimed)) as cursor:
        await cursor.execute(
            """
            select r.app, r.lease, r.worker, r.runs, r.lost, r.poisoned
            from scheduler.reclaim(make_interval(secs => %s), %s) r
            """,
            [dead_after, limit],
        )
        return await cursor.fetchall()


async def expire_events(conn: Connection, *, limit: int, lanes: int, after: EventPlace | None) -> Expired:
    """Ends what has expired of `limit` events behind a place, in so many lanes."""
    place = after or EventPlace("", "", 0, "", "-infinity", 0)
    cursor = await conn.execute(
        """
        select e.seen, e.expired, e.app, e.queue, e.priority, e.executor, e.run_at::text, e.id
        from scheduler.expire_events(
            %s, %s, %s::text, %s::text, %s::smallint, %s::text, %s::timestamptz, %s::bigint
        ) e
        """,
        [limit, lanes, place.app, place.queue, place.priority, place.executor, place.run_at, place.id],
    )
    seen, expired, *found = (await cursor.fetchall())[0]
    return Expired(seen, expired, None if found[0] is None else EventPlace(*found))


async def assign_apps(conn: Connection, *, dead_after: float, rebalance: bool) -> Assigned:
    """Declares servers dead that were silent for `dead_after` seconds, and gives each app without an owner one; with
    `rebalance` also takes some from those that have far more than others.
    """
    async with conn.cursor(row_factory=class_row(Assigned)) as cursor:
        await cursor.execute(
            """
            select a.moved, extract(epoch from a.next_in)::float8 as next_in
            from scheduler.assign_apps(make_interval(secs => %s), %s) a
            """,
            [dead_after, rebalance],
        )
        return await cursor.fetchone() or Assigned(None, None)  # there always is a row


async def weigh_apps(conn: Connection, server: int, runs: Mapping[str, int]) -> int:
    """Weighs the server's apps by their jobs and these runs; how many weigh notably less or more than before."""
    query: LiteralString = "select scheduler.weigh_apps(%s, %s::text[], %s::bigint[])"
    return int(await _answer(conn, query, [server, list(runs), list(runs.values())]))


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


async def heartbeat_server(conn: Connection, server: int, *, clock_ahead: float | None = None) -> datetime:
    """The database's time. SQLSTATE JS004 when the server was declared dead.

    `clock_ahead`: seconds that this machine's clock is ahead of the database's, for people to see.
    """
    now: datetime = await _answer(conn, "select scheduler.heartbeat_server(%s, %s::float8)", [server, clock_ahead])
    return now


async def retire_server(conn: Connection, server: int) -> None:
    """Says good-bye; what it owned goes to others."""
    await conn.execute("select scheduler.retire_server(%s)", [server])


async def _answer(conn: Connection, query: LiteralString, parameters: Sequence[Any] = ()) -> Any:
    row = await (await conn.execute(query, parameters)).fetchone()
    return row[0] if row else None  # a select of one function always has a row
