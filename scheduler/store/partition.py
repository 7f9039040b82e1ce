"""The daily partitions of what only grows: history, log and the ledger of fires.

The one place where DDL is composed. Each statement takes locks that block others, so it waits for them for LOCK_WAIT at
most, and holds them for its own short transaction.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Self

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier, Literal

Connection = AsyncConnection[TupleRow]

TABLES = {"history": "finished_at", "log": "at", "fire": "scheduled_at"}
"""The partitioned tables, each with the instant that it is partitioned by."""

DAYS_AHEAD = 3
"""Days that have their partitions in advance: no server needs to be up for that long."""

LOCK_WAIT = "500ms"  # whoever comes after a waiting DDL statement waits behind it, finishes of runs among them
_LOCK = 7_716_803  # the advisory lock of janitors
_NAME = re.compile(rf"({'|'.join(TABLES)})_(\d{{4}})(\d\d)(\d\d)")


@dataclass(frozen=True, slots=True)
class Partition:
    """What a table holds of one day, in UTC."""

    table: str
    day: date

    @classmethod
    def named(cls, name: str) -> Self | None:
        """The daily partition of that name; None for another one, such as a default."""
        match = _NAME.fullmatch(name)
        return cls(match[1], date(int(match[2]), int(match[3]), int(match[4]))) if match else None

    @property
    def name(self) -> str:
        return f"{self.table}_{self.day:%Y%m%d}"

    @property
    def starts_at(self) -> datetime:
        return datetime.combine(self.day, time(), UTC)

    @property
    def ends_at(self) -> datetime:
        return self.starts_at + timedelta(days=1)


async def partitions(conn: Connection) -> tuple[set[Partition], datetime]:
    """Those that are there, and the database's time."""
    found = await conn.execute(
        """
        select c.relname, scheduler.clock()
        from pg_inherits i
        join pg_class c on c.oid = i.inhrelid
        where i.inhparent = any (array['scheduler.history', 'scheduler.log', 'scheduler.fire']::regclass[])
        """
    )
    rows = await found.fetchall()  # never empty: each table has a default partition
    return {one for name, _ in rows if (one := Partition.named(name))}, rows[0][1]


async def has_rows_in_default(conn: Connection, one: Partition) -> bool:
    """Whether the day has rows in the default partition already: then it can have no partition of its own."""
    query = SQL("select exists (select from {default} d where d.{instant} >= %s and d.{instant} < %s)").format(
        default=Identifier("scheduler", f"{one.table}_default"), instant=Identifier(TABLES[one.table])
    )
    row = await (await conn.execute(query, [one.starts_at, one.ends_at])).fetchone()
    return row == (True,)


async def create(conn: Connection, one: Partition) -> bool:
    """Makes the partition, unless another server just did. False: a row came into the default partition meanwhile."""
    parent, child = Identifier("scheduler", one.table), Identifier("scheduler", one.name)
    # Made apart and attached: `create table … partition of` would lock the whole table against reading.
    make = SQL("create table {} (like {} including all)").format(child, parent)
    attach = SQL("alter table {} attach partition {} for values from ({}) to ({})").format(
        parent, child, Literal(one.starts_at), Literal(one.ends_at)
    )
    try:
        async with conn.transaction():
            await _lock(conn)
            found = await conn.execute(
                "select to_regclass(%s) is not null, scheduler.clock() >= %s", [f"scheduler.{one.name}", one.starts_at]
            )
            is_there, has_begun = await found.fetchone() or (False, False)  # never empty
            if not is_there:
                if has_begun:
                    # Who writes rows of that day has its route to the default partition, waits there for the end of
                    # this, and is refused with 23514, which a reporter takes for a result that cannot be stored. So it
                    # has to wait before it looks for its route; readers do not.
                    await conn.execute(SQL("lock table only {} in share mode").format(parent))
                await conn.execute(make)
                await conn.execute(attach)
    except psycopg.errors.CheckViolation:
        return False
    return True


async def drop(conn: Connection, one: Partition) -> None:
    """Drops the partition with all its rows, unless another server just did."""
    async with conn.transaction():
        await _lock(conn)
        await conn.execute(SQL("drop table if exists {}").format(Identifier("scheduler", one.name)))


async def _lock(conn: Connection) -> None:
    await conn.execute("select set_config('lock_timeout', %s, true)", [LOCK_WAIT])
    await conn.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
