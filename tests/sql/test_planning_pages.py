"""What a planner reads: a page at a time, what is due before what is new, and jobs that are alike as one."""

from __future__ import annotations

from datetime import datetime, timedelta

import psycopg
import pytest

from scheduler.plan import Plan, plan
from scheduler.store import duty
from tests.support.builders import own
from tests.support.clock import Clock
from tests.support.jobs import NOON, plan_once, schedule


@pytest.fixture(autouse=True)
def _noon(clock: Clock) -> None:
    clock.set(NOON)


@pytest.mark.parametrize("new", [True, False])
async def test_due_jobs_come_a_page_at_a_time_earliest_first(
    dsn: str, db: psycopg.Connection, clock: Clock, *, new: bool
) -> None:
    for name in ("b", "a", "c"):
        schedule(db, name)
    if not new:
        await plan_once(dsn)
        clock.advance(55)
    page = "select d.jobs, d.next_at::text, d.app, d.last_job from scheduler.due_jobs(%(server)s, '10 s', 2, %(new)s) d"
    following = """
        select d.jobs
        from scheduler.due_jobs(%(server)s, '10 s', 2, %(new)s, %(at)s::timestamptz, %(app)s, %(job)s) d
    """
    server = own(db)
    ((jobs, at, app, job),) = db.execute(page, {"server": server, "new": new}).fetchall()
    assert (jobs, job) == (["a", "b"], "b")
    assert db.execute(following, {"server": server, "new": new, "at": at, "app": app, "job": job}).fetchall() == [
        (["c"],)
    ]
    assert db.execute(page, {"server": server, "new": not new}).fetchall() == []


def test_jobs_that_are_to_be_decided_alike_are_read_as_one(db: psycopg.Connection, clock: Clock) -> None:
    for name in ("a", "b", "c"):
        schedule(db, name)
    schedule(db, "other time", "*/2 * * * *")
    schedule(db, "other zone", timezone="Europe/Paris")
    schedule(db, "other rule", misfire="skip")
    for name in ("jitter 1", "jitter 2"):
        schedule(db, name, jitter="1 s")
    for name in ("rate 1", "rate 2"):
        schedule(db, name, "@every 1m")
    clock.advance(1)
    schedule(db, "d")
    schedule(db, "rate 3", "@every 1m")
    groups = db.execute("select d.jobs from scheduler.due_jobs(%s, '10 s', 100, true) d", [own(db)]).fetchall()
    assert sorted(sorted(jobs) for (jobs,) in groups) == [
        ["a", "b", "c"],
        ["d"],
        ["jitter 1"],
        ["jitter 2"],
        ["other rule"],
        ["other time"],
        ["other zone"],
        ["rate 1", "rate 2"],
        ["rate 3"],
    ]


async def test_a_schedule_that_jobs_share_is_evaluated_once(
    dsn: str, db: psycopg.Connection, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided: list[int] = []

    def counted(jobs: duty.DueJobs, until: datetime, **limit: timedelta) -> Plan:
        decided.append(len(jobs.jobs))
        return plan(jobs, until, **limit)

    monkeypatch.setattr("scheduler.planner.plan", counted)
    for number in range(200):
        schedule(db, f"job {number}")
    clock.advance(55)
    await plan_once(dsn)
    assert decided == [200]
    assert db.execute("select count(*), count(distinct job) from scheduler.run").fetchall() == [(200, 200)]


async def test_new_definitions_do_not_stand_before_what_is_due(
    dsn: str, db: psycopg.Connection, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule(db, "due")
    await plan_once(dsn)
    for number in range(5):
        schedule(db, f"new {number}")
    clock.advance(55)
    planned: list[str] = []

    def noted(jobs: duty.DueJobs, until: datetime, **limit: timedelta) -> Plan:
        planned.extend(jobs.jobs)
        return plan(jobs, until, **limit)

    monkeypatch.setattr("scheduler.planner.plan", noted)
    monkeypatch.setattr("scheduler.planner.PAGE", 2)
    await plan_once(dsn)
    assert planned[0] == "due"
    assert len(planned) == 6


async def test_instants_that_come_one_by_one_are_planned_together(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    for _ in range(3):
        clock.advance(0.01)
        schedule(db, f"job at {clock.now}", "@every 60s")
    await plan_once(dsn)
    clock.advance(49.98)
    assert await plan_once(dsn) == pytest.approx(0.5)
