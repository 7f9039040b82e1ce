"""A forecast is what the planner then does: the same instants, the same starts, for the same jobs."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from scheduler import db as ground
from scheduler.forecast import Change, Gathered, forecast, gather
from scheduler.forecast.minutes import Span
from scheduler.forecast.prospect import Prospect, Prospects
from tests.support.builders import APP, add_job, add_run, add_worker, claim, column, finish, rows
from tests.support.clock import Clock
from tests.support.jobs import fires, plan_once, schedule

Row = dict[str, Any]

# The last seconds before New York's clock jumps over its hour from 2 to 3.
SPRING = "2026-03-08T05:59:50.250000Z"
DENSE: dict[str, Row] = {
    "each minute": {"expression": "* * * * *"},
    "in the gap": {"expression": "*/20 2 * * *", "timezone": "America/New_York"},
    "in the gap, skipped": {"expression": "30 2 * * *", "timezone": "America/New_York", "dst_gap": "skip"},
    "by wall clock": {"expression": "*/30 1-4 * * *", "timezone": "America/New_York"},
    "hourly there": {"expression": "17 * * * *", "timezone": "Asia/Kathmandu", "overlap": "skip"},
    "seconds": {"expression": "*/20 * * * * *"},
    "prefixed": {"expression": "CRON_TZ=Europe/Berlin 15,45 6-8 * * sun"},
    "every 7 min": {"expression": "@every 7m30s"},
    "every 50 s": {"expression": "@every 50s", "starts_at": "2026-03-08T07:00:00.123456Z"},
    "jittered": {"expression": "*/10 * * * *", "jitter": "25 min"},
    "until": {"expression": "*/5 * * * *", "ends_at": "2026-03-08T08:10:00Z"},
    "from": {"expression": "*/5 * * * *", "starts_at": "2026-03-08T08:10:00Z"},
    "over": {"expression": "*/5 * * * *", "ends_at": "2026-03-08T01:00:00Z"},
    "paused": {"expression": "* * * * *", "paused_at": "2026-03-01T00:00:00Z"},
    "bad": {"expression": "61 * * * *"},
}
# Europe's clocks jump on 29 March, Lord Howe's goes back by half an hour on 5 April.
APRIL = "2026-03-27T12:34:56.789000Z"
SPARSE: dict[str, Row] = {
    "daily": {"expression": "30 1 * * *", "timezone": "Europe/London"},
    "daily, twice": {"expression": "45 1 * * *", "timezone": "Australia/Lord_Howe", "dst_fold": "both"},
    "weekdays": {"expression": "0 9 * * mon-fri", "timezone": "Asia/Kathmandu"},
    "the last day": {"expression": "0 12 L * *"},
    "second friday or first": {"expression": "0 6 1 * fri#2"},
    "monthly": {"expression": "@monthly", "timezone": "America/New_York"},
    "every day and a bit": {"expression": "@every 25h1m0.5s"},
}


async def gathered(dsn: str, *apps: str) -> Gathered:
    async with await ground.connect(dsn, name="test") as conn:
        return await gather(conn, apps or None, dead_after=5.0)


async def planned(dsn: str, db: psycopg.Connection, clock: Clock, end: datetime) -> dict[str, list[tuple[Any, Any]]]:
    """Lets the planner plan until `end`; instant and start of each job's runs. Each run ends before the next step."""
    found: defaultdict[str, list[tuple[Any, Any]]] = defaultdict(list)
    while True:
        await plan_once(dsn, plan_ahead=3_600)
        for job, *run in rows(db, "select job, scheduled_at, run_at from scheduler.run order by scheduled_at"):
            found[job].append((run[0], run[1]))
        db.execute("delete from scheduler.run")
        if clock.now >= end:
            return found
        # Of a job without `allow` one run is planned at a time: its instants must lie further apart than the steps.
        following = column(db, "select min(next_at) from scheduler.job_schedule where isfinite(next_at)")[0]
        clock.set(min(end, max(clock.now + timedelta(minutes=55), following - timedelta(minutes=50))))


