"""Planners, people who edit, and workers, at one job at once: each instant is decided once, and nobody deadlocks."""

from __future__ import annotations

from typing import LiteralString

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.conftest import Connect
from tests.support.builders import (
    APP,
    PLAN,
    a_plan,
    add_job,
    add_run,
    add_worker,
    claim,
    column,
    one,
    own,
    plan,
    rows,
    state,
)
from tests.support.clock import Clock
from tests.support.sessions import blocked

NOON = "2030-01-01T12:00:00+00:00"
SOON = "2030-01-01T12:00:05+00:00"
NEXT = "2030-01-01T12:01:00+00:00"
LEDGER: LiteralString = "select f.outcome, f.reason, f.run_id from scheduler.fire f"
EDIT: LiteralString = "update scheduler.job set spec = '{\"n\": 2}' returning name"
REMOVE: LiteralString = "select scheduler.remove_job(%s, 'nightly')::text"
PAUSE: LiteralString = "select scheduler.pause(%s, 'nightly')"
PAUSE_APP: LiteralString = "select scheduler.pause(%s)"


@pytest.fixture
def job(db: psycopg.Connection, clock: Clock) -> str:
    """A job of every minute, of which nothing is planned yet, at noon."""
    clock.set(NOON)
    name = add_job(db, schedule="* * * * *")
    own(db)
    return name


def a_new_plan(job: str) -> Jsonb:
    return Jsonb([a_plan(job, SOON, following=NEXT)])


def test_two_planners_with_one_plan_write_one_run(db: psycopg.Connection, connect: Connect, job: str) -> None:
    first, second = connect(), connect()
    with first.transaction():
        ((outcome, run),) = rows(first, PLAN, APP, a_new_plan(job))
        assert outcome == "planned"
        assert rows(second, PLAN, APP, a_new_plan(job)) == [], "it passes over a job that is being planned"
    assert rows(second, PLAN, APP, a_new_plan(job)) == [], "and one that was planned meanwhile"
    assert rows(db, LEDGER) == [("planned", None, run)]
    assert column(db, "select r.id from scheduler.run r") == [run]


def test_a_plan_that_was_broken_off_leaves_the_instant_to_the_next(
    db: psycopg.Connection, connect: Connect, job: str
) -> None:
    first, second = connect(), connect()
    with first.transaction(force_rollback=True):
        rows(first, PLAN, APP, a_new_plan(job))
    ((_, run),) = rows(second, PLAN, APP, a_new_plan(job))
    assert column(db, "select r.id from scheduler.run r") == [run]


def test_the_ledger_stops_a_plan_that_gets_past_everything_else(db: psycopg.Connection, job: str) -> None:
    db.execute("update scheduler.job set overlap = 'allow'")
    ((_, run),) = plan(db, job, SOON)
    db.execute("update scheduler.job_schedule set next_at = '-infinity'")
    assert plan(db, job, SOON) == []
    assert rows(db, LEDGER) == [("planned", None, run)]
    assert column(db, "select r.id from scheduler.run r") == [run]


@pytest.mark.parametrize(
    "change", [EDIT, REMOVE, PAUSE, PAUSE_APP], ids=["edit", "removal", "pause", "pause of the app"]
)
def test_a_change_that_waited_for_a_plan_takes_it_back(
    db: psycopg.Connection, connect: Connect, job: str, change: LiteralString
) -> None:
    planner, person = connect(), connect()
    with planner.transaction():
        ((_, run),) = rows(planner, PLAN, APP, a_new_plan(job))
        late = blocked(db, person, change, *[APP] * change.count("%s"))
    late.rows()
    assert (state(db, run), rows(db, LEDGER)) == (None, [])
    assert rows(planner, PLAN, APP, a_new_plan(job)) == [], "the plan was made before the change"


@pytest.mark.parametrize(
    "change", [EDIT, REMOVE, PAUSE, PAUSE_APP], ids=["edit", "removal", "pause", "pause of the app"]
)
def test_a_plan_passes_over_a_job_that_is_being_changed(
    db: psycopg.Connection, connect: Connect, job: str, change: LiteralString
) -> None:
    planner, person = connect(), connect()
    with person.transaction():
        rows(person, change, *[APP] * change.count("%s"))
        assert rows(planner, PLAN, APP, a_new_plan(job)) == []
    assert rows(planner, PLAN, APP, a_new_plan(job)) == [], "the plan was made before the change"
    assert rows(db, LEDGER) == []


