"""What may be wrong with a database: its server, its partitions, its processes, what is defined and due in it.

For `scheduler doctor`. Nothing here reads a large table but by a key, and each list has an end.
"""

from __future__ import annotations

from typing import Any, LiteralString

from scheduler.store.watch.lanes import LANES
from scheduler.store.watch.reading import Connection, Row, read

MOST = 100
"""Rows of a list."""
APPS_MOST = 1_000
"""Apps whose failures are looked at."""

_SETTINGS: LiteralString = """
    select s.name, s.setting, s.source from pg_settings s
    where s.name in ('fsync', 'full_page_writes', 'synchronous_commit', 'autovacuum', 'track_counts')
"""
_CONNECTIONS: LiteralString = """
    select (select count(*) from pg_stat_activity a where a.backend_type = 'client backend') as used,
        (select sum(case when s.name = 'max_connections' then s.setting::integer else -s.setting::integer end)::integer
         from pg_settings s
         where s.name in ('max_connections', 'superuser_reserved_connections', 'reserved_connections')) as most
"""
_ALIVE: LiteralString = """
    select (select count(*) from scheduler.server s where s.dead_at is null and s.stopped_at is null) as servers,
        (select count(*) from scheduler.worker w where w.dead_at is null and w.stopped_at is null) as workers
"""
_TABLES: LiteralString = """
    select c.relname as table from pg_class c
    where c.relnamespace = 'scheduler'::regnamespace and c.relkind = 'r' and exists (
        select from pg_options_to_table(c.reloptions) o
        where o.option_name = 'autovacuum_enabled' and not o.option_value::boolean
    )
    order by c.relname
"""
_DEAD_ROWS: LiteralString = """
    select t.relname as table, t.n_dead_tup as dead, t.n_live_tup as live,
        greatest(t.last_vacuum, t.last_autovacuum) as vacuumed_at
    from pg_stat_user_tables t
    where t.schemaname = 'scheduler' and t.n_dead_tup >= %(least)s and t.n_dead_tup > t.n_live_tup
    order by t.n_dead_tup desc
    limit %(limit)s
"""
# Texts are taken out of the query: there may be a password or a person in them.
_SNAPSHOTS: LiteralString = """
    (
        select 'session' as kind, a.pid, a.usename::text as role, a.application_name as application, a.state,
            extract(epoch from statement_timestamp() - a.xact_start)::float8 as age, null::text as name,
            left(regexp_replace(regexp_replace(a.query, '''[^'']*''', '''…''', 'g'), '\\s+', ' ', 'g'), 120) as query
        from pg_stat_activity a
        where a.datname = current_database() and a.pid <> pg_backend_pid() and a.xact_start is not null
            and (a.backend_xmin is not null or a.backend_xid is not null) and a.backend_type <> 'autovacuum worker'
        order by a.xact_start
        limit 1
    )
    union all
    (
        select 'prepared', null, p.owner::text, null, 'prepared',
            extract(epoch from statement_timestamp() - p.prepared)::float8, p.gid, null
        from pg_prepared_xacts p
        where p.database = current_database()
        order by p.prepared
        limit 1
    )
"""
_SLOTS: LiteralString = """
    select s.slot_name::text as name, s.active as is_active, s.wal_status,
        s.xmin is not null or s.catalog_xmin is not null as holds_rows,
        case
            when not pg_is_in_recovery() then pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::bigint
        end as behind,
        current_setting('max_slot_wal_keep_size') = '-1' as keeps_all
    from pg_replication_slots s
    where not s.temporary
    order by s.slot_name
    limit %(limit)s
"""
_WAL: LiteralString = """
    select coalesce(sum(w.size), 0)::bigint as size, pg_size_bytes(current_setting('max_wal_size')) as max_wal_size,
        pg_size_bytes(current_setting('wal_keep_size')) as wal_keep_size
    from pg_ls_waldir() w
"""
_ARCHIVING: LiteralString = """
    select a.last_failed_time as failed_at, a.last_failed_wal as file, a.failed_count as failures
    from pg_stat_archiver a
    where current_setting('archive_mode') <> 'off'
        and a.last_failed_time > coalesce(a.last_archived_time, '-infinity'::timestamptz)
"""
_FAKED: LiteralString = """
    select nullif(current_setting('scheduler.fake_clock', true), '') as fake, current_database()::text as database
"""
_ORPHANS: LiteralString = """
    select c.relname as name, coalesce(i.inhdetachpending, false) as is_pending
    from pg_class c
    left join pg_inherits i on i.inhrelid = c.oid
    where c.relnamespace = 'scheduler'::regnamespace and c.relkind = 'r'
        and c.relname ~ '^(history|log|fire)_[0-9]{8}$' and (i.inhrelid is null or i.inhdetachpending)
    order by c.relname
"""
# Rows are only ever added at the end, so the first few and the last page tell which days there are. Two looks by place:
# of one condition with `or` PostgreSQL would read the whole table.
_DEFAULTS: LiteralString = """
    select 'history' as table, min(d.at) as earliest, max(d.at) as latest
    from (
        select h.finished_at as at from scheduler.history_default h where h.ctid = any (%(first)s::tid[])
        union all
        select h.finished_at from scheduler.history_default h
        where h.ctid >= (
            select format('(%%s,0)', greatest(pg_relation_size('scheduler.history_default') / b.size - 1, 0))::tid
            from (select current_setting('block_size')::integer as size) b
        )
    ) d
    union all
    select 'log', min(d.at), max(d.at)
    from (
        select l.at from scheduler.log_default l where l.ctid = any (%(first)s::tid[])
        union all
        select l.at from scheduler.log_default l
        where l.ctid >= (
            select format('(%%s,0)', greatest(pg_relation_size('scheduler.log_default') / b.size - 1, 0))::tid
            from (select current_setting('block_size')::integer as size) b
        )
    ) d
"""
_CLOCKS: LiteralString = """
    select p.kind, p.id, p.label, p.host, p.clock_ahead
    from (
        select 'server' as kind, s.id, s.label, s.host, s.clock_ahead from scheduler.server s
        where s.dead_at is null and s.stopped_at is null
        union all
        select 'worker', w.id, w.label, w.host, w.clock_ahead from scheduler.worker w
        where w.dead_at is null and w.stopped_at is null
    ) p
    where abs(p.clock_ahead) > %(most)s
    order by p.kind, p.id
    limit %(limit)s
"""
_SERVERS: LiteralString = """
    select exists (
            select from scheduler.server s
            where s.dead_at is null and s.stopped_at is null
                and s.seen_at > scheduler.clock() - make_interval(secs => %(dead_after)s)
        ) as has_server,
        (select true from scheduler.job j limit 1) is not null as has_jobs,
        (select count(*) from scheduler.worker w where w.dead_at is null and w.stopped_at is null) as workers
"""
# A worker of ours has a session for its heartbeats, named by its id; one in another language, or over HTTP, has none,
# and need not listen. Labels so long that PostgreSQL cuts the name, at 63 bytes, are left out.
_LISTENERS: LiteralString = """
    with backend as materialized (
        select a.application_name as name, count(*) as count from pg_stat_activity a
        where a.datname = current_database() and starts_with(a.application_name, 'walclock ') group by 1
    ), process as (
        select 'worker' as kind, w.id, w.label, 'walclock worker listener ' || w.label as listener
        from scheduler.worker w
        join backend b on b.name = 'walclock heartbeat ' || w.id
        where w.dead_at is null and w.stopped_at is null
            and w.seen_at > scheduler.clock() - make_interval(secs => %(dead_after)s)
        union all
        select 'server', s.id, s.label, 'walclock server ' || s.label || ' listener'
        from scheduler.server s
        join backend b on b.name = 'walclock server ' || s.label || ' heartbeat'
        where s.dead_at is null and s.stopped_at is null
            and s.seen_at > scheduler.clock() - make_interval(secs => %(dead_after)s)
    ), expected as (
        select p.kind, p.label, p.listener, array_agg(p.id order by p.id) as ids
        from process p where octet_length(p.listener) <= 63 group by p.kind, p.label, p.listener
    )
    select e.kind, e.label, e.ids, coalesce(b.count, 0) as listening
    from expected e left join backend b on b.name = e.listener
    where coalesce(b.count, 0) < cardinality(e.ids)
    order by e.kind, e.label
    limit %(limit)s
"""
_INVALID: LiteralString = """
    select s.app, s.job, j.schedule, j.timezone, s.error
    from scheduler.job_schedule s
    cross join lateral (select j.* from scheduler.job j where j.app = s.app and j.name = s.job offset 0) j
    where s.error is not null
    order by s.app, s.job
    limit %(limit)s
"""
_APPS_WITH_JOBS: LiteralString = """
    with recursive of_job (app) as (
        (select j.app from scheduler.job j order by j.app, j.name limit 1)
        union all
        select n.app from of_job o cross join lateral (
            select j.app from scheduler.job j where j.app > o.app order by j.app, j.name limit 1
        ) n
    )
"""
_NO_OWNER: LiteralString = """
    , alive as materialized (
        select s.id from scheduler.server s where s.dead_at is null and s.stopped_at is null
    )
    select j.app, (select o.server from scheduler.owner o where o.app = j.app) as server from of_job j
    where not exists (
        select from alive s where s.id = (select o.server from scheduler.owner o where o.app = j.app)
    )
    limit %(limit)s
"""
_NEVER: LiteralString = """
    , failing as materialized (
        select distinct k.app, f.job
        from (select o.app from of_job o limit %(apps)s) k
        cross join lateral (
            select h.job from scheduler.history h where h.app = k.app and h.outcome <> 'succeeded'
            order by h.id desc limit 100
        ) f
        where f.job is not null
        limit %(jobs)s
    )
    select f.app, f.job, e.ended, e.last_at, e.error
    from failing f
    cross join lateral (
        select count(*) as ended, count(*) filter (where l.outcome = 'succeeded') as succeeded,
            max(l.finished_at) as last_at, (array_agg(l.error order by l.id desc))[1] as error
        from (
            select h.id, h.outcome, h.finished_at, h.error from scheduler.history h
            where h.app = f.app and h.job = f.job and h.retry_at is null
            order by h.id desc
            limit 20
        ) l
        where l.outcome <> 'cancelled'
    ) e
    where e.succeeded = 0 and e.ended >= %(failures)s
        and (select j.name from scheduler.job j where j.app = f.app and j.name = f.job) is not null
    order by f.app, f.job
    limit %(limit)s
"""
_DUE: LiteralString = """
    , due as materialized (
        select u.app, u.queue, l.executor, min(l.run_at) as since, false as is_keyed
        from unkeyed u cross join lateral scheduler.lanes(u.app, u.queue) l
        where l.run_at <= scheduler.clock() and isfinite(l.run_at) group by 1, 2, 3
        union all
        select k.app, k.queue, k.executor, min(k.run_at), true from keyed k
        where k.run_at <= scheduler.clock() and isfinite(k.run_at) group by 1, 2, 3
    ), alive as materialized (
        select w.apps, w.queues, w.executors from scheduler.worker w
        where w.dead_at is null and w.stopped_at is null
            and w.seen_at > scheduler.clock() - make_interval(secs => %(dead_after)s)
    ), served as (
        select d.*, (
            select count(*) from alive w
            where (w.apps is null or d.app = any (w.apps)) and (w.queues is null or d.queue = any (w.queues))
                and d.executor = any (w.executors)
        ) as workers,
        (
            select q.queue from scheduler.queue_limit q where q.app = d.app and q.queue = d.queue
        ) is not null as is_limited
        from due d
        where d.executor <> 'event'
            and (select a.paused_at from scheduler.app a where a.app = d.app) is null
    )
    select s.app, s.queue, s.executor, min(s.since) as since, min(s.workers) as workers,
        extract(epoch from scheduler.clock() - min(s.since))::float8 as late
    from served s
    where s.workers = 0
        or (not s.is_keyed and not s.is_limited and s.since < scheduler.clock() - make_interval(secs => %(late)s))
    group by s.app, s.queue, s.executor
    order by 1, 2, 3
    limit %(limit)s
"""
_TOKENS: LiteralString = """
    select t.name, t.expires_at, t.expires_at <= scheduler.clock() as has_expired from scheduler.token t
    where t.revoked_at is null and t.expires_at between scheduler.clock() - interval '7 days'
        and scheduler.clock() + make_interval(secs => %(within)s)
    order by t.expires_at
    limit %(limit)s
"""


