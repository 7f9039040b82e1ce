"""A database that has been in use: a million pending runs, a million attempts of eight days, and what goes with them.

Written by the server itself, in two sessions at a time. Autovacuum keeps away: what the planner is to know, tests say.
The clock stands still at NOON, the middle of the last of the eight days.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import LiteralString

import psycopg
from psycopg.sql import SQL, Identifier

from scheduler import db
from scheduler.store import partition
from scheduler.store.partition import TABLES, Partition
from tests.support import statistics
from tests.support.clock import Clock

NOON = "2040-03-08T12:00:00+00:00"
DAYS = 8
"""Days of history; the first one lies in the default partitions, as that of a new database does."""
PENDING = 1_000_000
ENDED = 1_000_000
KEYS = PENDING // 10
JOBS = 100_000
LEASES = 200
HELD = 50
"""Runs to a lease."""
WORKERS = 20_000
"""Workers ever; the last ALIVE are there still."""
PULSES = JOBS // 100
"""Jobs that are fired from timers; half of them wait for a worker."""
ALIVE = 40
SERVERS = 2_000
"""Servers ever; the last four are there still, and the last one owns all that has jobs."""
OWNED = 20_000
"""Apps of the other three."""

# Three large apps and 17 small ones; four queues, three priorities and three executors to each. Nothing is at random.
_APP: LiteralString = """
    case when i % 20 < 12 then 'shop' when i % 20 < 18 then 'billing' when i % 20 < 19 then 'mail'
        else 'tenant ' || i % 17 end
"""
_QUEUE: LiteralString = "(array['default', 'bulk', 'slow', 'mail'])[1 + (i / 7) % 4]"
_EXECUTOR: LiteralString = "(array['python', 'http', 'shell'])[1 + (i / 11) % 3]"
_SPEC: LiteralString = """'{"task": "send_email", "args": {"to": "a@b"}}'"""
_JOB: LiteralString = "case when i % 5 = 0 then 'job ' || (i / 5) % 20000 end"

_RUNS: LiteralString = f"""
    insert into scheduler.run (app, queue, id, executor, spec, run_at, priority, job, scheduled_at, unique_key)
    select {_APP}, {_QUEUE}, {ENDED} + i, {_EXECUTOR}, {_SPEC},
        -- All of the first priority are yet to come, of the others every second.
        scheduler.clock() + case
            when (i / 3) % 3 = 0 or i % 2 = 0 then (i * 7919::bigint) % 2592000
            else -((i * 7919::bigint) % 86400)
        end * interval '1 second',
        (i / 3) % 3, {_JOB},
        case when i % 5 = 0 then scheduler.clock() + (i * 7919::bigint) % 2592000 * interval '1 second' end,
        case when i % 10 = 1 then 'key ' || i end
    from generate_series(1, {PENDING}) i
