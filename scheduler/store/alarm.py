"""Alarms: rules of who is told of what, how they stand, and the look that writes their notices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from scheduler.alarms import NewAlarm
from scheduler.store.watch.reading import BY_KEY, Row, read

Connection = AsyncConnection[Any]

APP = "_alarms"
"""The app of the runs that carry notices."""

_COLUMNS: LiteralString = """
    select a.app, a.name, a.kind, a.job, a.times, extract(epoch from a.within)::float8 as within, a.channels,
        extract(epoch from a.gather)::float8 as gather, extract(epoch from a.pause)::float8 as pause,
        extract(epoch from a.repeat)::float8 as repeat, a.silence_ends_at, a.created_at,
        case
            when a.silence_ends_at > scheduler.clock() then 'silenced'
            when s.since_at is not null then 'firing'
            else 'quiet'
        end as state,
        s.since_at, s.told_at, s.last_told_at, s.hits, s.latest
    from scheduler.alarm a
    left join scheduler.alarm_state s on s.app = a.app and s.alarm = a.name
"""
_LIST: LiteralString = """
    where (%(app)s::text is null or a.app = %(app)s) and (%(among)s::text[] is null or a.app = any (%(among)s))
        and (a.app, a.name) > (%(after_app)s, %(after_name)s)
        and (not %(firing)s or s.since_at is not null)
    order by a.app, a.name
    limit %(limit)s
"""
_ONE: LiteralString = "where a.app = %(app)s and a.name = %(name)s"
_ADD: LiteralString = """
    insert into scheduler.alarm as a (app, name, kind, job, times, within, channels, gather, pause, repeat)
    values (
        %(app)s, %(name)s, %(kind)s, %(job)s, %(times)s, %(within)s, %(channels)s, %(gather)s, %(pause)s, %(repeat)s
    )
    on conflict on constraint alarm_pkey do update set
        kind = excluded.kind, job = excluded.job, times = excluded.times, within = excluded.within,
        channels = excluded.channels, gather = excluded.gather, pause = excluded.pause, repeat = excluded.repeat
    where %(replace)s
    returning 1
"""


async def add_alarm(conn: Connection, alarm: NewAlarm, *, replace: bool = False) -> bool:
    """Writes the rule; False when there is one of that name and it was not to be replaced. One that is replaced stays
    silent as long as it was to be.
    """
    parameters = {**asdict(alarm), "channels": Jsonb(list(alarm.channels)), "replace": replace}
    return await (await conn.execute(_ADD, parameters)).fetchone() is not None


async def lock_alarm(conn: Connection, app: str, name: str) -> bool:
    """Nobody else edits or removes it until this transaction ends. False: there is none."""
    query: LiteralString = "select from scheduler.alarm a where a.app = %s and a.name = %s for update"
    return (await conn.execute(query, [app, name])).rowcount == 1


async def alarms(
    conn: Connection,
    *,
    app: str | None = None,
    among: Sequence[str] | None = None,
    firing: bool = False,
    after: tuple[str, str] = ("", ""),
    limit: int,
) -> list[Row]:
    """Those of an app or of all, by app and name, and how each stands; durations in seconds. With `among`, of these
    apps only.
    """
    parameters = {"app": app, "among": among, "firing": firing, "after_app": after[0], "after_name": after[1]}
    return await read(conn, _COLUMNS + _LIST, {**parameters, "limit": limit})


async def alarm(conn: Connection, app: str, name: str) -> Row | None:
    found = await read(conn, _COLUMNS + _ONE, {"app": app, "name": name})
    return found[0] if found else None


async def remove_alarm(conn: Connection, app: str, name: str) -> None:
    await conn.execute("select scheduler.remove_alarm(%s, %s)", [app, name])


async def silence_alarm(conn: Connection, app: str, name: str, until: datetime | None) -> None:
    await conn.execute("select scheduler.silence_alarm(%s, %s, %s)", [app, name, until])


async def test_alarm(conn: Connection, app: str, name: str) -> list[Row]:
    """Writes a test notice for each channel; `channel` and `run` of each. NotFoundError when there is no such alarm."""
    row = await (await conn.execute("select scheduler.test_alarm(%s, %s)", [app, name])).fetchone()
    found = await alarm(conn, app, name)
    runs, channels = (row[0] if row else []), (found["channels"] if found else [])
    return [{"channel": one["channel"], "run": run} for one, run in zip(channels, runs, strict=False)]


async def ends(conn: Connection, runs: list[int]) -> dict[int, tuple[str, str | None]]:
    """How the last attempt of each of these notices ended: `succeeded`, `failed`, …, and its error."""
    async with conn.transaction():
        await conn.execute(BY_KEY)
        found = await conn.execute(
            "select distinct on (h.id) h.id, h.outcome, h.error from scheduler.history h"
            " where h.app = %s and h.id = any (%s) order by h.id, h.finished_at desc",
            [APP, runs],
        )
        return {run: (outcome, error) for run, outcome, error in await found.fetchall()}


async def look_for_alarms(conn: Connection, *, every: float, settle: float, limit: int) -> list[tuple[str, int, int]]:
    """Looks at up to `limit` apps nobody looked at for `every` seconds: of each the number of alarms, and that fire."""
    cursor = await conn.execute(
        "select l.app, l.alarms, l.firing"
        " from scheduler.look_for_alarms(make_interval(secs => %s), make_interval(secs => %s), %s) l",
        [every, settle, limit],
    )
    return [(app, alarms, firing) for app, alarms, firing in await cursor.fetchall()]