async def server_time(conn: Connection) -> float:
    """The database server's own clock, in seconds since the epoch; never the faked one."""
    rows = await read(conn, "select extract(epoch from clock_timestamp())::float8 as now", {})
    return float(rows[0]["now"])


async def faked_clock(conn: Connection) -> Row:
    return (await read(conn, _FAKED, {}))[0]


async def wrong_clocks(conn: Connection, *, most: float) -> list[Row]:
    """Living servers and workers whose machine's clock is further off the database's, as they said with a heartbeat."""
    return await read(conn, _CLOCKS, {"most": most, "limit": MOST})


async def settings(conn: Connection) -> Row:
    """Those that can hurt, as this session has them; `sources`: where each was set."""
    rows = await read(conn, _SETTINGS, {})
    return {**{row["name"]: row["setting"] for row in rows}, "sources": {row["name"]: row["source"] for row in rows}}


async def connections(conn: Connection) -> Row:
    return (await read(conn, _CONNECTIONS, {}))[0]


async def alive(conn: Connection) -> Row:
    return (await read(conn, _ALIVE, {}))[0]


async def tables_without_autovacuum(conn: Connection) -> list[str]:
    return [row["table"] for row in await read(conn, _TABLES, {})]


async def dead_rows(conn: Connection, *, least: int) -> list[Row]:
    return await read(conn, _DEAD_ROWS, {"least": least, "limit": MOST})


