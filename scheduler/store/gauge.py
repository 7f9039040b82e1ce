"""What a server's gauger reads of the database for /metrics: each answer is bounded, whatever the tables hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString, NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import TupleRow, class_row

Connection = AsyncConnection[TupleRow]


class Queue(NamedTuple):
    """A queue that holds runs. `pending` and `keyed` (those with a concurrency key) None: others answer for it.
    `oldest_due`: seconds that the oldest due run has waited; None: none is due.
    """

    app: str
    queue: str
    pending: int | None
    keyed: int | None
    oldest_due: float | None


class Slice(NamedTuple):
    """So many runs of a queue, and the place of the last one, in the database's words; `id` None: the last slice."""

    runs: int
    key: str | None
    priority: int | None
    executor: str | None
    run_at: str | None
    id: int | None


class Job(NamedTuple):
    """`next_due`: seconds since the epoch; None: no instant is known to come."""

    app: str
    job: str
    next_due: float | None
    is_invalid: bool


class Success(NamedTuple):
    """`succeeded`: seconds since the epoch; None: none of the attempts that were looked at. `instants` passed since."""

    app: str
    job: str
    succeeded: float | None
    instants: int


class Processes(NamedTuple):
    owned: int
    unowned: int
    servers: int
    workers: int


class Database(NamedTuple):
    """Seconds, bytes, bytes, 0 to 1; and the dead rows of each table. `wal` None: on a standby."""

    snapshot_age: float
    size: int
    wal: float | None
    notify_queue: float
    connections: int
    connections_most: int
    tables: list[str]
    dead_rows: list[int]


async def gauge_queues(
    conn: Connection, server: int, *, after: tuple[str, str], limit: int, counted: int
) -> list[Queue]:
    """The next `limit` queues behind a place; runs are counted up to `counted`, and then one more."""
    query: LiteralString = """
        select q.app, q.queue, q.pending, q.keyed, q.oldest_due from scheduler.gauge_queues(%s, %s, %s, %s, %s) q
    """
    async with conn.cursor(row_factory=class_row(Queue)) as cursor:
        await cursor.execute(query, [server, *after, limit, counted])
        return await cursor.fetchall()


async def gauge_backlog(
    conn: Connection, app: str, queue: str, *, keyed: bool, limit: int, after: Slice | None
) -> Slice:
    """The next `limit` runs of a queue, those with a concurrency key or those without, behind a slice."""
    place = Slice(0, "", -32_768, "", "-infinity", 0) if after is None else after
    query: LiteralString = """
        select s.runs, s.key, s.priority, s.executor, s.run_at::text, s.id
        from scheduler.gauge_backlog(
            %s, %s, %s, %s, %s::text, %s::smallint, %s::text, %s::timestamptz, %s::bigint
        ) s
    """
    async with conn.cursor(row_factory=class_row(Slice)) as cursor:
        await cursor.execute(
            query, [app, queue, limit, keyed, place.key or "", place.priority, place.executor, place.run_at, place.id]
        )
        return await cursor.fetchone() or Slice(0, None, None, None, None, None)  # there always is a row


async def gauge_jobs(conn: Connection, server: int, *, after: tuple[str, str], limit: int) -> list[Job]:
    """The next `limit` jobs of the server's apps behind a place."""
    query: LiteralString = "select j.app, j.job, j.next_due, j.is_invalid from scheduler.gauge_jobs(%s, %s, %s, %s) j"
    async with conn.cursor(row_factory=class_row(Job)) as cursor:
        await cursor.execute(query, [server, *after, limit])
        return await cursor.fetchall()


async def gauge_successes(
    conn: Connection, jobs: Sequence[tuple[str, str]], *, looked: int, instants: int
) -> list[Success]:
    """Of each job, among its last `looked` attempts; instants are counted up to `instants`."""
    query: LiteralString = """
        select s.app, s.job, s.succeeded, s.instants from scheduler.gauge_successes(%s::text[], %s::text[], %s, %s) s
    """
    async with conn.cursor(row_factory=class_row(Success)) as cursor:
        await cursor.execute(query, [[app for app, _ in jobs], [job for _, job in jobs], looked, instants])
        return await cursor.fetchall()


async def gauge_processes(conn: Connection, server: int, *, dead_after: float) -> Processes:
    query: LiteralString = """
        select p.owned, p.unowned, p.servers, p.workers
        from scheduler.gauge_processes(%s, make_interval(secs => %s)) p
    """
    async with conn.cursor(row_factory=class_row(Processes)) as cursor:
        await cursor.execute(query, [server, dead_after])
        return await cursor.fetchone() or Processes(0, 0, 0, 0)  # there always is a row


async def gauge_alarms(conn: Connection, *, limit: int) -> dict[str, float]:
    """How many alarms fire, by app, of up to `limit` alarms; of an app without alarms nothing."""
    rows = await conn.execute("select a.app, a.firing from scheduler.gauge_alarms(%s) a", [limit])
    return {app: float(firing) for app, firing in await rows.fetchall()}


async def gauge_database(conn: Connection) -> Database:
    query: LiteralString = """
        select d.snapshot_age, d.size, d.wal::float8, d.notify_queue, d.connections, d.connections_most, d.tables,
            d.dead_rows
        from scheduler.gauge_database() d
    """
    async with conn.cursor(row_factory=class_row(Database)) as cursor:
        await cursor.execute(query)
        return (await cursor.fetchall())[0]
