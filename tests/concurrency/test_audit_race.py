"""Writers of one chain and of many: none forks a chain, and none waits for longer than a commit of another."""

from __future__ import annotations

import threading
from typing import LiteralString

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.builders import APP, add_job, column, one, rows
from tests.support.sessions import blocked

WRONG: LiteralString = """
    select h.app, v.* from scheduler.audit_heads() h cross join lateral scheduler.verify_audit(h.app) v
"""
ADD: LiteralString = "insert into scheduler.job (app, name, executor) values "
EDIT: LiteralString = """
    update scheduler.job set priority = priority + 1 where app = %s and name = %s returning priority
"""
WRITERS, EACH = 6, 15


def test_many_writers_of_one_app_and_of_several_make_unbroken_chains(db: psycopg.Connection, connect: Connect) -> None:
    def write(session: psycopg.Connection, number: int) -> None:
        for turn in range(EACH):
            apps = ("a", "b", "c") if number % 2 else ("c", "b", "a")
            with session.transaction():
                for app in apps:
                    add_job(session, f"job {number} {turn}", app=app)

    threads = [threading.Thread(target=write, args=(connect(), number)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    count = WRITERS * EACH
    assert rows(db, "select app, count(*), max(n) from scheduler.audit group by app order by app") == [
        (app, count, count) for app in ("a", "b", "c")
    ]
    assert rows(db, WRONG) == []


def test_a_transaction_that_stays_open_keeps_nobody_from_other_changes_of_its_app(
    db: psycopg.Connection, connect: Connect
) -> None:
    add_job(db, "first")
    long = connect()
    long.execute("begin")
    add_job(long, "long")
    add_job(db, "short")
    long.execute("commit")
    assert column(db, "select object from scheduler.audit order by n") == ["job first", "job short", "job long"]
    assert rows(db, WRONG) == []


def test_two_that_edit_jobs_in_different_orders_wait_for_the_job_and_not_for_the_chain(
    db: psycopg.Connection, connect: Connect
) -> None:
    """With the chain locked at the edit, one would have it and wait for the job, the other the other way round."""
    add_job(db, "x")
    add_job(db, "y")
    first, second = connect(), connect()
    first.execute("begin")
    first.execute(EDIT, [APP, "y"])
    second.execute("begin")
    second.execute(EDIT, [APP, "x"])
    step = blocked(db, first, EDIT, APP, "x")
    second.execute("commit")
    assert step.value() == 2
    first.execute("commit")
    assert rows(db, WRONG) == []


def test_two_that_change_two_apps_in_opposite_orders_do_not_deadlock(db: psycopg.Connection, connect: Connect) -> None:
    first, second, third = connect(), connect(), connect()
    # Somebody holds the head of a, so that both have to queue for it: in the order of names, neither has b by then.
    add_job(db, app="a")
    third.execute("begin")
    third.execute("select from scheduler.audit_head where app = 'a' for update")
    steps = [
        blocked(db, first, ADD + "('a', '1', 'x'), ('b', '1', 'x') returning app"),
        blocked(db, second, ADD + "('b', '2', 'x'), ('a', '2', 'x') returning app"),
    ]
    third.execute("commit")
    assert [len(step.rows()) for step in steps] == [2, 2]
    assert rows(db, WRONG) == []
    assert one(db, "select count(*) from scheduler.audit") == 5


def test_in_repeatable_read_a_chain_that_moved_is_a_serialization_failure_and_no_fork(
    db: psycopg.Connection, connect: Connect
) -> None:
    add_job(db, "first")
    old = connect()
    old.execute("begin isolation level repeatable read")
    old.execute("select from scheduler.job")
    add_job(db, "second")
    add_job(old, "third")
    with pytest.raises(psycopg.errors.SerializationFailure):
        old.execute("commit")
    assert column(db, "select object from scheduler.audit order by n") == ["job first", "job second"]
    assert rows(db, WRONG) == []


def test_two_first_changes_of_an_app_make_one_chain(db: psycopg.Connection, connect: Connect) -> None:
    first, second = connect(), connect()
    first.execute("begin")
    add_job(first, "first")
    first.execute("set constraints all immediate")
    step = blocked(db, second, ADD + "('shop', 'second', 'x') returning app")
    first.execute("commit")
    assert step.value() == APP
    assert column(db, "select object from scheduler.audit order by n") == ["job first", "job second"]
    assert rows(db, WRONG) == []
