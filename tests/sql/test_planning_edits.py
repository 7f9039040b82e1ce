"""An edit, a pause or a removal reaches what was planned already."""

from __future__ import annotations

import psycopg
import pytest

from tests.conftest import Connect
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
from tests.support.sessions import blocked


@pytest.fixture(autouse=True)
def _noon(clock: Clock) -> None:
    clock.set(NOON)


async def planned_and_prefetched(dsn: str, db: psycopg.Connection, clock: Clock, *, prefetch: bool) -> FakeWorker:
    schedule(db)
    clock.advance(55)
    await plan_once(dsn)
    worker = FakeWorker(db)
    if prefetch:
        assert worker.claim(horizon="10 s", begin=False) == 1
    return worker


@pytest.mark.parametrize("prefetch", [False, True])
async def test_an_edit_reaches_what_was_planned(
    dsn: str, db: psycopg.Connection, clock: Clock, *, prefetch: bool
) -> None:
    worker = await planned_and_prefetched(dsn, db, clock, prefetch=prefetch)
    edit_job(db, spec='{"new": 1}')
    assert (runs(db), outcomes(db)) == ([], [])
    await plan_once(dsn)
    assert runs(db) == [("12:01:00", "pending")]
    assert db.execute("select spec from scheduler.run").fetchall() == [({"new": 1},)]
    assert worker.begin() == []


@pytest.mark.parametrize("prefetch", [False, True])
async def test_a_pause_takes_back_what_was_planned_and_a_resume_plans_it_again(
    dsn: str, db: psycopg.Connection, clock: Clock, *, prefetch: bool
) -> None:
    await planned_and_prefetched(dsn, db, clock, prefetch=prefetch)
    db.execute("select scheduler.pause('shop', 'tidy')")
    await plan_once(dsn)
    assert runs(db) == []
    db.execute("select scheduler.resume('shop', 'tidy')")
    await plan_once(dsn)
    assert runs(db) == [("12:01:00", "pending")]


@pytest.mark.parametrize("prefetch", [False, True])
async def test_the_pause_of_an_app_takes_back_what_was_planned(
    dsn: str, db: psycopg.Connection, clock: Clock, *, prefetch: bool
) -> None:
    await planned_and_prefetched(dsn, db, clock, prefetch=prefetch)
    db.execute("select scheduler.pause('shop')")
    await plan_once(dsn)
    assert (runs(db), outcomes(db)) == ([], [])
    clock.advance(120)
    db.execute("select scheduler.resume('shop')")
    clock.advance(60)
    await plan_once(dsn)
    assert outcomes(db) == [("12:03:00", "planned")]


@pytest.mark.parametrize("expression", ["@after 60s", "0 12 1 3 *"])
async def test_the_pause_of_an_app_reaches_the_run_of_a_job_that_has_no_next_instant(
    dsn: str, db: psycopg.Connection, clock: Clock, expression: str
) -> None:
    clock.set("2026-03-01T11:58:59Z")
    schedule(db, expression=expression, ends_at="2026-03-01T12:10:00Z")
    clock.set("2026-03-01T11:59:55Z")
    await plan_once(dsn)
    assert len(runs(db)) == 1
    db.execute("select scheduler.pause('shop')")
    assert runs(db) == []
    db.execute("select scheduler.resume('shop')")
    clock.set("2026-03-01T12:00:55Z" if "@" in expression else NOON)
    await plan_once(dsn)
    assert len(runs(db)) == 1


async def test_a_due_run_nobody_started_is_skipped_when_its_job_is_paused_or_removed(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    schedule(db, "one")
    schedule(db, "two")
    clock.advance(60)
    await plan_once(dsn)
    clock.advance(1)
    db.execute("select scheduler.pause('shop', 'one')")
    db.execute("select scheduler.remove_job('shop', 'two')")
    assert [row[1:] for row in fires(db, "one") + fires(db, "two")] == [("skipped", "paused"), ("skipped", "removed")]
    assert db.execute("select count(*) from scheduler.run").fetchone() == (0,)


async def test_what_runs_goes_on_when_its_job_is_removed(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    worker = await busy_at_its_next_instant(dsn, db, clock, "skip")
    db.execute("select scheduler.remove_job('shop', 'tidy')")
    assert worker.finish() == 1
    assert runs(db) == [("12:01:00", "succeeded")]


async def test_a_prefetched_lease_keeps_the_runs_of_other_jobs(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    schedule(db, "one")
    schedule(db, "two")
    clock.advance(55)
    await plan_once(dsn)
    worker = FakeWorker(db)
    assert worker.claim(horizon="10 s", begin=False) == 2
    db.execute("select scheduler.remove_job('shop', 'one')")
    assert len(worker.begin()) == 1
    assert worker.finish() == 1
    assert (runs(db, "one"), runs(db, "two")) == ([], [("12:01:00", "succeeded")])


async def test_a_run_cancelled_while_its_job_is_withdrawn_costs_no_other_run(
    dsn: str, db: psycopg.Connection, clock: Clock, connect: Connect
) -> None:
    """The withdrawal waits for the lease, and must look again at what is open once it has it."""
    schedule(db, "one", "*/2 * * * * *", overlap="allow")
    schedule(db, "two", overlap="allow")
    clock.advance(50)
    await plan_once(dsn)
    worker = FakeWorker(db)
    held = worker.claim(horizon="11 s", begin=False)
    cancelling, removing = connect(), connect()
    clock.set(clock.now)
    cancelling.execute("begin")
    run = cancelling.execute("select min(r.id) from scheduler.runs r where r.job = 'one'").fetchone()
    assert run is not None
    cancelling.execute("select scheduler.cancel('shop', %s)", run)
    removal = blocked(db, removing, "select scheduler.remove_job('shop', 'one')")
    cancelling.execute("commit")
    removal.rows()
    assert held > 2
    assert len(worker.begin()) == 1
    assert runs(db, "two") == [("12:01:00", "running")]
    assert [state for _, state in runs(db, "one")] == ["cancelled"]


async def test_an_edit_of_anything_but_the_time_keeps_instants_that_are_late(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    schedule(db)
    await plan_once(dsn)
    clock.advance(130)
    edit_job(db, priority=5)
    await plan_once(dsn)
    assert outcomes(db) == [("12:01:00", "coalesced"), ("12:02:00", "planned")]


async def test_a_new_schedule_starts_afresh(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    schedule(db)
    await plan_once(dsn)
    clock.advance(130)
    edit_job(db, schedule="*/5 * * * *")
    await plan_once(dsn)
    assert outcomes(db) == []
    clock.advance(170)
    await plan_once(dsn)
    assert outcomes(db) == [("12:05:00", "planned")]
