"""The worker protocol: one function per SQL function, same name. Nowhere else in this package is SQL written.

Times cross this border as seconds since the epoch of the database's clock, JSON as bytes, so that a batch of thousands
costs no conversion that nobody needs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from msgspec import Struct

from scheduler.arrays import Instants
from scheduler.link import Connection


class Row(Struct, eq=False, gc=False):
    """A claimed run, to be read only. `attempt` counts this try; `timeout` is in seconds.

    Nothing in it fails to load: a row whose year 12000 or whose integer of 5,000 digits Python refuses would otherwise
    fail the whole claim, again and again, and nothing of its queue would run any more.
    (A struct, which takes 0.12 us to make where a dataclass takes 0.39, and 120,000 of them are made in a second. The
    garbage collector need not look at it: there is nothing in it that could lead back to it.)
    """

    id: int
    executor: str
    spec: str
    attempt: int
    run_at: float
    scheduled_at: float | None
    job: str | None
    timeout: float | None
    max_attempts: int
    lost: int
    traceparent: str | None = None  # of what enqueued it, whatever was given


class Place(NamedTuple):
    """Where in a queue a claim ended: the last run that it took."""

    priority: int
    executor: str
    run_at: float
    id: int


class Claimed(NamedTuple):
    """What a claim took: the number of the lease, its runs in the order in which they should start, and the last one's
    place. `limited`: some of them hold slots, for which others may wait.
    """

    lease: int
    rows: list[Row]
    place: Place
    limited: bool


class Due(NamedTuple):
    """A queue with work: `due_in` seconds until its earliest run may start.

    `keyed`: its runs with concurrency keys are meant, which may all have their slots taken. `limited`: it may be
    claimed no earlier than it is due, because of a key or of the queue's own limits.
    """

    app: str
    queue: str
    due_in: float
    keyed: bool
    limited: bool


class Report(Struct, gc=False):
    """How one attempt ended, in the words of `scheduler.finish`; and for who counts, when it was due (None: it never
    started here, or was counted as started before) and by what it was executed.
    """

    run_id: int
    outcome: str
    started_at: float | None
    finished_at: float
    run_at: float | None = None
    executor: str = ""
    result: bytes | None = None
    error: str | None = None
    retry_after: float | None = None
    max_attempts: int | None = None
    is_poison: bool = False  # it killed what ran it too often


class Line(Struct, gc=False):
    """One line that a run wrote."""

    app: str
    run_id: int
    attempt: int
    number: int
    at: float
    stream: str
    text: str


class TakenPulse(Struct, frozen=True, kw_only=True):
    """A job that this worker fires from its timer. Instants and the period in microseconds, the timeout in seconds.

    `is_gap`: a worker was lost while it held the job. `lost`: so often in a row.
    """

    app: str
    job: str
    lease: int
    run_id: int
    queue: str
    executor: str
    spec: str
    timeout: float | None
    lost: int
    period: int
    from_end: bool
    anchor_at: int
    after_at: int | None
    is_gap: bool
    ends_at: int | None


class HeldPulse(NamedTuple):
    """`is_revoked`: its definition changed, and the worker lets go of it."""

    app: str
    lease: int
    is_revoked: bool


async def register_worker(
    conn: Connection,
    *,
    label: str,
    host: str,
    pid: int,
    apps: Sequence[str] | None,
    queues: Sequence[str] | None,
    executors: Sequence[str],
    concurrency: int,
    version: str,
) -> int:
    cursor = await conn.execute(
        "select scheduler.register_worker(%s, %s, %s, %s::text[], %s::text[], %s::text[], %s, %s)",
        (
            label,
            host,
            pid,
            list(apps) if apps is not None else None,
            list(queues) if queues is not None else None,
            list(executors),
            concurrency,
            version,
        ),
    )
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101  a select without from has one row
    return int(row[0])


async def clock(conn: Connection) -> datetime:
    """The database's time."""
    cursor = await conn.execute("select scheduler.clock()")
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101  a select without from has one row
    now: datetime = row[0]
    return now


async def heartbeat(conn: Connection, worker: int, *, clock_ahead: float | None = None) -> tuple[datetime, list[int]]:
    """The database's time, and the runs whose cancellation was asked for. JS004: the worker was declared dead.

    `clock_ahead`: seconds that this machine's clock is ahead of the database's, for people to see.
    """
    cursor = await conn.execute(
        "select h.now, h.cancels from scheduler.heartbeat(%s, %s::float8) h", (worker, clock_ahead)
    )
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101
    return row[0], row[1]


async def retire_worker(conn: Connection, worker: int) -> None:
    await conn.execute("select scheduler.retire_worker(%s)", (worker,))


