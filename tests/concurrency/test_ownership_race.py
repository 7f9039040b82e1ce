"""Servers that give apps away at once, while others plan them: nobody waits for long, and nobody plans what it lost."""

from __future__ import annotations

from typing import LiteralString

import psycopg
from psycopg.types.json import Jsonb

from tests.conftest import Connect
from tests.support.builders import APP, a_plan, add_job, add_server, column, one, own, rows
from tests.support.clock import Clock
from tests.support.sessions import blocked

NOON = "2030-01-01T12:00:00+00:00"
SOON = "2030-01-01T12:00:05+00:00"
ASSIGN: LiteralString = "select a.moved from scheduler.assign_apps(null, %s) a"
FIRES: LiteralString = "select f.outcome from scheduler.plan_fires(%s, %s, %s, %s) f"
OWNER: LiteralString = "select o.server, o.epoch from scheduler.owner o where o.app = %s"


def test_of_two_that_assign_at_once_one_does_nothing_and_does_not_wait(
    db: psycopg.Connection, connect: Connect
) -> None:
    server = add_server(db)
    add_job(db, schedule="@daily")
    first, second = connect(), connect()
    with first.transaction():
        assert one(first, ASSIGN, True) == 1
        assert one(second, ASSIGN, True) is None
        second.execute("select scheduler.retire_server(%s)", [add_server(db)])
    assert one(second, ASSIGN, True) == 0
    assert rows(db, OWNER, APP)[0][0] == server


def test_an_app_whose_plan_is_being_written_moves_after_it(
    db: psycopg.Connection, connect: Connect, clock: Clock
) -> None:
    clock.set(NOON)
    job = add_job(db, schedule="* * * * *")
    add_job(db, app="other", schedule="* * * * *")
    former = own(db)
    ((_, epoch),) = rows(db, OWNER, APP)
    other = add_server(db)
    planner = connect()
    with planner.transaction():
        assert column(planner, FIRES, APP, former, epoch, Jsonb([a_plan(job, SOON)])) == ["planned", "moved"]
        db.execute("select scheduler.retire_server(%s)", [former])
        assert rows(db, OWNER, APP) == [(former, epoch)]
        assert rows(db, OWNER, "other")[0][0] == other
        assert rows(db, "select a.moved, a.next_in < '1 s' from scheduler.assign_apps('5 s') a") == [(0, True)]
    assert one(db, ASSIGN, False) == 1
    assert rows(db, OWNER, APP)[0][0] == other
    assert column(db, "select r.job from scheduler.run r") == [job]


def test_a_plan_that_waited_while_its_app_was_given_away_writes_nothing(
    db: psycopg.Connection, connect: Connect, clock: Clock
) -> None:
    clock.set(NOON)
    job = add_job(db, schedule="* * * * *")
    former = own(db)
    ((_, epoch),) = rows(db, OWNER, APP)
    other = add_server(db)
    assigner, planner = connect(), connect()
    with assigner.transaction():
        assigner.execute("select scheduler.retire_server(%s)", [former])
        late = blocked(db, planner, FIRES, APP, former, epoch, Jsonb([a_plan(job, SOON)]))
    assert late.rows() == []
    assert column(db, "select r.job from scheduler.run r") == []
    ((owner, epoch),) = rows(db, OWNER, APP)
    assert owner == other
    assert column(db, FIRES, APP, owner, epoch, Jsonb([a_plan(job, SOON)])) == ["planned", "moved"]


def test_whoever_pauses_an_app_in_an_open_transaction_holds_up_neither_plans_nor_moves(
    db: psycopg.Connection, connect: Connect, clock: Clock
) -> None:
    clock.set(NOON)
    job = add_job(db, app="other", schedule="* * * * *")
    add_job(db, schedule="* * * * *")
    person = connect()
    with person.transaction():
        person.execute("select scheduler.pause(%s)", [APP])
        former = own(db)
        for app, expected in ((APP, []), ("other", ["planned", "moved"])):
            ((_, epoch),) = rows(db, OWNER, app)
            assert column(db, FIRES, app, former, epoch, Jsonb([a_plan(job, SOON)])) == expected
        other = add_server(db)
        db.execute("select scheduler.retire_server(%s)", [former])
        assert {rows(db, OWNER, app)[0][0] for app in (APP, "other")} == {other}
