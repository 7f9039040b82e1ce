"""Jobs as a forecast needs them: what the planner reads of each, and how long its runs took lately."""

from __future__ import annotations

from typing import LiteralString

from scheduler.store.watch.definitions import EVERY_JOB, JOBS_OF_APP
from scheduler.store.watch.reading import Connection, Row, read

# Instants are brought into Python's range as for the planner (store.duty). What is nested in the look at history is cut
# first: a job with a thousand attempts that were cancelled before they started would else be read to its beginning.
_PROSPECTS: LiteralString = """
    select j.app, j.name, j.schedule, j.timezone, j.executor, j.queue, j.overlap, j.misfire, j.misfire_limit,
        least(extract(epoch from j.misfire_grace), 1e10)::float8 as misfire_grace, j.dst_gap, j.dst_fold,
        least(coalesce(extract(epoch from j.jitter), 0), 1e10)::float8 as jitter,
        case when j.starts_at > '1970-01-01Z' then least(j.starts_at, '9999-01-01Z') end as starts_at,
        case when j.ends_at < '9999-01-01Z' then greatest(j.ends_at, '1970-01-01Z') end as ends_at,
        j.paused_at is not null or a.paused_at is not null as is_paused,
        case when isfinite(s.next_at) then s.next_at end as next_at, coalesce(s.next_at = '-infinity', false) as is_new,
        s.awaits is not null as awaits, r.scheduled_at as awaited_at, u.is_pulse is not null as is_pulse,
        s.after_at, least(greatest(s.anchor_at, '1970-01-01Z'), '9999-01-01Z') as anchor_at,
        j.concurrency_key is not null or j.executor = 'event' or m.rate_interval is not null as limited,
        m.concurrency_limit, m.rate_limit, extract(epoch from m.rate_interval)::float8 as rate_interval,
        case
            when u.is_pulse is null then array(
                select extract(epoch from h.finished_at - h.started_at)::float8
                from (
                    select h.started_at, h.finished_at, h.outcome from scheduler.history h
                    where h.app = j.app and h.job = j.name order by h.id desc limit %(attempts)s
                ) h
                where h.started_at is not null and h.outcome <> 'lost'
            )
            else '{}'
        end as durations,
        scheduler.clock() as now
    from page j
    left join scheduler.app a on a.app = j.app
    left join lateral (
        select * from scheduler.job_schedule s where s.app = j.app and s.job = j.name offset 0
    ) s on true
    left join lateral (
        select r.scheduled_at from scheduler.run r where r.app = j.app and r.id = s.awaits offset 0
    ) r on true
    left join lateral (
        select true as is_pulse from scheduler.pulse u
        where u.app = j.app and u.job = j.name and u.revision is not null offset 0
    ) u on true
    left join lateral (
        select * from scheduler.queue_limit q where q.app = j.app and q.queue = j.queue offset 0
    ) m on true
    order by j.app, j.name
"""


async def prospects(
    conn: Connection, *, app: str | None = None, after: tuple[str, str] = ("", ""), attempts: int, limit: int
) -> list[Row]:
    """Jobs by app and name, those later than `after`, with the seconds that their last `attempts` took."""
    parameters = {"app": app, "after_app": after[0], "after_name": after[1], "attempts": attempts, "limit": limit}
    return await read(conn, (EVERY_JOB if app is None else JOBS_OF_APP) + _PROSPECTS, parameters)
