"""Runs in every state, and their attempts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

from scheduler.store.watch import known
from scheduler.store.watch.reading import Connection, Row, read

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
_FINISHED: LiteralString = """
    select h.id, h.attempt, h.job, h.outcome, h.run_at, h.started_at, h.finished_at, h.retry_at, h.error, h.result
    from scheduler.history h
    where h.app = %(app)s and h.finished_at > scheduler.clock() - make_interval(secs => %(within)s)
    order by h.finished_at, h.id
    limit %(limit)s
"""


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
    query = (known.THIS_APP if app is not None else known.of(among)) + _LATEST + rows + _THE_LATEST
    parameters = {"app": app, "among": among, "job": job, "queue": queue, "before": before, "limit": limit}
    return await read(conn, query, parameters)


async def run(conn: Connection, run: int, *, app: str | None = None) -> list[Row]:
    """The run of this id; without `app` two, when two apps gave the same id themselves."""
    return await read(conn, (known.THIS_APP if app is not None else known.APPS) + _RUN, {"app": app, "run": run})


async def attempts(conn: Connection, app: str, run: int, *, limit: int = 1_000) -> list[Row]:
    """The attempts of a run that ended, the first first; failed and lost ones too."""
    return await read(conn, _ATTEMPTS, {"app": app, "run": run, "limit": limit})


async def finished(conn: Connection, app: str, *, within: float, limit: int = 1_000) -> list[Row]:
    """Attempts of an app that ended in the last `within` seconds, the earliest first."""
    return await read(conn, _FINISHED, {"app": app, "within": within, "limit": limit})
