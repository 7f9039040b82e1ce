"""The day's partition of a new database is made while rows of that day are written."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import LiteralString

import psycopg
import pytest

from scheduler.link import Link
from scheduler.store import partition
from scheduler.store.partition import Partition
from tests.conftest import Connect
from tests.support.builders import APP, add_run, one
from tests.support.clock import Clock
from tests.support.sessions import blocked


@pytest.mark.parametrize("prepared", [False, True], ids=["planned anew", "planned before"])
async def test_who_writes_into_a_day_whose_partition_is_being_made_waits_and_comes_into_it(
    dsn: str, db: psycopg.Connection, connect: Connect, clock: Clock, prepared: bool
) -> None:
    clock.set("2030-01-01T12:00:00Z")  # midnight may not pass meanwhile
    run = add_run(db)
    writer = connect()
    cancel: LiteralString = f"select scheduler.cancel('{APP}', %s)"
    if prepared:  # a plan that knows the default partition only
        for _ in range(6):
            writer.execute(cancel, [add_run(db)])
        db.execute("delete from scheduler.history")
    today: datetime = one(db, "select scheduler.clock()")
    async with Link(dsn, name="test janitor") as link, link.within(20) as conn, conn.transaction():
        assert await partition.create(conn, Partition("history", today.date()))
        step = await asyncio.to_thread(blocked, db, writer, cancel, run)
    await asyncio.to_thread(step.rows)
    assert db.execute("select tableoid::regclass::text from scheduler.history").fetchall() == [
        (f"scheduler.history_{today:%Y%m%d}",)
    ]
