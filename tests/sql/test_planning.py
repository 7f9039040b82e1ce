"""Jobs become runs: ahead of time, once, and nothing while there is nothing to do."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import LiteralString

import psycopg
import pytest

from scheduler import db as ground
from scheduler.store import duty
from tests.support.builders import APP, PLAN, add_job, own, rows
from tests.support.clock import Clock
from tests.support.jobs import (
    NOON,
    FakeWorker,
    busy_at_its_next_instant,
    edit_job,
    fires,
    outcomes,
    plan_once,
    runs,
    schedule,
)


@pytest.fixture(autouse=True)
def _noon(clock: Clock) -> None:
    clock.set(NOON)


async def test_a_run_is_written_ahead_of_its_instant(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    schedule(db)
    assert await plan_once(dsn) <= 1
    assert runs(db) == []
    clock.advance(50)
    await plan_once(dsn)
    assert runs(db) == [("12:01:00", "pending")]
    assert outcomes(db) == [("12:01:00", "planned")]
    assert db.execute("select run_at = scheduled_at from scheduler.run").fetchall() == [(True,)]


async def test_the_run_is_what_the_job_says(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    schedule(
        db,
        spec='{"task": "t"}',
        queue="slow",
        priority=3,
        max_attempts=7,
        timeout="5 min",
        tags=["a"],
        retry_delay="9 s",
    )
    clock.advance(50)
    await plan_once(dsn)
    row = db.execute(
        """
        select executor, spec, queue, priority, max_attempts, timeout::text, tags, retry_delay::text from scheduler.run
        """
    )
    assert row.fetchall() == [("python", {"task": "t"}, "slow", 3, 7, "00:05:00", ["a"], "00:00:09")]


async def test_planners_at_the_same_time_write_each_instant_once(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    for number in range(120):
        schedule(db, f"job {number}", "*/2 * * * * *", overlap="allow")
    for seconds in (0, 10, 10, 10):
        clock.advance(seconds)
        await asyncio.gather(*(plan_once(dsn) for _ in range(4)))
    ledger = db.execute("select job, scheduled_at, run_id from scheduler.fire").fetchall()
    planned = db.execute("select job, scheduled_at, id from scheduler.run").fetchall()
    assert Counter(Counter(row[:2] for row in planned).values()) == {1: 120 * 20}
    assert sorted(ledger) == sorted(planned)


async def test_a_plan_made_before_an_edit_is_void(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    schedule(db)
    clock.advance(55)
    conn = await ground.connect(dsn, name="test")
    server = own(db)
    (job,) = await duty.due_jobs(conn, server, ahead=10, limit=10, new=True)
    edit_job(db, spec='{"new": true}')
    fire = {"at": "2026-03-01T12:01:00Z", "outcome": "planned", "run_at": "2026-03-01T12:01:00Z"}
    plan = {"jobs": ["tidy"], "revisions": job.revisions, "expected": job.expected, "next": None, "fires": [fire]}
    assert await duty.plan_fires(conn, server, [duty.Fires(APP, job.epoch, [plan], [])]) == []
    await conn.close()
    assert (runs(db), fires(db)) == ([], [])


async def test_an_instant_that_is_in_the_ledger_is_not_run_again(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    schedule(db, overlap="replace")
    clock.advance(59)
    await plan_once(dsn)
    worker = FakeWorker(db)
    assert worker.claim(horizon="2 s") == 1  # started a little early, under one lease with others
    edit_job(db, priority=1)
    clock.advance(2)
    await plan_once(dsn)
    assert runs(db) == [("12:01:00", "running")]
    assert db.execute("select cancel from scheduler.lease").fetchall() == [(None,)]


async def test_the_planner_sleeps_until_there_is_something_to_plan(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    schedule(db)
    clock.advance(20)
    assert await plan_once(dsn, poll=60.0) == pytest.approx(30)
    assert await plan_once(dsn, poll=5.0) == pytest.approx(5)


async def test_the_planner_goes_on_where_its_time_ran_out(
    dsn: str, db: psycopg.Connection, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.planner.PAGE", 3)
    monkeypatch.setattr("scheduler.planner.INLINE", 1)
    monkeypatch.setattr("scheduler.planner.FIRES", 2)
    for number in range(10):
        schedule(db, f"job {number}")
    clock.advance(55)
    await plan_once(dsn)
    assert db.execute("select count(distinct job) from scheduler.run").fetchone() == (10,)


async def test_next_plan_at_tells_when_the_first_job_comes_within_reach(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    next_plan_at = "select scheduler.next_plan_at(%s, '10 s', '1 hour')::text"
    server = own(db)
    assert db.execute(next_plan_at, [server]).fetchone() == (None,)
    schedule(db)
    schedule(db, "later", "0 13 * * *")
    await plan_once(dsn)
    assert db.execute(next_plan_at, [server]).fetchone() == ("00:00:50",)
    soon = "select scheduler.next_plan_at(%s, '10 s', '49 s')"
    assert db.execute(soon, [server]).fetchone() == (None,)


def test_plan_fires_passes_over_jobs_it_does_not_know(db: psycopg.Connection) -> None:
    plans = '[{"jobs": ["ghost"], "revisions": [1], "expected": "-infinity", "next": null, "fires": []}]'
    schedule(db)
    own(db)
    assert rows(db, PLAN, APP, plans) == []


def test_take_stock_says_when_there_is_something_to_plan(db: psycopg.Connection, clock: Clock) -> None:
    stock: LiteralString = (
        "select s.due_in::text, s.deferred_in::text, s.waits from scheduler.take_stock(%s, '10 s', '1 hour') s"
    )
    server = own(db)
    assert rows(db, stock, server) == [(None, None, False)]
    schedule(db)
    own(db)
    assert rows(db, stock, server) == [("-1 days", None, False)]
    db.execute("select scheduler.pause('shop')")
    assert rows(db, stock, server) == [(None, None, False)]


async def test_take_stock_tells_what_waits_for_the_end_of_a_run(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    stock: LiteralString = (
        "select s.due_in::text, s.deferred_in::text, s.waits from scheduler.take_stock(%s, '10 s', '1 hour') s"
    )
    worker = await busy_at_its_next_instant(dsn, db, clock, "queue")
    await plan_once(dsn)
    assert rows(db, stock, own(db)) == [(None, "00:00:05", True)]
    clock.advance(5)
    await plan_once(dsn)
    assert rows(db, stock, own(db)) == [("00:00:50", None, True)]
    worker.finish()
    assert rows(db, stock, own(db)) == [("00:00:50", None, False)]


def test_leased_runs_are_the_open_ones_of_jobs(db: psycopg.Connection, clock: Clock) -> None:
    for name in ("a", "b", "c"):
        add_job(db, name)
        db.execute("select scheduler.trigger('shop', %s)", [name])
    db.execute("insert into scheduler.run (app, executor) values ('shop', 'python')")
    worker = FakeWorker(db)
    assert worker.claim() == 4
    done = "select r.id from scheduler.runs r where r.job = 'b'"
    db.execute(f"select scheduler.finish('shop', %s, %s, array({done}))", [worker.id, worker.lease])
    held = "select l.job from scheduler.leased_runs(%s, %s) l order by 1"
    assert db.execute(held, [None, None]).fetchall() == [("a",), ("c",)]
    assert db.execute(held, ["shop", ["b", "c", "d"]]).fetchall() == [("c",)]
    assert db.execute(held, ["shop", []]).fetchall() == []
    assert db.execute(held, ["other", None]).fetchall() == []


async def test_only_the_first_waiting_run_is_let_go_and_only_once(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    worker = await busy_at_its_next_instant(dsn, db, clock, "queue")
    for _ in range(2):
        clock.advance(60)
        await plan_once(dsn)
    assert db.execute("select scheduler.release_waiting(%s)", [own(db)]).fetchone() == (0,)
    worker.finish()
    assert db.execute("select scheduler.release_waiting(%s)", [own(db)]).fetchone() == (1,)
    assert db.execute("select scheduler.release_waiting(%s)", [own(db)]).fetchone() == (0,)
    assert runs(db)[1:] == [("12:02:00", "pending"), ("12:03:00", "waiting")]


async def test_schedule_after_waits_for_the_last_attempt(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    schedule(db, expression="@after 30s")
    await plan_once(dsn)
    clock.advance(30)
    await plan_once(dsn)
    worker = FakeWorker(db)
    worker.claim()
    failed = """
        select scheduler.finish(
            'shop', %s, %s, array(select r.id from scheduler.runs r), '{failed}', p_retry_after => '{0}'
        )
    """
    assert db.execute(failed, [worker.id, worker.lease]).fetchone() == (1,)
    assert db.execute("select scheduler.schedule_after(%s)", [own(db)]).fetchone() == (0,)
    worker.claim()
    worker.finish()
    assert db.execute("select scheduler.schedule_after(%s)", [own(db)]).fetchone() == (1,)


async def test_withdraw_takes_future_runs_and_due_ones_only_when_asked(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    schedule(db, expression="*/5 * * * * *", overlap="allow")
    await plan_once(dsn)
    clock.advance(5)
    assert db.execute("select scheduler.withdraw('shop', 'tidy', 'test', false)").fetchone() == (1,)
    assert outcomes(db) == [("12:00:05", "planned")]
    assert db.execute("select scheduler.withdraw('shop', 'tidy', 'test', true)").fetchone() == (1,)
    assert [row[1:] for row in fires(db)] == [("skipped", "test")]
