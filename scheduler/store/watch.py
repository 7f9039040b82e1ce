"""What people look at: lists by key, a page at a time, and never a count of a large table.

Rows are dicts. An instant is an aware datetime, or its text where Python has none for it (infinity, the year 20000);
a duration is a number of seconds. So one odd row that came by plain SQL cannot spoil a list.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.rows import dict_row

Connection = AsyncConnection[Any]
Row = dict[str, Any]

COUNTED = 1_000
"""Runs and jobs are counted up to here; one above it means `more`. For ten times as many PostgreSQL read them all."""

_LAST_ID = 2**63 - 1

# All that is read here is a page by a key. Without statistics, or with those of a table that was small, PostgreSQL
# takes a scan for cheaper: a page of runs read a million rows, a single run 400,000. What has no key then costs so much
# by the estimate that it would be compiled, for 100 ms.
_BY_KEY: LiteralString = """
    select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
        set_config('enable_sort', 'off', true), set_config('jit', 'off', true)
"""

# One index probe per app and table (and partition), however many rows there are; a distinct would read them all.
_APPS: LiteralString = """
    with recursive of_run (app) as (
        select min(r.app) from scheduler.run r
        union all
        select (select min(r.app) from scheduler.run r where r.app > o.app) from of_run o where o.app is not null
    ), of_job (app) as (
        select min(j.app) from scheduler.job j
        union all
        select (select min(j.app) from scheduler.job j where j.app > o.app) from of_job o where o.app is not null
    ), of_history (app) as (
        select min(h.app) from scheduler.history h
        union all
        select (select min(h.app) from scheduler.history h where h.app > o.app) from of_history o
        where o.app is not null
    ), known (app) as (
        select o.app from of_run o where o.app is not null
        union select o.app from of_job o where o.app is not null
        union select o.app from of_history o where o.app is not null
        union select a.app from scheduler.app a
        union select l.app from scheduler.lease l
    )
"""
_THIS_APP: LiteralString = "with known (app) as (select %(app)s::text)"
# Those that somebody may see, if they are there. Each look has a limit: as an `exists`, PostgreSQL may read all of a
# table to look the apps up in that.
_THESE_APPS: LiteralString = """
    with recursive known (app) as (
        select a.app from (select distinct t.app from unnest(%(among)s::text[]) t (app)) a
        where coalesce(
            (select true from scheduler.job j where j.app = a.app limit 1),
            (select true from scheduler.run r where r.app = a.app limit 1),
            (select true from scheduler.history h where h.app = a.app limit 1),
            (select true from scheduler.app p where p.app = a.app limit 1),
            (select true from scheduler.lease l where l.app = a.app limit 1)
        )
    )
"""

_ALL_APPS: LiteralString = "select k.app from known k order by k.app"
# The page comes first, materialized: what is counted for an app is counted for those on the page only. And each count
# says its order: believing old statistics, PostgreSQL read the whole table for the first rows of a small app.
_APP_ROWS: LiteralString = """
    , page (app) as materialized (
        select k.app from known k where k.app > %(after)s order by k.app limit %(limit)s
    )
    select k.app, a.paused_at, p.pending, d.oldest_due_at, coalesce(l.running, 0) as running, j.jobs, o.server, o.epoch,
        o.address
    from page k
    left join scheduler.app a on a.app = k.app
    left join lateral scheduler.locate(k.app) o on true
    cross join lateral (
        select count(*) as pending
        from (select from scheduler.run r where r.app = k.app order by r.id limit %(counted)s + 1) c
    ) p
    cross join lateral (
        select count(*) as jobs
        from (select from scheduler.job j where j.app = k.app order by j.name limit %(counted)s + 1) c
    ) j
    cross join lateral (
        select min(n.run_at) as oldest_due_at
        from (
            select l.run_at from (select distinct q.queue from lane q where q.app = k.app) q
            cross join lateral scheduler.lanes(k.app, q.queue) l
            union all
            select l.run_at from keyed l where l.app = k.app
        ) n
        where n.run_at <= scheduler.clock()
    ) d
    left join held l on l.app = k.app
    order by k.app