async def next_due(
    conn: Connection,
    apps: Sequence[str] | None,
    queues: Sequence[str] | None,
    executors: Sequence[str],
    skip: Sequence[tuple[str, str]] = (),
) -> list[Due]:
    """Queues with work for such a worker, the earliest first; of one with keyed runs up to three.

    `skip`: runs without keys of these (app, queue) are not looked for.
    """
    cursor = await conn.execute(
        "select d.app, d.queue, extract(epoch from d.due_in)::float8, d.keyed, d.limited"
        " from scheduler.next_due(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[]) d",
        (
            list(apps) if apps is not None else None,
            list(queues) if queues is not None else None,
            list(executors),
            [app for app, _ in skip],
            [queue for _, queue in skip],
        ),
    )
    return list(map(Due._make, await cursor.fetchall()))


async def await_hints(conn: Connection, apps: Sequence[str] | None, queues: Sequence[str] | None) -> None:
    """Runs inserted from now on send a hint, for as long as the connection lasts. Look once more after it."""
    await conn.execute(
        "select scheduler.await_hints(%s::text[], %s::text[])",
        (list(apps) if apps is not None else None, list(queues) if queues is not None else None),
    )


async def decline_hints(conn: Connection) -> None:
    await conn.execute("select scheduler.decline_hints()")


async def claim(
    conn: Connection,
    app: str,
    worker: int,
    queue: str,
    *,
    limit: int,
    executors: Sequence[str],
    horizon: float,
    begin: bool,
    after: Place | None = None,
    keyed: bool | None = None,
) -> Claimed | None:
    """A new lease; None when nothing was due, or nothing had a slot.

    `after`: look only behind that place, in its lane. `keyed`: only runs with a concurrency key, or only those without.
    """
    cursor = await conn.execute(
        # As arrays, which take a third of the time of rows to read here; and date_part, whose double costs a fifth of
        # extract's numeric.
        "select array_agg(c.id), array_agg(c.executor), array_agg(c.spec::text), array_agg(c.attempt),"
        " array_agg(date_part('epoch', c.run_at)), array_agg(date_part('epoch', c.scheduled_at)), array_agg(c.job),"
        " array_agg(date_part('epoch', c.timeout)), array_agg(c.max_attempts), array_agg(c.lost),"
        " (array_agg(c.priority))[count(*)::integer], bool_or(c.limited), max(c.lease),"
        # Most runs have none, and pay for no array of nulls.
        " json_object_agg(c.id, c.traceparent) filter (where c.traceparent is not null)"
        " from scheduler.claim(%s, %s, %s, %s, %s::text[], %s, %s, %s, to_timestamp(%s::float8), %s, %s) c",
        (
            app,
            worker,
            queue,
            limit,
            list(executors) if after is None else [after.executor],
            timedelta(seconds=horizon),
            begin,
            None if after is None else after.priority,
            float("-inf") if after is None else after.run_at,
            None if after is None else after.id,
            keyed,
        ),
        binary=True,
        prepare=True,
    )
    columns = await cursor.fetchone()
    assert columns is not None  # noqa: S101  an aggregate without groups has one row
    *arrays, priority, limited, lease, traced = columns
    if lease is None:
        return None
    rows = list(map(Row, *arrays))
    if traced is not None:
        for row in rows:
            row.traceparent = traced.get(str(row.id))
    return Claimed(lease, rows, Place(priority, rows[-1].executor, rows[-1].run_at, rows[-1].id), limited)


async def begin(conn: Connection, app: str, worker: int, lease: int) -> set[int] | None:
    """The runs of a prefetched lease that must not be executed any more; None: nothing of it may."""
    cursor = await conn.execute("select scheduler.begin(%s, %s, %s)", (app, worker, lease))
    row = await cursor.fetchone()
    return set(row[0]) if row and row[0] is not None else None


