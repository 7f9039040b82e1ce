"""Apps and queues, by what waits in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

from scheduler.store.watch import known
from scheduler.store.watch.reading import COUNTED, Connection, Row, read

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
LANES: LiteralString = """
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


async def apps(conn: Connection, *, among: Sequence[str] | None = None, after: str = "", limit: int) -> list[Row]:
    """Apps by name, those later than `after`; with `among`, of these only."""
    query = known.of(among) + "," + LANES + _HELD + _APP_ROWS
    return await read(conn, query, {"among": among, "after": after, "limit": limit, "counted": COUNTED})


def counted(row: Row) -> Row:
    """Counts stop at a bound; the row then says that there is more, instead of a number that looks exact."""
    capped: Row = {key: row[key] > COUNTED for key in ("pending", "jobs", "keyed") if key in row}
    counts: Row = {key: min(row[key], COUNTED) for key in capped}
    return {**row, **counts, **{f"{key}_is_at_least": is_capped for key, is_capped in capped.items()}}


async def locate(conn: Connection, app: str) -> Row | None:
    """The living server that owns an app: server, epoch, address, label, host."""
    query: LiteralString = "select l.* from scheduler.locate(%(app)s) l"
    return next(iter(await read(conn, query, {"app": app})), None)


async def queues(
    conn: Connection,
    *,
    app: str | None = None,
    among: Sequence[str] | None = None,
    after: tuple[str, str] = ("", ""),
    limit: int,
) -> list[Row]:
    """Queues that have runs or jobs, by app and name, those later than `after`; with `among`, of these apps only."""
    query: LiteralString = "with recursive" + LANES + _QUEUES
    parameters = {"app": app, "among": among, "after_app": after[0], "after_queue": after[1]}
    return await read(conn, query, {**parameters, "limit": limit, "counted": COUNTED})