async def snapshots(conn: Connection) -> list[Row]:
    """The oldest that a session holds, and the oldest prepared transaction."""
    return await read(conn, _SNAPSHOTS, {})


async def slots(conn: Connection) -> list[Row]:
    return await read(conn, _SLOTS, {"limit": MOST})


async def wal(conn: Connection) -> Row:
    return (await read(conn, _WAL, {}))[0]


async def archiving(conn: Connection) -> Row | None:
    """The last failure, if no success came after it."""
    return next(iter(await read(conn, _ARCHIVING, {})), None)


async def notify_queue(conn: Connection) -> Row:
    return (await read(conn, "select pg_notification_queue_usage() as ratio", {}))[0]


async def orphaned_partitions(conn: Connection) -> list[Row]:
    """Tables named as a partition that are none, or are about to be none."""
    return await read(conn, _ORPHANS, {})


async def default_partitions(conn: Connection) -> list[Row]:
    """The earliest and latest instant in the default partitions of history and log, of the first rows and last page."""
    first = [f"(0,{line})" for line in range(1, 9)]
    return await read(conn, _DEFAULTS, {"first": first})


async def servers(conn: Connection, *, dead_after: float) -> Row:
    return (await read(conn, _SERVERS, {"dead_after": dead_after}))[0]


