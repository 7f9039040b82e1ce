"""What bears on one run: pauses, limits, what comes before it, and what happened to it. For `scheduler why`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString

import psycopg

from scheduler.store.watch.reading import Connection, Row, read

BEFORE_MOST = 10_000
"""Runs that come before one are counted up to here; one more means `more`."""
SHOWN = 20
"""Runs that hold a limit, changes by people: as many are named."""
MEASURED = 2_000
"""Attempts, the latest of the app, of which a queue's rate is measured."""
LATELY = 600.0
"""Seconds; what started earlier says nothing of how fast a queue drains."""

_HELD: LiteralString = """
    select l.claimed_at, l.begun_at, l.size, l.size - cardinality(coalesce(l.done, '{}')) as open, r.lost,
        extract(epoch from r.timeout)::float8 as timeout, %(run)s = any (coalesce(l.cancel, '{}')) as is_cancelled
    from scheduler.lease l cross join lateral unnest(l.runs) r
    where l.app = %(app)s and l.id = %(lease)s and r.id = %(run)s
"""
_WAITING: LiteralString = "select r.lost from scheduler.run r where r.app = %(app)s and r.id = %(run)s"
_DEFINED: LiteralString = """
    select (select a.paused_at from scheduler.app a where a.app = %(app)s) as app_paused_at,
        (select j.paused_at from scheduler.job j where j.app = %(app)s and j.name = %(job)s) as job_paused_at,
        (select j.overlap from scheduler.job j where j.app = %(app)s and j.name = %(job)s) as overlap,
        exists (
            select from scheduler.server s
            where s.dead_at is null and s.stopped_at is null
                and s.seen_at > scheduler.clock() - make_interval(secs => %(dead_after)s)
        ) as has_server
"""
_LIMIT: LiteralString = """
    select q.concurrency_limit, q.rate_limit, extract(epoch from q.rate_interval)::float8 as rate_interval, w.taken,
        w.slots, w.tokens, extract(epoch from w.wait)::float8 as wait
    from scheduler.queue_limit q cross join lateral scheduler.leeway(q.app, q.queue) w
    where q.app = %(app)s and q.queue = %(queue)s
"""
_QUEUE_HOLDERS: LiteralString = """
    select r.id as run, l.worker, l.begun_at as since from scheduler.lease l cross join lateral unnest(l.runs) r
    where l.app = %(app)s and l.queue = %(queue)s and r.id <> all (coalesce(l.done, '{}'))
    limit %(limit)s
"""
_KEY_HOLDERS: LiteralString = """
    select s.run_id as run, l.worker, l.begun_at as since
    from scheduler.slot s
    left join lateral (
        select l.worker, l.begun_at from scheduler.lease l where l.app = s.app and l.id = s.lease offset 0
    ) l on true
    where s.app = %(app)s and s.concurrency_key = %(key)s
    limit %(limit)s
"""
# Lane by lane, up to the run's own place in its priority: the bound is a pair of values, so that each lane is entered
# at its head and left there. A condition with `or` would walk on to the end of what is due.
_BEFORE: LiteralString = """
    select coalesce(sum(c.count), 0)::bigint as count,
        coalesce(sum(c.count) filter (where l.priority < %(priority)s), 0)::bigint as of_higher_priority
    from scheduler.lanes(%(app)s, %(queue)s) l
    cross join lateral (
        select case when l.priority < %(priority)s then 'infinity' else %(run_at)s::timestamptz end as at,
            case when l.priority < %(priority)s then 9223372036854775807 else %(run)s::bigint end as id
        offset 0
    ) b
    cross join lateral (
        select count(*) from (
            select from scheduler.run r
            where r.app = %(app)s and r.queue = %(queue)s and r.concurrency_key is null and r.priority = l.priority
                and r.executor = l.executor and r.run_at <= scheduler.clock() and (r.run_at, r.id) < (b.at, b.id)
            order by r.run_at, r.id
            limit %(most)s + 1
        ) c
    ) c
    where l.priority <= %(priority)s and l.executor = any (%(executors)s) and l.run_at <= scheduler.clock()
"""
_BEFORE_OF_KEY: LiteralString = """
    select h.count + e.count as count, h.count as of_higher_priority
    from (
        select count(*) from (
            select from scheduler.run r
            where r.app = %(app)s and r.queue = %(queue)s and r.concurrency_key = %(key)s
                and r.priority < %(priority)s and r.executor = any (%(executors)s) and r.run_at <= scheduler.clock()
            order by r.priority, r.executor, r.run_at, r.id
            limit %(most)s + 1
        ) c
    ) h
    cross join (
        select count(*) from (
            select from scheduler.run r
            where r.app = %(app)s and r.queue = %(queue)s and r.concurrency_key = %(key)s
                and r.priority = %(priority)s and r.executor = %(executor)s and r.run_at <= scheduler.clock()
                and (r.run_at, r.id) < (%(run_at)s::timestamptz, %(run)s::bigint)
            order by r.run_at, r.id
            limit %(most)s + 1
        ) c
    ) e
"""
# The page first, by its key, and then what of it is of the queue and of lately: history has no index by time.
_DRAINED: LiteralString = """
    select count(*) as started, extract(epoch from scheduler.clock() - min(p.started_at))::float8 as within
    from (
        select h.queue, h.started_at from scheduler.history h where h.app = %(app)s
        order by h.id desc limit %(measured)s
    ) p
    where p.queue = %(queue)s and p.started_at > scheduler.clock() - make_interval(secs => %(lately)s)
"""
_PREVIOUS: LiteralString = """
    (
        select r.id as run, l.worker, l.begun_at as since from scheduler.lease l cross join lateral unnest(l.runs) r
        where l.app = %(app)s and %(job)s = any (l.jobs) and r.job = %(job)s and r.id <> all (coalesce(l.done, '{}'))
        limit %(limit)s
    )
    union all
    (
        select r.id, null, null from scheduler.run r
        where r.app = %(app)s and r.job = %(job)s and r.id <> %(run)s
            and (r.run_at < 'infinity' or r.scheduled_at < %(scheduled_at)s::timestamptz)
        order by r.scheduled_at
        limit %(limit)s
    )
"""
_FIRE: LiteralString = """
    select f.outcome, f.reason, f.decided_at from scheduler.fire f
    where f.app = %(app)s and f.job = %(job)s and f.scheduled_at = %(scheduled_at)s::timestamptz
"""
_CHANGES: LiteralString = """
    select a.at, a.role, a.actor, a.action, a.after from scheduler.audit a
    where a.app = %(app)s and a.object = 'run ' || %(run)s::text
    order by a.n
    limit %(limit)s
"""
_TRIGGERED: LiteralString = """
    select t.at, t.role, t.actor, t.action, null::json as after
    from (
        select a.at, a.role, a.actor, a.action, a.after from scheduler.audit a
        where a.app = %(app)s and a.object = 'job ' || %(job)s::text
        order by a.app desc, a.object desc, a.n desc
        limit 10 * %(limit)s
    ) t
    where t.action = 'trigger' and t.after ->> 'run' = %(run)s::text
"""
_KNOWN_WORKERS: LiteralString = """
    select w.id, w.label, w.host, w.dead_at, w.stopped_at,
        extract(epoch from scheduler.clock() - w.seen_at)::float8 as silent_for
    from unnest(%(workers)s::bigint[]) k (id)
    cross join lateral (select * from scheduler.worker w where w.id = k.id offset 0) w
"""
_EVENT: LiteralString = """
    select r.run_at + scheduler.event_ttl(r.spec) as lives_until, l.expires_at as locked_until
    from scheduler.run r
    left join lateral (
        select l.expires_at from scheduler.event_lock l
        where l.app = r.app and l.run_id = r.id and l.expires_at > scheduler.clock() offset 0
    ) l on true
    where r.app = %(app)s and r.id = %(run)s
"""