"""
_LANES: LiteralString = """
    unkeyed (app, queue) as (
        (
            select r.app, r.queue from scheduler.run r where r.concurrency_key is null
            order by r.app, r.queue, r.priority, r.executor, r.run_at, r.id limit 1
        )
        union all
        select n.app, n.queue from unkeyed l cross join lateral (
            select r.app, r.queue from scheduler.run r
            where r.concurrency_key is null and (r.app, r.queue) > (l.app, l.queue)
            order by r.app, r.queue, r.priority, r.executor, r.run_at, r.id limit 1
        ) n
    ), keyed (app, queue, executor, run_at) as (
        (
            select r.app, r.queue, r.executor, r.run_at from scheduler.run r where r.concurrency_key is not null
            order by r.app, r.queue, r.executor, r.run_at limit 1
        )
        union all
        select n.app, n.queue, n.executor, n.run_at from keyed l cross join lateral (
            select r.app, r.queue, r.executor, r.run_at from scheduler.run r
            where r.concurrency_key is not null and (r.app, r.queue, r.executor) > (l.app, l.queue, l.executor)
            order by r.app, r.queue, r.executor, r.run_at limit 1
        ) n
    ), lane (app, queue) as (
        select l.app, l.queue from unkeyed l union select k.app, k.queue from keyed k
    )
"""
_HELD: LiteralString = """
    , held (app, running) as (
        select l.app, sum(l.size - cardinality(coalesce(l.done, '{}'))) from scheduler.lease l
        where l.begun_at is not null group by l.app
    )
"""
_QUEUES: LiteralString = """
    , of_job (app, queue) as (
        (select j.app, j.queue from scheduler.job j where j.queue >= '' order by j.app, j.queue limit 1)
        union all
        select n.app, n.queue from of_job o cross join lateral (
            select j.app, j.queue from scheduler.job j where j.queue >= '' and (j.app, j.queue) > (o.app, o.queue)
            order by j.app, j.queue limit 1
        ) n
    ), held (app, queue, running, taken) as (
        select l.app, l.queue, sum(l.size - cardinality(coalesce(l.done, '{}'))) filter (where l.begun_at is not null),
            sum(l.size - cardinality(coalesce(l.done, '{}')))
        from scheduler.lease l group by l.app, l.queue
    ), known (app, queue) as (
        select q.app, q.queue from lane q
        union select l.app, l.queue from scheduler.lease l
        union select j.app, j.queue from of_job j
        union select q.app, q.queue from scheduler.queue_limit q
    ), page (app, queue) as materialized (
        select k.app, k.queue from known k
        where (%(app)s::text is null or k.app = %(app)s) and (%(among)s::text[] is null or k.app = any (%(among)s))
            and (k.app, k.queue) > (%(after_app)s, %(after_queue)s)
        order by k.app, k.queue
        limit %(limit)s
    ), alive as materialized (
        select w.apps, w.queues from scheduler.worker w where w.dead_at is null and w.stopped_at is null
    )
    select k.app, k.queue, p.pending + w.waiting as pending, coalesce(h.running, 0) as running, d.next_run_at,
        m.concurrency_limit, m.rate_limit, extract(epoch from m.rate_interval)::float8 as rate_interval,
        coalesce(h.taken, 0) as taken, w.waiting as keyed,
        greatest(extract(epoch from scheduler.clock() - d.next_run_at)::float8, 0) as late,
        (
            select count(*) from alive w
            where (w.apps is null or k.app = any (w.apps)) and (w.queues is null or k.queue = any (w.queues))
        ) as workers
    from page k
    left join held h on h.app = k.app and h.queue = k.queue
    cross join lateral (
        select count(*) as pending
        from (
            select from scheduler.run r where r.app = k.app and r.queue = k.queue and r.concurrency_key is null
            order by r.priority, r.executor, r.run_at, r.id
            limit %(counted)s + 1
        ) c
    ) p
    cross join lateral (
        select count(*) as waiting
        from (
            select from scheduler.run r where r.app = k.app and r.queue = k.queue and r.concurrency_key is not null
            order by r.concurrency_key, r.priority, r.executor, r.run_at, r.id
            limit %(counted)s + 1
        ) c
    ) w
    cross join lateral (
        select min(n.run_at) as next_run_at
        from (
            select l.run_at from scheduler.lanes(k.app, k.queue) l
            union all
            select l.run_at from keyed l where l.app = k.app and l.queue = k.queue
        ) n
        where isfinite(n.run_at)
    ) d
    left join lateral (
        select * from scheduler.queue_limit q where q.app = k.app and q.queue = k.queue offset 0
    ) m on true
    order by k.app, k.queue