async def deaf(conn: Connection, *, dead_after: float) -> list[Row]:
    """Living processes, by kind and label, of which fewer listen than there are."""
    return await read(conn, _LISTENERS, {"dead_after": dead_after, "limit": MOST})


async def invalid_jobs(conn: Connection) -> list[Row]:
    return await read(conn, _INVALID, {"limit": MOST})


async def apps_without_owner(conn: Connection) -> list[Row]:
    return await read(conn, _APPS_WITH_JOBS + _NO_OWNER, {"limit": MOST})


async def never_succeeding(conn: Connection, *, failures: int) -> list[Row]:
    """Jobs that failed lately, whose last 20 runs hold no success."""
    parameters: dict[str, Any] = {"apps": APPS_MOST, "jobs": 2 * MOST, "failures": failures, "limit": MOST}
    return await read(conn, _APPS_WITH_JOBS + _NEVER, parameters)


async def due(conn: Connection, *, dead_after: float, late: float) -> list[Row]:
    """What is due and has no worker, or is late although it has some and no limit keeps it."""
    query: LiteralString = "with recursive" + LANES + _DUE
    return await read(conn, query, {"dead_after": dead_after, "late": late, "limit": MOST})


async def expiring_tokens(conn: Connection, *, within: float) -> list[Row]:
    return await read(conn, _TOKENS, {"within": within, "limit": MOST})
