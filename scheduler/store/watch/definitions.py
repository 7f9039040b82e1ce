"""Jobs, with what is known of their past and future."""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

from scheduler.store.watch.reading import Connection, Row, read

EVERY_JOB: LiteralString = """
    with page as materialized (
        select * from scheduler.job j where (j.app, j.name) > (%(after_app)s, %(after_name)s)
        order by j.app, j.name limit %(limit)s
    )
"""
JOBS_OF_APP: LiteralString = """
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
    page = EVERY_JOB if among is None else _JOBS_OF_APPS
    return await read(conn, (page if app is None else JOBS_OF_APP) + _JOBS, parameters)


async def job(conn: Connection, app: str, name: str) -> Row | None:
    """One definition, as in `jobs`."""
    return next(iter(await read(conn, _ONE_JOB + _JOBS, {"app": app, "name": name})), None)
