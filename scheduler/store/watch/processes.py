"""Servers and workers: those that live, and with `gone` all that were."""

from __future__ import annotations

from typing import Any, LiteralString

from scheduler.store.watch.reading import LAST_ID, Connection, Row, read

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


async def servers(
    conn: Connection, *, gone: bool = False, before: int | None = None, dead_after: float, limit: int
) -> list[Row]:
    """Latest first, those with an id below `before`; with `gone` also those that stopped or died."""
    return await read(conn, *_processes(_SERVERS, gone, before, dead_after, limit))


async def workers(
    conn: Connection, *, gone: bool = False, before: int | None = None, dead_after: float, limit: int
) -> list[Row]:
    """As `servers`."""
    return await read(conn, *_processes(_WORKERS, gone, before, dead_after, limit))


def _processes(
    query: LiteralString, gone: bool, before: int | None, dead_after: float, limit: int
) -> tuple[LiteralString, dict[str, Any]]:
    query = query + (_EVER if gone else _ALIVE) + _LATEST_PROCESSES
    return query, {"before": LAST_ID if before is None else before, "dead_after": dead_after, "limit": limit}