@pytest.mark.parametrize(("start", "jobs", "hours"), [(SPRING, DENSE, 5), (APRIL, SPARSE, 14 * 24)])
async def test_what_is_forecast_is_what_the_planner_then_plans(
    *, dsn: str, db: psycopg.Connection, clock: Clock, start: str, jobs: dict[str, Row], hours: int
) -> None:
    begin = datetime.fromisoformat(start)
    clock.set(begin - timedelta(hours=2))
    for number, (name, columns) in enumerate(jobs.items()):
        if number % 3:
            schedule(db, name, **{"overlap": "allow", **columns})
    await plan_once(dsn)
    clock.set(begin - timedelta(seconds=5))
    await plan_once(dsn)  # so some runs are written already, and instants of an hour were late
    db.execute("delete from scheduler.run where scheduled_at <= %s", [begin])
    for number, (name, columns) in enumerate(jobs.items()):
        if not number % 3:
            schedule(db, name, **{"overlap": "allow", **columns})
    clock.set(begin)
    read = await gathered(dsn)
    span = Span(begin, 60 * hours)
    made = {row["name"]: Prospects(span, pulse_below=0).of(row) for row in read.jobs}
    told = forecast(read, 60 * hours, peaks=3, pulse_below=0)
    plans = await planned(dsn, db, clock, span.end)

    expected = {
        name: [(at, start) for at, start in plan if at < span.end] for name, plan in plans.items()
    }  # fmt: skip
    instants = {name: [at for at, _ in plan] for name, plan in expected.items() if plan}
    assert {name: one.series.instants() for name, one in made.items() if one.series and one.fires} == instants
    assert {name for name, one in made.items() if not one.fires} == set(jobs) - set(instants)
    starts = Counter(span.minute(start) for plan in expected.values() for _, start in plan)
    assert told["per_minute"] == [starts[minute] for minute in range(span.minutes)]
    assert [row["fires"] for row in told["peaks"]] == sorted(starts.values(), reverse=True)[:3]
    assert told["late"] == 0


@pytest.mark.parametrize("misfire", ["skip", "one", "all"])
async def test_instants_that_passed_unplanned_are_forecast_as_the_planner_will_treat_them(
    dsn: str, db: psycopg.Connection, clock: Clock, misfire: str
) -> None:
    clock.set("2026-03-01T09:00:00Z")
    for name, expression in (("minutely", "*/7 * * * *"), ("every", "@every 11m"), ("new", "*/9 * * * *")):
        schedule(db, name, expression, misfire=misfire, misfire_limit=5, misfire_grace="1 hour", overlap="allow")
        if name == "every":
            await plan_once(dsn)
    clock.set("2026-03-01T11:00:01Z")
    made = await prospects(dsn, clock)
    await plan_once(dsn)
    late = {
        name: [at for at, outcome, _ in fires(db, name) if outcome == "planned" and at <= clock.now] for name in made
    }
    assert {name: list(one.late) for name, one in made.items()} == late
    assert bool(late["minutely"]) is True  # of the last seconds, whatever `misfire` says: 11:00:00 is not late