async def held(conn: Connection, app: str, run: int, lease: int) -> Row | None:
    """How a lease holds a run; None when it does no more."""
    return _first(await read(conn, _HELD, {"app": app, "run": run, "lease": lease}))


async def waiting(conn: Connection, app: str, run: int) -> Row | None:
    """What the view of runs does not tell of one that waits; None when it does no more."""
    return _first(await read(conn, _WAITING, {"app": app, "run": run}))


async def defined(conn: Connection, app: str, job: str | None, *, dead_after: float) -> Row:
    """Pauses of the app and the job, the job's overlap, and whether any server is alive."""
    return (await read(conn, _DEFINED, {"app": app, "job": job, "dead_after": dead_after}))[0]


async def limit(conn: Connection, app: str, queue: str) -> Row | None:
    """The limits of a queue and what they leave; None: it has none."""
    return _first(await read(conn, _LIMIT, {"app": app, "queue": queue}))


async def queue_holders(conn: Connection, app: str, queue: str) -> list[Row]:
    return await read(conn, _QUEUE_HOLDERS, {"app": app, "queue": queue, "limit": SHOWN})


async def key_holders(conn: Connection, app: str, key: str, *, limit: int) -> list[Row]:
    return await read(conn, _KEY_HOLDERS, {"app": app, "key": key, "limit": limit})


