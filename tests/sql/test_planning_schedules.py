"""Each kind of schedule is followed, and one that cannot be stops nothing else."""

from __future__ import annotations

import logging

import psycopg
import pytest

from tests.support.builders import add_job
from tests.support.clock import Clock
from tests.support.jobs import (
    NOON,
    FakeWorker,
    edit_job,
    outcomes,
    plan_once,
    runs,
    schedule,
)


@pytest.fixture(autouse=True)
def _noon(clock: Clock) -> None:
    clock.set(NOON)


async def test_every_keeps_its_rate_from_its_anchor(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    clock.set("2026-03-01T12:00:03Z")
    schedule(db, expression="@every 20s", overlap="allow")
    for _ in range(12):
        clock.advance(7)
        await plan_once(dsn)
    assert [instant for instant, _ in outcomes(db)] == ["12:00:23", "12:00:43", "12:01:03", "12:01:23"]


async def test_every_is_anchored_at_its_start(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    schedule(db, expression="@every 20s", starts_at="2026-03-01T12:00:05Z")
    clock.advance(20)
    await plan_once(dsn)
    assert outcomes(db) == [("12:00:25", "planned")]


async def test_after_counts_from_the_end_of_the_run(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    schedule(db, expression="@after 30s")
    worker = FakeWorker(db)
    for instant in ("12:00:30", "12:01:40", "12:02:50"):
        await plan_once(dsn)
        clock.advance(30)
        await plan_once(dsn)
        assert runs(db)[-1] == (instant, "pending")
        assert worker.claim() == 1
        clock.advance(40)
        await plan_once(dsn)
        assert runs(db)[-1] == (instant, "running")
        worker.finish()
        await plan_once(dsn)


async def test_after_goes_on_when_its_run_was_cancelled(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    schedule(db, expression="@after 30s")
    await plan_once(dsn)
    clock.advance(30)
    await plan_once(dsn)
    db.execute("select scheduler.cancel('shop', min(id)) from scheduler.run")
    await plan_once(dsn)
    clock.advance(30)
    await plan_once(dsn)
    assert runs(db) == [("12:00:30", "cancelled"), ("12:01:00", "pending")]


async def test_after_goes_on_when_its_instant_was_skipped(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    schedule(db, expression="@after 30s")
    await plan_once(dsn)
    db.execute("select scheduler.trigger('shop', 'tidy')")
    clock.advance(30)
    await plan_once(dsn)
    assert outcomes(db) == [("12:00:30", "skipped")]
    FakeWorker(db).claim()
    clock.advance(30)
    await plan_once(dsn)
    assert outcomes(db)[1:] == [("12:01:00", "skipped")]


async def test_an_edit_does_not_put_off_the_run_that_after_awaits(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    schedule(db, expression="@after 1d")
    await plan_once(dsn)
    clock.advance(86_395)
    await plan_once(dsn)
    assert outcomes(db) == [("12:00:00", "planned")]
    edit_job(db, priority=4)
    assert runs(db) == []
    await plan_once(dsn)
    assert runs(db) == [("12:00:00", "pending")]
    assert db.execute("select priority from scheduler.run").fetchall() == [(4,)]


async def test_after_that_ended_is_not_planned_again(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    schedule(db, expression="@after 30s", ends_at="2026-03-01T12:00:40Z")
    await plan_once(dsn)
    clock.advance(30)
    await plan_once(dsn)
    worker = FakeWorker(db)
    worker.claim()
    worker.finish()
    for _ in range(3):
        clock.advance(30)
        await plan_once(dsn)
    assert outcomes(db) == [("12:00:30", "planned")]
    assert db.execute("select next_at, delay, awaits from scheduler.job_schedule").fetchall() == [(None, None, None)]


async def test_starts_and_ends_bound_the_instants(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    schedule(db, starts_at="2026-03-01T12:02:00Z", ends_at="2026-03-01T12:03:00Z", overlap="allow")
    for _ in range(10):
        await plan_once(dsn)
        clock.advance(30)
    assert [instant for instant, _ in outcomes(db)] == ["12:02:00", "12:03:00"]


async def test_jitter_moves_the_start_and_not_the_instant_and_stays_after_an_edit(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    schedule(db, jitter="20 s")
    clock.advance(55)
    await plan_once(dsn)
    query = "select run_at, extract(epoch from run_at - scheduled_at)::float8 from scheduler.run"
    before = db.execute(query).fetchall()
    edit_job(db, priority=1)
    await plan_once(dsn)
    assert db.execute(query).fetchall() == before
    assert 0 < before[0][1] < 20


async def test_a_bad_schedule_is_told_once_and_stops_nothing_else(
    dsn: str, db: psycopg.Connection, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    schedule(db, "bad", "every full moon")
    schedule(db, "lost", timezone="Mars/Olympus")
    schedule(db, "good")
    clock.advance(55)
    with caplog.at_level(logging.WARNING, logger="scheduler"):
        await plan_once(dsn)
        await plan_once(dsn)
    assert runs(db, "good") == [("12:01:00", "pending")]
    errors = db.execute("select job from scheduler.job_schedule where error is not null order by job").fetchall()
    assert errors == [("bad",), ("lost",)]
    assert sorted(record.getMessage().split(" of app")[0] for record in caplog.records) == ["job bad", "job lost"]


async def test_a_mended_schedule_is_followed(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    schedule(db, expression="nonsense")
    await plan_once(dsn)
    edit_job(db, schedule="* * * * *")
    clock.advance(55)
    await plan_once(dsn)
    assert runs(db) == [("12:01:00", "pending")]
    assert db.execute("select error from scheduler.job_schedule").fetchall() == [(None,)]


async def test_bounds_that_python_cannot_hold_stop_nothing(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    schedule(db, "always", starts_at="-infinity", ends_at="infinity", misfire_grace="170000000 years")
    schedule(db, "never", starts_at="infinity")
    schedule(db, "ended", ends_at="-infinity")
    schedule(db, "far", starts_at="20000-01-01", jitter="10000000 years")
    clock.advance(55)
    await plan_once(dsn)
    assert runs(db, "always") == [("12:01:00", "pending")]
    assert [runs(db, name) for name in ("never", "ended", "far")] == [[], [], []]


async def test_a_job_without_a_schedule_is_not_planned(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    add_job(db, "tidy")
    clock.advance(3_600)
    await plan_once(dsn)
    assert runs(db) == []
