"""Which apps there are, as the beginning of a query about all, some or one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

from scheduler.store.watch.reading import Connection, read

# One index probe per app and table (and partition), however many rows there are; a distinct would read them all.
APPS: LiteralString = """
    with recursive of_run (app) as (
        select min(r.app) from scheduler.run r
        union all
        select (select min(r.app) from scheduler.run r where r.app > o.app) from of_run o where o.app is not null
    ), of_job (app) as (
        select min(j.app) from scheduler.job j
        union all
        select (select min(j.app) from scheduler.job j where j.app > o.app) from of_job o where o.app is not null
    ), of_history (app) as (
        select min(h.app) from scheduler.history h
        union all
        select (select min(h.app) from scheduler.history h where h.app > o.app) from of_history o
        where o.app is not null
    ), known (app) as (
        select o.app from of_run o where o.app is not null
        union select o.app from of_job o where o.app is not null
        union select o.app from of_history o where o.app is not null
        union select a.app from scheduler.app a
        union select l.app from scheduler.lease l
    )
"""
THIS_APP: LiteralString = "with known (app) as (select %(app)s::text)"
# Those that somebody may see, if they are there. Each look has a limit: as an `exists`, PostgreSQL may read all of a
# table to look the apps up in that.
THESE_APPS: LiteralString = """
    with recursive known (app) as (
        select a.app from (select distinct t.app from unnest(%(among)s::text[]) t (app)) a
        where coalesce(
            (select true from scheduler.job j where j.app = a.app limit 1),
            (select true from scheduler.run r where r.app = a.app limit 1),
            (select true from scheduler.history h where h.app = a.app limit 1),
            (select true from scheduler.app p where p.app = a.app limit 1),
            (select true from scheduler.lease l where l.app = a.app limit 1)
        )
    )
"""

_ALL_APPS: LiteralString = "select k.app from known k order by k.app"


async def known_apps(conn: Connection, *, among: Sequence[str] | None = None) -> list[str]:
    """Every app that has a job, a run, a past or a pause; with `among`, of these only."""
    return [row["app"] for row in await read(conn, of(among) + _ALL_APPS, {"among": among})]


def of(among: Sequence[str] | None) -> LiteralString:
    return APPS if among is None else THESE_APPS