"""
_PROCESS_STATE: LiteralString = """
    case when p.dead_at is not null then 'dead' when p.stopped_at is not null then 'stopped'
        when p.seen_at < scheduler.clock() - make_interval(secs => %(dead_after)s) then 'silent' else 'alive'
    end as state,
    extract(epoch from scheduler.clock() - p.seen_at)::float8 as silent_for
"""
# Written out, not `%(gone)s or …`: only then does the small index of those alive match. Of 20,000 processes 40 may be.
_ALIVE: LiteralString = " where p.dead_at is null and p.stopped_at is null and p.id < %(before)s"
_EVER: LiteralString = " where p.id < %(before)s"
_LATEST_PROCESSES: LiteralString = " order by p.id desc limit %(limit)s"
_SERVER_COLUMNS: LiteralString = """
    select p.id, p.label, p.host, p.pid, p.address, p.version, p.started_at, p.seen_at, p.stopped_at, p.dead_at,
        (select count(*) from scheduler.owner o where o.server = p.id) as apps,
"""
_OF_SERVERS: LiteralString = "from scheduler.server p"
_SERVERS: LiteralString = _SERVER_COLUMNS + _PROCESS_STATE + _OF_SERVERS
_WORKER_COLUMNS: LiteralString = """
    select p.id, p.label, p.host, p.pid, p.apps, p.queues, p.executors, p.concurrency, p.version, p.started_at,
        p.seen_at, p.stopped_at, p.dead_at, (
            select coalesce(sum(l.size - cardinality(coalesce(l.done, '{}'))), 0) from scheduler.lease l
            where l.worker = p.id and l.begun_at is not null
        ) as running,
"""
_OF_WORKERS: LiteralString = "from scheduler.worker p"
_WORKERS: LiteralString = _WORKER_COLUMNS + _PROCESS_STATE + _OF_WORKERS
_EVERY_JOB: LiteralString = """
    with page as materialized (
        select * from scheduler.job j where (j.app, j.name) > (%(after_app)s, %(after_name)s)
        order by j.app, j.name limit %(limit)s
    )
"""
_JOBS_OF_APP: LiteralString = """
    with page as materialized (
        select * from scheduler.job j
        where j.app = %(app)s and (j.app, j.name) > (%(after_app)s, %(after_name)s)
        order by j.app, j.name limit %(limit)s
    )
"""
_JOBS_OF_APPS: LiteralString = """
    with page as materialized (
        select j.* from (select distinct t.app from unnest(%(among)s::text[]) t (app) where t.app >= %(after_app)s) k
        cross join lateral (
            select * from scheduler.job j
            where j.app = k.app and (j.app, j.name) > (%(after_app)s, %(after_name)s)
            order by j.app, j.name limit %(limit)s
        ) j
        order by j.app, j.name limit %(limit)s
    )
"""
_ONE_JOB: LiteralString = """
    with page as materialized (select * from scheduler.job j where j.app = %(app)s and j.name = %(name)s)
"""
_JOBS: LiteralString = """
    select j.app, j.name, j.schedule, j.timezone, j.executor, j.spec, j.queue, j.priority, j.max_attempts,
        extract(epoch from j.timeout)::float8 as timeout, extract(epoch from j.retry_delay)::float8 as retry_delay,
        extract(epoch from j.retry_max_delay)::float8 as retry_max_delay, j.overlap, j.misfire,
        extract(epoch from j.misfire_grace)::float8 as misfire_grace, j.misfire_limit, j.dst_gap, j.dst_fold,
        extract(epoch from j.jitter)::float8 as jitter, j.starts_at, j.ends_at, j.paused_at, j.tags, j.concurrency_key,
        j.concurrency_limit, j.created_at, j.updated_at, a.paused_at as app_paused_at, s.error, s.anchor_at,
        s.next_at as undecided_at,
        p.scheduled_at as planned_at, h.id as last_run, h.outcome as last_outcome, h.finished_at as last_finished_at,
        u.pulse, case when u.pulse is not null then h.result end as last_result,
        case when u.pulse is not null then h.error end as last_error, scheduler.clock() as now
    from page j
    left join scheduler.app a on a.app = j.app
    left join lateral (
        select * from scheduler.job_schedule s where s.app = j.app and s.job = j.name offset 0
    ) s on true
    left join lateral (
        select r.scheduled_at from scheduler.run r
        where r.app = j.app and r.job = j.name and r.scheduled_at >= scheduler.clock()
        order by r.scheduled_at limit 1
    ) p on true
    left join lateral (
        select h.id, h.outcome, h.finished_at, h.result, h.error from scheduler.history h
        where h.app = j.app and h.job = j.name and h.retry_at is null
        order by h.id desc limit 1
    ) h on true
    left join lateral (
        select jsonb_build_object(
            'worker', u.worker, 'fence', u.lease, 'taken_at', u.taken_at, 'reported_at', u.reported_at
        ) as pulse
        from scheduler.pulse u
        where u.app = j.app and u.job = j.name and u.revision is not null offset 0
    ) u on true
    order by j.app, j.name