async def before(conn: Connection, run: Row, executors: Sequence[str]) -> Row:
    """How many due runs of its queue, or of its concurrency key there, come before a run at who has `executors`."""
    parameters = {
        "app": run["app"],
        "queue": run["queue"],
        "key": run["concurrency_key"],
        "run": run["id"],
        "run_at": run["run_at"],
        "priority": run["priority"],
        "executor": run["executor"],
        "executors": list(executors),
        "most": BEFORE_MOST,
    }
    query = _BEFORE if run["concurrency_key"] is None else _BEFORE_OF_KEY
    return (await read(conn, query, parameters))[0]


async def drained(conn: Connection, app: str, queue: str) -> Row:
    """How many runs of a queue started lately, `within` how many seconds; `within` is None when none did."""
    parameters = {"app": app, "queue": queue, "measured": MEASURED, "lately": LATELY}
    return (await read(conn, _DRAINED, parameters))[0]


async def previous(conn: Connection, run: Row) -> list[Row]:
    """The runs of its job that have to end before a run that waits for them."""
    parameters = {
        "app": run["app"],
        "job": run["job"],
        "run": run["id"],
        "scheduled_at": run["scheduled_at"],
        "limit": SHOWN,
    }
    return await read(conn, _PREVIOUS, parameters)


async def fire(conn: Connection, app: str, job: str, scheduled_at: datetime | str) -> Row | None:
    """What the ledger says of an instant."""
    return _first(await read(conn, _FIRE, {"app": app, "job": job, "scheduled_at": scheduled_at}))


async def changes(conn: Connection, app: str, run: int, job: str | None) -> list[Row]:
    """What people did to a run, and who triggered it, as the audit has it; nothing for who may not read that."""
    parameters = {"app": app, "run": run, "job": job, "limit": SHOWN}
    try:
        found = await read(conn, _CHANGES, parameters)
        return found if job is None else await read(conn, _TRIGGERED, parameters) + found
    except psycopg.errors.InsufficientPrivilege:
        return []


async def named_workers(conn: Connection, workers: Sequence[int]) -> dict[int, Row]:
    """Label and host of workers, whether they live or not, by id."""
    return {row["id"]: row for row in await read(conn, _KNOWN_WORKERS, {"workers": list(workers)})}


async def event(conn: Connection, app: str, run: int) -> Row | None:
    """Until when an event lives, and until when a client has it locked, if one has."""
    return _first(await read(conn, _EVENT, {"app": app, "run": run}))


def _first(rows: list[Row]) -> Row | None:
    return rows[0] if rows else None