async def finish_all(conn: Connection, app: str, worker: int, lease: int, reports: Sequence[Report]) -> int:
    """As `finish`, for a whole lease that succeeded without results; its reports in the order of its runs."""
    cursor = await conn.execute(
        "select scheduler.finish(%s, %s, %s, p_started_at => %s, p_finished_at => %s)",
        (app, worker, lease, Instants([r.started_at for r in reports]), Instants([r.finished_at for r in reports])),
        prepare=True,
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def finish(conn: Connection, app: str, worker: int, lease: int, reports: Sequence[Report]) -> int:
    """How many of the reports counted; none does when the lease is no longer the worker's."""
    cursor = await conn.execute(
        "select scheduler.finish(%s, %s, %s, %s::bigint[], %s::text[], %s::text[]::jsonb[], %s::text[],"
        " %s, %s, array(select make_interval(secs => s) from unnest(%s::float8[]) s), %s::smallint[])",
        (
            app,
            worker,
            lease,
            [r.run_id for r in reports],
            [r.outcome for r in reports],
            [r.result.decode() if r.result is not None else None for r in reports],
            [r.error for r in reports],
            Instants([r.started_at for r in reports]),
            Instants([r.finished_at for r in reports]),
            [r.retry_after for r in reports],
            [r.max_attempts for r in reports],
        ),
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def release(conn: Connection, app: str, worker: int, lease: int, runs: Sequence[int] | None = None) -> int:
    """Gives runs that were not started (None: all that are open) back unharmed; how many came back."""
    given = list(runs) if runs is not None else None
    cursor = await conn.execute("select scheduler.release(%s, %s, %s, %s::bigint[])", (app, worker, lease, given))
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def append_log(conn: Connection, app: str, lines: Sequence[Line]) -> None:
    await conn.execute(
        "select scheduler.append_log(%s, %s::bigint[], %s::smallint[], %s::integer[],"
        " array(select to_timestamp(t) from unnest(%s::float8[]) t), %s::text[], %s::text[])",
        (
            app,
            [line.run_id for line in lines],
            [line.attempt for line in lines],
            [line.number for line in lines],
            [line.at for line in lines],
            [line.stream for line in lines],
            [line.text for line in lines],
        ),
    )


async def leases_of(conn: Connection, worker: int) -> list[tuple[str, int]]:
    """(app, lease) of every lease that the database has for the worker."""
    cursor = await conn.execute("select l.app, l.lease from scheduler.leases_of(%s) l", (worker,))
    return [(str(app), int(lease)) for app, lease in await cursor.fetchall()]


async def lost_leases(conn: Connection, app: str, leases: Sequence[int]) -> list[int]:
    """Those of these leases that are gone, for ever."""
    cursor = await conn.execute("select l.lease from scheduler.lost_leases(%s, %s::bigint[]) l", (app, list(leases)))
    return [int(lease) for (lease,) in await cursor.fetchall()]


async def take_pulses(
    conn: Connection,
    worker: int,
    *,
    apps: Sequence[str] | None,
    queues: Sequence[str] | None,
    executors: Sequence[str],
    limit: int,
    rate: float,
) -> list[TakenPulse]:
    """Up to `limit` jobs that are to be fired from a timer here, together at most `rate` times a second."""
    cursor = await conn.execute(
        # What lies beyond the year 9999, or before 1970, is none of a timer's business.
        "select t.app, t.job, t.lease, t.run_id, t.queue, t.executor, t.spec::text,"
        " date_part('epoch', t.timeout), t.lost,"
        " (extract(epoch from t.period) * 1000000)::bigint, t.from_end,"
        " (extract(epoch from t.anchor_at) * 1000000)::bigint,"
        " (extract(epoch from t.after_at) * 1000000)::bigint, t.is_gap,"
        " case when t.ends_at < '9999-01-01Z'"
        " then (extract(epoch from greatest(t.ends_at, '1970-01-01Z')) * 1000000)::bigint end"
        " from scheduler.take_pulses(%s, %s::text[], %s::text[], %s::text[], %s, %s) t",
        (
            worker,
            list(apps) if apps is not None else None,
            list(queues) if queues is not None else None,
            list(executors),
            limit,
            rate,
        ),
    )
    names = TakenPulse.__struct_fields__
    return [TakenPulse(**dict(zip(names, row, strict=True))) for row in await cursor.fetchall()]


async def pulses_of(conn: Connection, worker: int) -> list[HeldPulse]:
    """The jobs that the database has the worker fire from its timer."""
    cursor = await conn.execute("select p.app, p.lease, p.is_revoked from scheduler.pulses_of(%s) p", (worker,))
    return [HeldPulse(*row) for row in await cursor.fetchall()]


async def report_pulses(conn: Connection, app: str, worker: int, spans: Sequence[dict[str, Any]]) -> dict[int, int]:
    """What was fired; for each lease that is still the worker's the run id of its next span."""
    cursor = await conn.execute(
        "select r.lease, r.run_id from scheduler.report_pulses(%s, %s, %s::jsonb) r",
        (app, worker, json.dumps(list(spans))),
    )
    return {int(lease): int(run_id) for lease, run_id in await cursor.fetchall()}


async def release_pulses(conn: Connection, app: str, worker: int, leases: Sequence[int], *, is_over: bool) -> int:
    """Lets go of jobs, all of which was reported; how many were the worker's. `is_over`: their last instant passed."""
    cursor = await conn.execute(
        "select scheduler.release_pulses(%s, %s, %s::bigint[], %s)", (app, worker, list(leases), is_over)
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else 0
