"""Claims that race for one limit: whatever the order, it is kept, and nobody waits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import LiteralString

import psycopg

from tests.conftest import Connect
from tests.support.builders import APP, add_run, add_worker, claim, column, finish, one

CLAIM: LiteralString = "select c.id from scheduler.claim(%s, %s, p_limit => %s) c"


def test_of_two_claims_for_one_key_the_second_leaves_it_out_and_takes_another(
    db: psycopg.Connection, connect: Connect
) -> None:
    contended = add_run(db, concurrency_key="a", concurrency_limit=5)
    add_run(db, concurrency_key="a", concurrency_limit=5)
    free = add_run(db, concurrency_key="b")
    worker, first, second = add_worker(db), connect(), connect()
    with first.transaction():
        assert column(first, CLAIM, APP, worker, 1) == [contended]
        assert column(second, CLAIM, APP, worker, 9) == [free], "the second run of the key has a slot, but no turn"
    assert len(column(second, CLAIM, APP, worker, 9)) == 1


def test_a_claim_that_got_the_key_counts_what_the_one_before_it_took(db: psycopg.Connection, connect: Connect) -> None:
    for _ in range(4):
        add_run(db, concurrency_key="k", concurrency_limit=2)
    worker, first, second = add_worker(db), connect(), connect()
    with first.transaction():
        assert len(column(first, CLAIM, APP, worker, 1)) == 1
        assert column(second, CLAIM, APP, worker, 9) == []
    assert len(column(second, CLAIM, APP, worker, 9)) == 1


def test_a_slot_is_free_when_its_run_has_ended_for_everybody(db: psycopg.Connection, connect: Connect) -> None:
    for _ in range(2):
        add_run(db, concurrency_key="k")
    worker, first, second = add_worker(db), connect(), connect()
    lease, taken = claim(db, worker)
    with first.transaction(force_rollback=True):
        finish(first, worker, lease, taken)
        assert column(second, CLAIM, APP, worker, 9) == []
    assert column(second, CLAIM, APP, worker, 9) == [], "that was rolled back"
    finish(db, worker, lease, taken)
    assert len(column(second, CLAIM, APP, worker, 9)) == 1


def test_of_two_claims_of_a_limited_queue_the_second_finds_nothing(db: psycopg.Connection, connect: Connect) -> None:
    for _ in range(4):
        add_run(db)
    db.execute("select scheduler.limit_queue(%s, 'default', 2)", [APP])
    worker, first, second = add_worker(db), connect(), connect()
    with first.transaction():
        assert len(column(first, CLAIM, APP, worker, 1)) == 1
        assert column(second, CLAIM, APP, worker, 9) == []
    assert len(column(second, CLAIM, APP, worker, 9)) == 1
    assert column(second, CLAIM, APP, worker, 9) == []


def test_many_workers_at_once_never_exceed_a_limit_and_leave_no_slot_behind(
    db: psycopg.Connection, connect: Connect
) -> None:
    limit, keys, each = 2, 5, 40
    db.execute(
        "insert into scheduler.run (app, executor, concurrency_key, concurrency_limit)"
        " select %s, 'python', 'key ' || i %% %s, %s from generate_series(1, %s) i",
        [APP, keys, limit, keys * each],
    )
    db.execute("select scheduler.limit_queue(%s, 'default', 7)", [APP])

    def work(conn: psycopg.Connection) -> int:
        worker, done, idle = add_worker(conn), 0, 0
        while idle < 200:
            lease, taken = claim(conn, worker, 3)
            most = column(conn, "select count(*) from scheduler.slot s group by s.concurrency_key")
            assert max(most, default=0) <= limit
            assert sum(most) <= 7
            finish(conn, worker, lease, taken)
            done += len(taken)
            idle = 0 if taken else idle + 1
        return done

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, [connect() for _ in range(4)])) == keys * each
    assert one(db, "select count(*) from scheduler.slot") == 0
