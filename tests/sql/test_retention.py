"""The janitor: partitions of the coming days, and an end to what is old."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from scheduler.config import DAY, Settings
from scheduler.janitor import Janitor
from scheduler.link import Link
from tests.conftest import Connect
from tests.support.builders import APP, add_run, add_worker, claim
from tests.support.clock import Clock
from tests.support.jobs import FakeWorker


@pytest.fixture(autouse=True)
def _noon(clock: Clock) -> None:
    clock.set("2026-03-01T12:00:00Z")


async def clean(dsn: str, *, days: float = 30) -> float:
    async with Link(dsn, name="test janitor") as link:
        return await Janitor(link, Settings(history_retention=days * DAY)).run_once()


def partitions(db: psycopg.Connection, table: str = "history") -> list[str]:
    rows = db.execute(
        "select inhrelid::regclass::text from pg_inherits where inhparent = %s::regclass order by 1",
        [f"scheduler.{table}"],
    )
    return [str(name).removeprefix(f"scheduler.{table}_") for (name,) in rows.fetchall()]


def end_a_run(db: psycopg.Connection) -> None:
    add_run(db)
    worker = FakeWorker(db)
    worker.claim()
    worker.finish()


def write(db: psycopg.Connection, text: str) -> None:
    db.execute("insert into scheduler.log values (%s, 7, 1, 1, scheduler.clock(), 'task', %s)", [APP, text])


@pytest.mark.parametrize("table", ["history", "log", "fire"])
async def test_the_coming_days_have_their_partitions(dsn: str, db: psycopg.Connection, table: str) -> None:
    await clean(dsn)
    assert partitions(db, table) == ["20260301", "20260302", "20260303", "20260304", "default"]


async def test_rows_come_into_the_partition_of_their_day(dsn: str, db: psycopg.Connection) -> None:
    await clean(dsn)
    end_a_run(db)
    assert db.execute("select tableoid::regclass::text from scheduler.history").fetchall() == [
        ("scheduler.history_20260301",)
    ]


async def test_a_second_look_makes_nothing_and_a_new_day_makes_one(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    await clean(dsn)
    assert await clean(dsn) == 600
    clock.advance(DAY)
    await clean(dsn)
    assert len(partitions(db)) == 6


async def test_a_day_that_has_rows_in_the_default_partition_stays_there(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    end_a_run(db)
    await clean(dsn)
    assert partitions(db) == ["20260302", "20260303", "20260304", "default"]
    assert len(partitions(db, "log")) == 5
    assert db.execute("select count(*) from scheduler.history").fetchone() == (1,)


async def test_days_older_than_the_retention_are_dropped_whole(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    await clean(dsn)
    end_a_run(db)
    clock.set("2026-03-04T11:00:00Z")
    await clean(dsn, days=2)
    assert partitions(db)[0] == "20260302", "half of that day is younger than two days"
    assert db.execute("select count(*) from scheduler.history").fetchone() == (0,)


async def test_lines_older_than_the_retention_go_with_their_day(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    write(db, "before there were partitions")
    await clean(dsn)
    clock.advance(DAY)
    write(db, "of the second")
    clock.advance(DAY)
    write(db, "of the third")
    clock.set("2026-03-04T11:00:00Z")
    await clean(dsn, days=2)
    assert db.execute("select text from scheduler.log order by at").fetchall() == [
        ("of the second",),
        ("of the third",),
    ]
    clock.advance(DAY)
    await clean(dsn, days=2)
    assert db.execute("select text from scheduler.log").fetchall() == [("of the third",)]
    assert partitions(db, "log")[0] == "20260303"


async def test_old_rows_of_the_default_partition_and_of_processes_are_deleted(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    end_a_run(db)
    db.execute("update scheduler.worker set stopped_at = scheduler.clock()")
    db.execute("select scheduler.retire_server(scheduler.register_server('gone'))")
    add_worker(db, "alive")
    clock.advance(3 * DAY)
    await clean(dsn, days=2)
    assert db.execute("select count(*) from scheduler.history").fetchone() == (0,)
    assert db.execute("select label from scheduler.worker").fetchall() == [("alive",)]
    assert db.execute("select count(*) from scheduler.server").fetchone() == (0,)


async def test_a_dead_worker_that_still_holds_a_lease_is_kept(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    add_run(db)
    FakeWorker(db).claim()
    db.execute("update scheduler.worker set dead_at = scheduler.clock()")
    clock.advance(3 * DAY)
    await clean(dsn, days=2)
    assert db.execute("select count(*) from scheduler.worker").fetchone() == (1,)


async def test_a_key_whose_run_was_deleted_by_hand_is_free_again(dsn: str, db: psycopg.Connection) -> None:
    add_run(db, unique_key="running")
    claim(db, add_worker(db))
    add_run(db, unique_key="pending")
    gone = add_run(db, unique_key="gone")
    db.execute("delete from scheduler.run where id = %s", [gone])
    await clean(dsn)
    keys = db.execute("select unique_key from scheduler.run_key where app = %s order by 1", [APP]).fetchall()
    assert keys == [("pending",), ("running",)]


async def test_servers_that_clean_at_the_same_time_do_not_collide(
    dsn: str, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.store.partition.LOCK_WAIT", "30s")  # four of them share this event loop
    await asyncio.gather(*(clean(dsn) for _ in range(4)))
    assert len(partitions(db)) == 5


async def test_a_long_report_is_not_waited_for(dsn: str, db: psycopg.Connection, connect: Connect) -> None:
    report = connect()
    report.execute("begin")
    report.execute("select count(*) from scheduler.history")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        await clean(dsn)
    end_a_run(db)
    report.execute("commit")
    await clean(dsn)
    assert partitions(db) == ["20260302", "20260303", "20260304", "default"]


def test_forget_counts_what_it_deleted(db: psycopg.Connection, clock: Clock) -> None:
    end_a_run(db)
    clock.advance(1)
    assert db.execute("select scheduler.forget(scheduler.clock())").fetchone() == (1,)
    assert db.execute("select scheduler.forget(scheduler.clock())").fetchone() == (0,)
