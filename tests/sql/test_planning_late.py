"""What becomes of instants that nobody planned in time."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.builders import APP
from tests.support.clock import Clock
from tests.support.jobs import (
    NOON,
    FakeWorker,
    fires,
    outcomes,
    plan_once,
    runs,
    schedule,
)


@pytest.fixture(autouse=True)
def _noon(clock: Clock) -> None:
    clock.set(NOON)


@pytest.mark.parametrize(
    ("misfire", "expected"),
    [("skip", ["skipped"] * 4), ("one", ["coalesced"] * 3 + ["planned"]), ("all", ["planned"] * 4)],
)
async def test_late_instants_follow_the_misfire_policy(
    dsn: str, db: psycopg.Connection, clock: Clock, misfire: str, expected: list[str]
) -> None:
    schedule(db, misfire=misfire, overlap="allow")
    await plan_once(dsn)
    clock.advance(4 * 60 + 30)
    await plan_once(dsn)
    assert [outcome for _, outcome in outcomes(db)] == expected
    assert len(runs(db)) == expected.count("planned")
    assert db.execute("select count(*) from scheduler.run where run_at <> scheduler.clock()").fetchone() == (0,)


async def test_a_coalesced_instant_names_the_run_it_went_into(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    schedule(db)
    await plan_once(dsn)
    clock.advance(3 * 60 + 30)
    await plan_once(dsn)
    rows = db.execute("select distinct run_id from scheduler.fire").fetchall()
    assert rows == db.execute("select id from scheduler.run").fetchall()


async def test_after_an_outage_of_an_hour_ten_thousand_minute_jobs_run_once_each_or_all_within_their_cap(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    db.execute(
        """
        insert into scheduler.job (app, name, schedule, executor, misfire, misfire_limit, overlap)
        select %s, 'job ' || i, '* * * * *', 'python', case when i <= 500 then 'all' else 'one' end, 20, 'allow'
        from generate_series(1, 10000) i
        """,
        [APP],
    )
    await plan_once(dsn)
    clock.advance(3_630)
    while await plan_once(dsn) == 0:
        pass
    ledger = db.execute(
        """
        select j.misfire, f.outcome, count(*), count(distinct f.job), count(distinct f.scheduled_at), count(f.run_id)
        from scheduler.fire f
        join scheduler.job j on j.app = f.app and j.name = f.job
        group by j.misfire, f.outcome
        order by j.misfire, f.outcome
        """
    ).fetchall()
    assert ledger == [
        ("all", "missed", 500 * 40, 500, 40, 0),
        ("all", "planned", 500 * 20, 500, 20, 500 * 20),
        ("one", "coalesced", 9_500 * 59, 9_500, 59, 9_500 * 59),
        ("one", "planned", 9_500, 9_500, 1, 9_500),
    ]
    planned = "select count(*), count(distinct (job, scheduled_at)) from scheduler.run"
    assert db.execute(planned).fetchone() == (9_500 + 500 * 20, 9_500 + 500 * 20)


async def test_instants_older_than_the_grace_are_missed_and_say_so(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    schedule(db, misfire_grace="90 s", misfire="all", overlap="allow")
    await plan_once(dsn)
    clock.advance(4 * 60 + 10)
    await plan_once(dsn)
    assert [outcome for _, outcome in outcomes(db)] == ["missed", "missed", "planned", "planned"]
    assert "0:03:10 late; misfire_grace is 0:01:30" in str(fires(db)[0][2])


async def test_a_year_of_seconds_is_told_in_few_rows(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    schedule(db, expression="* * * * * *", overlap="allow")
    await plan_once(dsn)
    clock.advance(365 * 86_400)
    while await plan_once(dsn) == 0:
        pass
    assert len(fires(db)) < 2_100
    rest = [reason for _, _, reason in fires(db) if "every instant from" in str(reason)]
    assert len(rest) == 2
    late = db.execute("select count(*) from scheduler.run where run_at > scheduled_at").fetchone()
    assert late == (1,)


async def test_all_late_instants_of_a_queueing_job_run_one_after_the_other(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    schedule(db, misfire="all", overlap="queue")
    await plan_once(dsn)
    clock.advance(3 * 60 + 30)
    await plan_once(dsn)
    assert runs(db) == [("12:01:00", "pending"), ("12:02:00", "waiting"), ("12:03:00", "waiting")]
    worker = FakeWorker(db)
    for instant in ("12:01:00", "12:02:00", "12:03:00"):
        assert worker.claim() == 1
        assert (instant, "running") in runs(db)
        worker.finish()
        await plan_once(dsn)
    assert {state for _, state in runs(db)} == {"succeeded"}