"""
_KEYS: LiteralString = f"""
    insert into scheduler.run_key (app, unique_key, run_id)
    select {_APP}, 'key ' || i, {ENDED} + i from generate_series(1, {PENDING}, {PENDING // KEYS}) i
"""
_WAITING: LiteralString = f"""
    insert into scheduler.run (app, id, executor, run_at, job, scheduled_at)
    select 'shop', {ENDED} + {PENDING} + i, 'python', 'infinity', 'job ' || i % 100,
        scheduler.clock() - i * interval '1 second'
    from generate_series(1, 500) i
"""
_LEASES: LiteralString = f"""
    insert into scheduler.lease (app, worker, queue, claimed_at, begun_at, size, jobs, done, runs)
    select c.app, {WORKERS} - {ALIVE} + 1 + lease % {ALIVE}, c.queue, scheduler.clock(),
        case when lease % 3 > 0 then scheduler.clock() end, {HELD},
        case when lease % 5 = 0 then array['job ' || (lease / 5) % 20000] end,
        case when lease % 4 = 0 then array[{ENDED} + {PENDING} + 1000 + lease * {HELD} + 1] end,
        (
            select array_agg(row(
                {ENDED} + {PENDING} + 1000 + lease * {HELD} + n, scheduler.clock(), 0, 0, 3, 0, c.app, c.queue,
                c.executor, {_SPEC}::jsonb, null, null, null,
                case when lease % 5 = 0 then 'job ' || (lease / 5) % 20000 end, null, null, null, null, null, null
            )::scheduler.run)
            from generate_series(1, {HELD}) n
        )
    from generate_series(0, {LEASES} - 1) lease
    cross join lateral (
        select {_APP}, {_QUEUE}, {_EXECUTOR} from (select lease) as s (i)
    ) as c (app, queue, executor)
"""
_PROCESSES: LiteralString = f"""
    insert into scheduler.worker (label, host, pid, executors, concurrency, version, started_at, seen_at, stopped_at)
    select 'worker', 'host ' || i % 100, i, '{{python,http,shell}}', 10, '1', scheduler.clock(), scheduler.clock(),
        case when i <= {WORKERS} - {ALIVE} then scheduler.clock() - interval '1 hour' end
    from generate_series(1, {WORKERS}) i;
    insert into scheduler.server (label, host, pid, version, started_at, seen_at, stopped_at)
    select 'server', 'host ' || i % 100, i, '1', scheduler.clock(), scheduler.clock(),
        case when i <= {SERVERS} - 4 then scheduler.clock() - interval '1 hour' end
    from generate_series(1, {SERVERS}) i
"""
_OWNERS: LiteralString = f"""
    insert into scheduler.owner (app, server, epoch, weight)
    select distinct {_APP}, {SERVERS}, 1, 1000 from generate_series(1, {JOBS}) i;
    insert into scheduler.owner (app, server, epoch, weight)
    select 'other ' || i, {SERVERS} - 1 - i % 3, 2, 1 from generate_series(1, {OWNED}) i;
    select setval('scheduler.epoch', 2)
"""
# As many jobs to an app as it has runs; one in a thousand is due. 500 of them are @after and await a run's end.
_JOBS: LiteralString = f"""
    insert into scheduler.job (app, name, schedule, executor, spec, queue, overlap, created_at)
    select {_APP}, 'job ' || i, '0 3 * * *', {_EXECUTOR}, {_SPEC}, {_QUEUE},
        (array['skip', 'allow', 'queue', 'replace'])[1 + i / 100 % 4], scheduler.clock()
    from generate_series(1, {JOBS}) i;
    insert into scheduler.job_schedule (app, job, next_at, after_at, anchor_at, delay, awaits)
    select {_APP}, 'job ' || i,
        case when i % 200 > 0 then scheduler.clock()
            + case when i % 1000 = 1 then 1 else 60 + (i * 7919::bigint) % 86400 end * interval '1 second' end,
        scheduler.clock(), scheduler.clock(), case when i % 200 = 0 then interval '1 minute' end,
        case when i % 200 = 0 then {ENDED} + i * 10 end
    from generate_series(1, {JOBS}) i
"""
# A change of each job, in no chain that would verify.
_AUDIT: LiteralString = f"""
    insert into scheduler.audit (app, n, at, role, action, object, before, after, previous, hash)
    select c.app, row_number() over (partition by c.app order by c.i),
        scheduler.clock() - ({JOBS} - c.i) * interval '1 s', 'ada', 'edit', 'job job ' || c.i,
        '{{"priority": 1}}', '{{"priority": 2}}', sha256(''), sha256('')
    from (select i, {_APP} as app from generate_series(1, {JOBS}) i) c;
    insert into scheduler.audit_head (app, n, at, hash)
    select a.app, max(a.n), max(a.at), sha256('') from scheduler.audit a group by a.app
"""
# Every hundredth job is fired by workers from timers; half of these wait for one.
_PULSES: LiteralString = f"""
    insert into scheduler.pulse (
        app, job, revision, period, from_end, anchor_at, worker, lease, taken_at, reported_at, run_id, run
    )
    select {_APP}, 'job ' || i, 1, interval '1 second', false, scheduler.clock(),
        case when i % 200 = 0 then {WORKERS} - {ALIVE} + 1 + i / 200 % {ALIVE} end,
        case when i % 200 = 0 then nextval('scheduler.lease_id') end, scheduler.clock(), scheduler.clock(),
        case when i % 200 = 0 then {ENDED} + {PENDING} + 900 end,
        case when i % 200 = 0 then jsonb_populate_record(null::scheduler.run, jsonb_build_object(
            'id', 0, 'app', {_APP}, 'queue', {_QUEUE}, 'executor', {_EXECUTOR}, 'spec', {_SPEC}::jsonb, 'priority', 0
        )) end
    from generate_series(100, {JOBS}, 100) i
"""
_HISTORY: LiteralString = f"""
    insert into scheduler.history (
        app, queue, id, job, executor, spec, outcome, attempt, retry_at, priority, max_attempts, run_at, started_at,
        finished_at, worker, fence, error, unique_key
    )
    select {_APP}, {_QUEUE}, i, {_JOB}, {_EXECUTOR}, {_SPEC},
        case when i % 200 < 2 then 'failed' when i % 1000 = 2 then 'cancelled' else 'succeeded' end,
        1, case when i % 200 = 1 then at end, 0, 3, at, at, at, i % {WORKERS}, i / 100,
        case when i % 200 < 2 then 'ValueError: 7' end, case when i % 10 = 1 then 'key ' || i end
    from generate_series(1, {ENDED}) i
    cross join lateral (
        select scheduler.clock() - ({ENDED} - i) * interval '{DAYS - 1} days' / {ENDED} as at
    ) t
"""
_LOG: LiteralString = f"""
    insert into scheduler.log (app, run_id, attempt, line, at, stream, text)
    select {_APP}, i, 1, line, scheduler.clock() - ({ENDED} - i) * interval '{DAYS - 1} days' / {ENDED}, 'stdout', 'x'
    from generate_series(10, {ENDED}, 10) i cross join generate_series(1, 2) line
"""
_FIRES: LiteralString = f"""
    insert into scheduler.fire (app, job, scheduled_at, outcome, run_id, decided_at)
    select {_APP}, 'job ' || (i / 5) % 20000,
        scheduler.clock() - ({ENDED} - i) * interval '{DAYS - 1} days' / {ENDED}, 'planned', i, scheduler.clock()
    from generate_series(5, {ENDED}, 5) i
"""
_SEQUENCES: LiteralString = f"select setval('scheduler.run_id', {ENDED} + {PENDING} + 1000 + {LEASES} * {HELD} + 1000)"


def fill(dsn: str) -> None:
    """Fills an installed, empty database."""
    Clock(dsn, []).set(NOON)
    asyncio.run(_partition(dsn))
    with psycopg.connect(dsn, autocommit=True) as conn:
        for (table,) in conn.execute(_LEAVES).fetchall():
            # Nobody vacuums or analyses behind the tests' back.
            conn.execute(SQL("alter table {} set (autovacuum_enabled = off)").format(Identifier("scheduler", table)))
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(_run, dsn, each) for each in _SHARES]:
            done.result()
    with psycopg.connect(dsn, autocommit=True) as conn:
        statistics.prepare(conn)


_LEAVES: LiteralString = """
    select c.relname from pg_class c where c.relnamespace = 'scheduler'::regnamespace and c.relkind = 'r'
"""
_SHARES = [
    [_HISTORY, _LOG],
    [_RUNS, _KEYS, _WAITING, _LEASES, _PROCESSES, _JOBS, _AUDIT, _PULSES, _OWNERS, _FIRES, _SEQUENCES],
]


def _run(dsn: str, statements: Sequence[LiteralString]) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        # No triggers: they would wake nobody, and take the unique keys one by one.
        conn.execute("set session_replication_role = replica")
        for statement in statements:
            conn.execute(statement)


async def _partition(dsn: str) -> None:
    async with await db.connect(dsn, name="tests") as conn:
        _, now = await partition.partitions(conn)
        for day in range(2 - DAYS, 4):
            for table in TABLES:
                await partition.create(conn, Partition(table, now.date() + timedelta(days=day)))