def test_an_edit_that_was_taken_back_leaves_what_was_planned(
    db: psycopg.Connection, connect: Connect, job: str
) -> None:
    ((_, run),) = rows(db, PLAN, APP, a_new_plan(job))
    person = connect()
    with person.transaction(force_rollback=True):
        person.execute(EDIT)
    assert state(db, run) == "pending"
    assert rows(db, LEDGER) == [("planned", None, run)]


def test_plans_of_two_jobs_and_edits_of_them_in_the_other_order_do_not_deadlock(
    db: psycopg.Connection, connect: Connect, clock: Clock
) -> None:
    clock.set(NOON)
    for name in ("a", "b"):
        add_job(db, name, schedule="* * * * *")
    own(db)
    planner, person = connect(), connect()
    edit: LiteralString = "update scheduler.job set priority = 5 where name = %s returning name"
    with planner.transaction():
        assert len(rows(planner, PLAN, APP, Jsonb([a_plan("a", SOON, following=NEXT)]))) == 1
        person.execute("begin")
        person.execute(edit, ["b"])
        late = blocked(db, person, edit, "a")
        assert rows(planner, PLAN, APP, Jsonb([a_plan("b", SOON, following=NEXT)])) == []
    late.rows()
    person.execute("commit")
    assert rows(db, LEDGER) == []


def test_a_removal_that_waited_for_a_claim_lets_the_run_go_on(
    db: psycopg.Connection, connect: Connect, clock: Clock, job: str
) -> None:
    ((_, run),) = plan(db, job, SOON)
    clock.advance(5)
    claimant, person = add_worker(db), connect()
    worker = connect()
    with worker.transaction():
        assert claim(worker, claimant)[1] == [run]
        late = blocked(db, person, REMOVE, APP)
    late.rows()
    assert state(db, run) == "running"
    assert rows(db, LEDGER) == [("planned", None, run)]


@pytest.mark.parametrize("end", [(REMOVE, "removed"), (PAUSE, "paused")])
def test_a_removal_that_waited_for_a_prefetch_takes_the_run_back(
    db: psycopg.Connection, connect: Connect, clock: Clock, job: str, end: tuple[LiteralString, str]
) -> None:
    ((_, run),) = plan(db, job, SOON)
    add_run(db)
    clock.advance(5)
    claimant, person, worker = add_worker(db), connect(), connect()
    with worker.transaction():
        lease, _ = claim(worker, claimant, begin=False)
        late = blocked(db, person, end[0], APP)
    late.rows()
    assert state(db, run) is None
    assert rows(db, LEDGER) == [("skipped", end[1], run)]
    assert one(db, "select scheduler.begin(%s, %s, %s)", APP, claimant, lease) == [run]


def test_a_claim_passes_over_the_run_of_a_job_that_is_being_removed(
    db: psycopg.Connection, connect: Connect, clock: Clock, job: str
) -> None:
    ((_, run),) = plan(db, job, SOON)
    clock.advance(5)
    claimant, person = add_worker(db), connect()
    with person.transaction():
        rows(person, REMOVE, APP)
        assert claim(db, claimant) == (0, [])
    assert claim(db, claimant) == (0, [])
    assert state(db, run) is None
    assert rows(db, LEDGER) == [("skipped", "removed", run)]


def test_a_begin_that_waited_for_a_removal_does_not_start_the_run(
    db: psycopg.Connection, connect: Connect, clock: Clock, job: str
) -> None:
    ((_, run),) = plan(db, job, SOON)
    clock.advance(5)
    claimant, person, worker = add_worker(db), connect(), connect()
    lease, _ = claim(db, claimant, begin=False)
    with person.transaction():
        rows(person, REMOVE, APP)
        late = blocked(db, worker, "select scheduler.begin(%s, %s, %s)", APP, claimant, lease)
    assert late.value() is None
    assert state(db, run) is None


def test_a_removal_finds_the_run_that_a_release_put_back_meanwhile(
    db: psycopg.Connection, connect: Connect, clock: Clock, job: str
) -> None:
    ((_, run),) = plan(db, job, SOON)
    clock.advance(5)
    claimant, person, worker = add_worker(db), connect(), connect()
    lease, _ = claim(db, claimant, begin=False)
    with worker.transaction():
        assert one(worker, "select scheduler.release(%s, %s, %s)", APP, claimant, lease) == 1
        late = blocked(db, person, REMOVE, APP)
    late.rows()
    assert state(db, run) is None
    assert rows(db, LEDGER) == [("skipped", "removed", run)]


def test_two_pauses_of_an_app_agree_who_paused_it(db: psycopg.Connection, connect: Connect, job: str) -> None:
    first, second = connect(), connect()
    with first.transaction():
        assert one(first, PAUSE_APP, APP) is True
        late = blocked(db, second, PAUSE_APP, APP)
    assert late.value() is False