"""
# Each table is asked for its latest few on its own, by its key. Over the view, PostgreSQL reads and sorts an app's
# whole history for its first 20 rows: 125 ms with 50,000 rows of it, against 8 ms.
# The text holds the conditions that were asked for and no other. With `%(job)s is null or …` a prepared statement reads
# all of an app for one job, 220 ms of 600,000 rows, and no state finds its index.
_LATEST: LiteralString = """
    select r.app, r.id, r.job, r.queue, r.executor, r.state, r.attempt, r.max_attempts, r.priority, r.run_at,
        r.scheduled_at, r.started_at, r.finished_at, r.worker, r.fence, r.unique_key, r.tags, r.error
    from known k
    cross join lateral (
        select * from (
"""
_ENDED_ROWS: LiteralString = """
    (
        select h.app, h.id, h.job, h.queue, h.executor, h.outcome as state, h.attempt, h.max_attempts, h.priority,
            h.run_at, h.scheduled_at, h.started_at, h.finished_at, h.worker, h.fence, h.unique_key, h.tags, h.error
        from (select * from scheduler.history h where h.app = k.app and h.retry_at is null
"""
_HELD_ROWS: LiteralString = """
    (
        select l.app, h.id, h.job, h.queue, h.executor,
            case when l.begun_at is null then 'pending' else 'running' end as state,
            case when l.begun_at is null then h.attempt else (h.attempt + 1)::smallint end as attempt, h.max_attempts,
            h.priority, h.run_at, h.scheduled_at, l.begun_at as started_at, null::timestamptz as finished_at, l.worker,
            l.id as fence, h.unique_key, h.tags, null::text as error
        from scheduler.lease l cross join lateral unnest(l.runs) h
        where l.app = k.app and h.id <> all (coalesce(l.done, '{}'))
"""
_PENDING_ROWS: LiteralString = """
    (
        select h.app, h.id, h.job, h.queue, h.executor, 'pending' as state, h.attempt, h.max_attempts, h.priority,
            h.run_at, h.scheduled_at, null::timestamptz as started_at, null::timestamptz as finished_at,
            null::bigint as worker, null::bigint as fence, h.unique_key, h.tags, null::text as error
        from (select * from scheduler.run h where h.app = k.app
"""
_BEFORE: LiteralString = " and h.id < %(before)s"
_OF_JOB: LiteralString = " and h.job = %(job)s"
_OF_QUEUE: LiteralString = " and h.queue = %(queue)s"
# The fence makes it a walk from the latest run: of a queue most of whose runs are elsewhere it goes on for long, but
# not knowing the queues, PostgreSQL would read all of an app for each of them. What is outside must not be sorted once
# more: then all inside is wanted, and read.
_WALK: LiteralString = " order by h.id desc offset 0) h where true"
_FIRST: LiteralString = " limit %(limit)s)"
# A job's pending runs are few, and their index is not in the order of ids.
_FEW: LiteralString = " offset 0) h where true"
_TAKE: LiteralString = " order by h.id desc limit %(limit)s)"
_UNION: LiteralString = " union all "
_THE_LATEST: LiteralString = """
        ) each
        order by id desc limit %(limit)s
    ) r
    order by r.id desc
    limit %(limit)s
"""
_BEGUN: LiteralString = " and l.begun_at is not null"
_PREFETCHED: LiteralString = " and l.begun_at is null"
_OUTCOMES: dict[str, LiteralString] = {
    "succeeded": " and h.outcome = 'succeeded'",
    "failed": " and h.outcome = 'failed'",
    "cancelled": " and h.outcome = 'cancelled'",
}
_RUN: LiteralString = """
    select r.*
    from known k
    cross join lateral (select * from scheduler.runs r where r.app = k.app and r.id = %(run)s limit 1) r
    limit 2
"""
_ATTEMPTS: LiteralString = """
    select h.attempt, h.outcome, h.started_at, h.finished_at, h.retry_at, h.worker, h.fence, h.error, h.result
    from scheduler.history h
    where h.app = %(app)s and h.id = %(run)s
    order by h.finished_at, h.attempt
    limit %(limit)s
"""
_LOG_LINES: LiteralString = """
    select l.attempt, l.line, l.at, l.stream, l.text
    from scheduler.log l
    where l.app = %(app)s and l.run_id = %(run)s and (l.attempt, l.line) > (%(attempt)s::smallint, %(line)s::integer)
    order by l.attempt, l.line
    limit %(limit)s
"""
_FINISHED: LiteralString = """
    select h.id, h.attempt, h.job, h.outcome, h.run_at, h.started_at, h.finished_at, h.retry_at, h.error, h.result
    from scheduler.history h
    where h.app = %(app)s and h.finished_at > scheduler.clock() - make_interval(secs => %(within)s)
    order by h.finished_at, h.id
    limit %(limit)s
"""


async def clock(conn: Connection) -> datetime:
    """The database's time."""
    instant = (await _read(conn, "select scheduler.clock() as now", {}))[0]["now"]
    if not isinstance(instant, datetime):
        raise TypeError(f"the database's clock says {instant}")
    return instant


async def known_apps(conn: Connection, *, among: Sequence[str] | None = None) -> list[str]:
    """Every app that has a job, a run, a past or a pause; with `among`, of these only."""
    return [row["app"] for row in await _read(conn, _apps(among) + _ALL_APPS, {"among": among})]


async def apps(conn: Connection, *, among: Sequence[str] | None = None, after: str = "", limit: int) -> list[Row]:
    """Apps by name, those later than `after`; with `among`, of these only."""
    query = _apps(among) + "," + _LANES + _HELD + _APP_ROWS
    return await _read(conn, query, {"among": among, "after": after, "limit": limit, "counted": COUNTED})


def _apps(among: Sequence[str] | None) -> LiteralString:
    return _APPS if among is None else _THESE_APPS


def counted(row: Row) -> Row:
    """Counts stop at a bound; the row then says that there is more, instead of a number that looks exact."""
    capped: Row = {key: row[key] > COUNTED for key in ("pending", "jobs", "keyed") if key in row}
    counts: Row = {key: min(row[key], COUNTED) for key in capped}
    return {**row, **counts, **{f"{key}_is_at_least": is_capped for key, is_capped in capped.items()}}


async def locate(conn: Connection, app: str) -> Row | None:
    """The living server that owns an app: server, epoch, address, label, host."""
    query: LiteralString = "select l.* from scheduler.locate(%(app)s) l"
    return next(iter(await _read(conn, query, {"app": app})), None)


async def queues(
    conn: Connection,
    *,
    app: str | None = None,
    among: Sequence[str] | None = None,
    after: tuple[str, str] = ("", ""),
    limit: int,
) -> list[Row]:
    """Queues that have runs or jobs, by app and name, those later than `after`; with `among`, of these apps only."""
    query: LiteralString = "with recursive" + _LANES + _QUEUES
    parameters = {"app": app, "among": among, "after_app": after[0], "after_queue": after[1]}
    return await _read(conn, query, {**parameters, "limit": limit, "counted": COUNTED})


async def servers(
    conn: Connection, *, gone: bool = False, before: int | None = None, dead_after: float, limit: int
) -> list[Row]:
    """Latest first, those with an id below `before`; with `gone` also those that stopped or died."""
    return await _read(conn, *_processes(_SERVERS, gone, before, dead_after, limit))


async def workers(
    conn: Connection, *, gone: bool = False, before: int | None = None, dead_after: float, limit: int
) -> list[Row]:
    """As `servers`."""
    return await _read(conn, *_processes(_WORKERS, gone, before, dead_after, limit))


async def jobs(
    conn: Connection,
    *,
    app: str | None = None,
    among: Sequence[str] | None = None,
    after: tuple[str, str] = ("", ""),
    limit: int,
) -> list[Row]:
    """Definitions by app and name, those later than `after`, with what is known of their past and future; with `among`,
    of these apps only.

    `pulse`: of one that a worker fires from its timer, which one does, and its fence; then `last_result` sums up the
    last few seconds.
    """
    parameters = {"app": app, "among": among, "after_app": after[0], "after_name": after[1], "limit": limit}
    page: LiteralString
    page = _EVERY_JOB if among is None else _JOBS_OF_APPS
    return await _read(conn, (page if app is None else _JOBS_OF_APP) + _JOBS, parameters)


async def job(conn: Connection, app: str, name: str) -> Row | None:
    """One definition, as in `jobs`."""
    return next(iter(await _read(conn, _ONE_JOB + _JOBS, {"app": app, "name": name})), None)


async def runs(
    conn: Connection,
    *,
    app: str | None = None,
    among: Sequence[str] | None = None,
    state: str | None = None,
    job: str | None = None,
    queue: str | None = None,
    before: int | None = None,
    limit: int,
) -> list[Row]:
    """Runs in every state, the latest id first, those with an id below `before`; with `among`, of these apps only."""
    asked = (_BEFORE if before is not None else "") + (_OF_JOB if job is not None else "")
    of_queue = _OF_QUEUE if queue is not None else ""
    pending = _PENDING_ROWS + asked
    pending = pending + (_FEW + of_queue + _TAKE if job is not None else _WALK + of_queue + _FIRST)
    held = _HELD_ROWS + asked + of_queue
    ended = _ENDED_ROWS + asked + _OUTCOMES.get(state or "", "") + _WALK + of_queue + _FIRST
    rows: LiteralString
    if state is None:
        rows = pending + _UNION + held + _TAKE + _UNION + ended
    elif state == "pending":
        rows = pending + _UNION + held + _PREFETCHED + _TAKE
    elif state == "running":
        rows = held + _BEGUN + _TAKE
    else:
        rows = ended
    query = (_THIS_APP if app is not None else _apps(among)) + _LATEST + rows + _THE_LATEST
    parameters = {"app": app, "among": among, "job": job, "queue": queue, "before": before, "limit": limit}
    return await _read(conn, query, parameters)


async def run(conn: Connection, run: int, *, app: str | None = None) -> list[Row]:
    """The run of this id; without `app` two, when two apps gave the same id themselves."""
    return await _read(conn, (_THIS_APP if app is not None else _APPS) + _RUN, {"app": app, "run": run})


async def attempts(conn: Connection, app: str, run: int, *, limit: int = 1_000) -> list[Row]:
    """The attempts of a run that ended, the first first; failed and lost ones too."""
    return await _read(conn, _ATTEMPTS, {"app": app, "run": run, "limit": limit})


async def log_lines(
    conn: Connection, app: str, run: int, *, after: tuple[int, int] = (0, 0), limit: int = 1_000
) -> list[Row]:
    """What a run wrote, after this (attempt, line)."""
    parameters = {"app": app, "run": run, "attempt": after[0], "line": after[1], "limit": limit}
    return await _read(conn, _LOG_LINES, parameters)


async def finished(conn: Connection, app: str, *, within: float, limit: int = 1_000) -> list[Row]:
    """Attempts of an app that ended in the last `within` seconds, the earliest first."""
    return await _read(conn, _FINISHED, {"app": app, "within": within, "limit": limit})


def _processes(
    query: LiteralString, gone: bool, before: int | None, dead_after: float, limit: int
) -> tuple[LiteralString, dict[str, Any]]:
    query = query + (_EVER if gone else _ALIVE) + _LATEST_PROCESSES
    return query, {"before": _LAST_ID if before is None else before, "dead_after": dead_after, "limit": limit}


async def _read(conn: Connection, query: LiteralString, parameters: dict[str, Any]) -> list[Row]:
    async with conn.transaction(), conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_BY_KEY)
        cursor.adapters.register_loader("timestamptz", _InstantLoader)
        cursor.adapters.register_loader("jsonb", _JsonLoader)
        cursor.adapters.register_loader("float8", _FloatLoader)
        await cursor.execute(query, parameters)
        return await cursor.fetchall()


class _InstantLoader(Loader):
    def load(self, data: Buffer) -> datetime | str:
        text = bytes(data).decode()
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            return text


class _JsonLoader(Loader):
    def load(self, data: Buffer) -> Any:
        """The value; its text when Python cannot hold it: nested 1,000 deep, an integer of 5,000 digits, 1e400."""
        text = bytes(data).decode()
        try:
            return json.loads(text, parse_float=_finite)
        except (ValueError, RecursionError):
            return text


class _FloatLoader(Loader):
    def load(self, data: Buffer) -> float | None:
        """None for an endless duration (PostgreSQL 17 has them), which JSON cannot say."""
        number = float(bytes(data))
        return number if math.isfinite(number) else None


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(text)
    return number
