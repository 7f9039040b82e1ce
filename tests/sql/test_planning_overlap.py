"""What becomes of an instant while the job's previous run has not ended."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.builders import own
from tests.support.clock import Clock
from tests.support.jobs import (
    NOON,
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


@pytest.mark.parametrize("overlap", ["skip", "queue", "replace"])
async def test_while_the_previous_run_lasts_the_next_instant_is_decided_when_it_is_due(
    dsn: str, db: psycopg.Connection, clock: Clock, overlap: str
) -> None:
    await busy_at_its_next_instant(dsn, db, clock, overlap)
    settings = {"poll": 60.0}
    assert await plan_once(dsn, **settings) == pytest.approx(5, abs=1)
    assert outcomes(db) == [("12:01:00", "planned")]


async def test_an_instant_that_was_put_off_is_planned_when_the_previous_run_ends(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    worker = await busy_at_its_next_instant(dsn, db, clock, "skip")
    await plan_once(dsn)
    worker.finish()
    await plan_once(dsn)
    assert runs(db) == [("12:01:00", "succeeded"), ("12:02:00", "pending")]


async def test_a_deferred_instant_is_not_looked_at_again_before_it_is_due(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    await busy_at_its_next_instant(dsn, db, clock, "skip")
    await plan_once(dsn)
    due = "select d.jobs from scheduler.due_jobs(%s, '10 s', 10) d"
    assert db.execute(due, [own(db)]).fetchall() == []
    assert db.execute("select scheduler.recall_deferred(%s)", [own(db)]).fetchone() == (0,)
    assert db.execute(due, [own(db)]).fetchall() == []
    clock.advance(5)
    assert db.execute(due, [own(db)]).fetchall() == [(["tidy"],)]


@pytest.mark.parametrize("part", ["one run ends", "the last run ends"])
async def test_a_deferred_instant_is_recalled_once_its_job_is_free(
    dsn: str, db: psycopg.Connection, clock: Clock, part: str
) -> None:
    worker = await busy_at_its_next_instant(dsn, db, clock, "skip")
    if part == "one run ends":
        db.execute("select scheduler.trigger('shop', 'tidy')")
    await plan_once(dsn)
    worker.finish()
    is_free = part == "the last run ends"
    assert db.execute("select scheduler.recall_deferred(%s)", [own(db)]).fetchone() == (int(is_free),)
    assert db.execute("select scheduler.recall_deferred(%s)", [own(db)]).fetchone() == (0,)
    await plan_once(dsn)
    assert (("12:02:00", "pending") in runs(db)) == is_free


@pytest.mark.parametrize("paused", [None, "job", "app"])
async def test_a_deferred_instant_does_not_outlive_an_edit_or_a_pause(
    dsn: str, db: psycopg.Connection, clock: Clock, paused: str | None
) -> None:
    worker = await busy_at_its_next_instant(dsn, db, clock, "skip")
    await plan_once(dsn)
    if paused is None:
        edit_job(db, schedule="3 * * * *")
    else:
        job = "tidy" if paused == "job" else None
        db.execute("select scheduler.pause('shop', %s)", [job])
        clock.advance(60)
        assert await plan_once(dsn, poll=60.0) > 0
        db.execute("select scheduler.resume('shop', %s)", [job])
    worker.finish()
    clock.set("2026-03-01T12:02:56Z")
    await plan_once(dsn)
    assert db.execute("select deferred_at from scheduler.job_schedule").fetchall() == [(None,)]
    assert ("12:03:00", "planned") in outcomes(db)
    assert ("12:02:00", "planned") not in outcomes(db)


async def test_overlap_skip_skips_and_names_the_run(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    await busy_at_its_next_instant(dsn, db, clock, "skip")
    clock.advance(5)
    await plan_once(dsn)
    assert [outcome for _, outcome, _ in fires(db)] == ["planned", "skipped"]
    assert str(fires(db)[1][2]).startswith("overlap: run ")
    assert runs(db) == [("12:01:00", "running")]


async def test_overlap_queue_waits_for_the_previous_run(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    worker = await busy_at_its_next_instant(dsn, db, clock, "queue")
    clock.advance(5)
    await plan_once(dsn)
    assert runs(db) == [("12:01:00", "running"), ("12:02:00", "waiting")]
    assert worker.claim(horizon="1 day") == 0
    worker.finish()
    await plan_once(dsn)
    assert runs(db) == [("12:01:00", "succeeded"), ("12:02:00", "pending")]
    assert worker.claim() == 1


async def test_overlap_queue_holds_as_many_as_misfire_limit(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    await busy_at_its_next_instant(dsn, db, clock, "queue")
    edit_job(db, misfire_limit=2)
    for _ in range(4):
        clock.advance(60)
        await plan_once(dsn)
    assert [state for _, state in runs(db)] == ["running", "waiting", "waiting"]
    assert [outcome for _, outcome in outcomes(db)] == ["planned"] * 3 + ["skipped"] * 2


async def test_overlap_replace_asks_the_previous_run_to_stop(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    worker = await busy_at_its_next_instant(dsn, db, clock, "replace")
    clock.advance(5)
    await plan_once(dsn)
    assert runs(db) == [("12:01:00", "running"), ("12:02:00", "waiting")]
    assert db.execute("select cardinality(cancel) from scheduler.lease").fetchall() == [(1,)]
    worker.finish()
    await plan_once(dsn)
    assert runs(db)[1] == ("12:02:00", "pending")


async def test_overlap_replace_ends_a_pending_run_at_once(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    schedule(db, overlap="replace")
    clock.advance(60)
    await plan_once(dsn)
    clock.advance(60)
    await plan_once(dsn)
    assert runs(db) == [("12:01:00", "cancelled"), ("12:02:00", "pending")]


async def test_overlap_allow_plans_beside_what_runs(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    await busy_at_its_next_instant(dsn, db, clock, "allow")
    await plan_once(dsn)
    assert runs(db) == [("12:01:00", "running"), ("12:02:00", "pending")]