async def test_what_workers_fire_from_timers_is_counted_from_the_instant_they_count_from(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    clock.set("2026-03-01T12:00:00.400000Z")
    schedule(db, "beat", "@every 1.7s")
    await plan_once(dsn, pulse_below=5.0)
    clock.set("2026-03-01T12:00:20Z")
    made = (await prospects(dsn, clock))["beat"]
    (anchor,) = column(db, "select anchor_at from scheduler.pulse")
    assert made.series is not None
    instants = made.series.instants()
    assert {(at - anchor) % timedelta(seconds=1.7) for at in instants} == {timedelta(0)}
    assert made.fires == len(instants) == (3_600 - 20) // 1.7 + 1


async def test_a_job_that_waits_for_its_own_end_is_estimated_by_how_long_its_runs_took(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    clock.set("2026-03-01T12:00:00Z")
    schedule(db, "tail", "@after 20m")
    ran(db, clock, "tail", seconds=600)
    read = await gathered(dsn)
    told = forecast(read, 240, peaks=1, pulse_below=0)
    (one,) = (await prospects(dsn, clock, hours=4)).values()
    assert one.is_estimated
    assert one.series is not None
    first = read.jobs[0]["after_at"] + timedelta(minutes=20)
    assert one.series.instants() == [first + number * timedelta(minutes=30) for number in range(8)]
    assert (told["estimated"], told["fires"], told["peaks"][0]["largest"][0]["estimated"]) == (1, 8, True)
    assert told["overlaps"] == []


async def test_runs_that_will_meet_the_next_fire_are_expected_from_the_last_attempts(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    clock.set("2026-03-01T12:00:00Z")
    for name, seconds in (("short", [50.0]), ("long", [90.0]), ("at times", [50.0] * 9 + [70.0] * 2)):
        schedule(db, name)
        for took in seconds:
            ran(db, clock, name, seconds=took)
    told = forecast(await gathered(dsn), 60, peaks=0, pulse_below=0)
    found = {row["job"]: (row["overlapping"], row["overlapping_at_p95"]) for row in told["overlaps"]}
    count = told["fires"] // 3
    assert found == {"long": (count - 1, count - 1), "at times": (0, count - 1)}
    assert told["overlaps"][0]["median"] == 90.0
    assert told["without_history"] == 0


async def test_a_queue_with_more_runs_at_a_time_than_slots_or_limits_allow_is_named(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    clock.set("2026-03-01T12:00:00Z")
    for number in range(6):
        schedule(db, f"job {number}", "30 * * * *")
    for name in ("slow", "side by side"):
        overlap = "allow" if name == "side by side" else "skip"
        schedule(db, name, "*/10 * * * *", queue=name, overlap=overlap)
        ran(db, clock, name, seconds=1_500)
    worker = add_worker(db)
    db.execute("update scheduler.worker set concurrency = 4, executors = '{python}' where id = %s", [worker])
    db.execute("update scheduler.worker set stopped_at = scheduler.clock() where id <> %s", [worker])
    db.execute("select scheduler.limit_queue(%s, 'side by side', 2)", [APP])
    told = forecast(await gathered(dsn), 120, peaks=0, pulse_below=0)
    by_queue = {row["queue"]: row for row in told["exceeded"]}
    assert set(by_queue) == {"default", "side by side"}
    assert (by_queue["default"]["slots"], by_queue["default"]["most"]) == (4, 6)
    assert by_queue["default"]["minutes"] == 2
    assert (by_queue["side by side"]["concurrency_limit"], by_queue["side by side"]["most"]) == (2, 3)
    assert told["together"]["slots"] == 4
    assert told["together"]["most"] == 6 + 1 + 3
    db.execute("update scheduler.worker set executors = '{http}'")
    nobody = forecast(await gathered(dsn), 120, peaks=0, pulse_below=0)
    assert {row["queue"]: row["slots"] for row in nobody["exceeded"]} == {"default": 0, "slow": 0, "side by side": 0}


async def test_a_rate_that_lets_less_start_than_fire_is_named(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    clock.set("2026-03-01T12:00:00Z")
    add_worker(db)
    for number in range(9):
        schedule(db, f"job {number}", "*/15 * * * *")
    db.execute("select scheduler.limit_queue(%s, 'default', null, 2, '20 s')", [APP])
    told = forecast(await gathered(dsn), 60, peaks=0, pulse_below=0)
    (row,) = told["exceeded"]
    assert (row["rate_per_minute"], row["minutes"]) == (6.0, 3)


async def test_a_supposed_schedule_shows_what_would_be_planned_if_it_were_written(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    clock.set("2026-03-01T12:00:07.5Z")
    schedule(db, "edited", "0 * * * *", timezone="Asia/Kathmandu")
    schedule(db, "removed", "*/5 * * * *")
    add_job(db, "same", schedule="*/15 * * * *")
    await plan_once(dsn)
    clock.advance(60)
    changes = [
        Change(APP, "edited", "@every 7m"),
        Change(APP, "removed", None),
        Change(APP, "added", "CRON_TZ=Asia/Kathmandu */10 17-18 * * *"),
    ]
    told = forecast(await gathered(dsn), 180, changes=changes, peaks=1, pulse_below=0)
    db.execute("update scheduler.job set schedule = '@every 7m' where name = 'edited'")
    db.execute("delete from scheduler.job where name = 'removed'")
    add_job(db, "added", schedule="CRON_TZ=Asia/Kathmandu */10 17-18 * * *")
    really = forecast(await gathered(dsn), 180, peaks=1, pulse_below=0)
    assert told["after"]["per_minute"] == really["per_minute"]
    assert told["before"]["per_minute"] != really["per_minute"]
    assert [(row["job"], row["before"] is None, row["after"] is None) for row in told["changes"]] == [
        ("edited", False, False),
        ("removed", False, True),
        ("added", True, False),
    ]


async def prospects(dsn: str, clock: Clock, hours: int = 1) -> dict[str, Prospect]:
    makes = Prospects(Span(clock.now, 60 * hours), pulse_below=5.0)
    return {row["name"]: makes.of(row) for row in (await gathered(dsn, APP)).jobs}


def ran(db: psycopg.Connection, clock: Clock, job: str, *, seconds: float) -> None:
    """An attempt of the job that took so long, by the worker protocol; the time is then what it was."""
    now = clock.now
    clock.set(now - timedelta(days=1))
    run = add_run(db, job=job)
    worker = add_worker(db)
    lease, taken = claim(db, worker)
    assert taken == [run]
    clock.advance(seconds)
    finish(db, worker, lease, taken)
    clock.set(now)
