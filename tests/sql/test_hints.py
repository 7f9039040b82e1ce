"""Who is told of new runs, and who is not. A hint goes out when somebody awaits it; a lost one costs only latency."""

from __future__ import annotations

from typing import LiteralString

import psycopg
import pytest
from psycopg.types.json import Jsonb

from scheduler import enqueue
from tests.conftest import Connect
from tests.support.builders import add_run, add_worker, claim, one
from tests.support.clock import Clock

NOON = "2030-01-01T12:00:00+00:00"
AWAITED: LiteralString = """
    select count(*) from pg_locks l join pg_database d on d.oid = l.database
    where d.datname = current_database() and l.locktype = 'advisory' and l.classid = 7716801
"""


def ears(connect: Connect, apps: list[str] | None = None, queues: list[str] | None = None) -> psycopg.Connection:
    """A listener that awaits hints."""
    conn = connect()
    conn.execute("listen scheduler_run")
    conn.execute("select scheduler.await_hints(%s::text[], %s::text[])", [apps, queues])
    return conn


def heard(listener: psycopg.Connection) -> list[str]:
    """The payloads that have come. A notification is there once its transaction and a later answer are."""
    listener.execute("notify scheduler_run, 'end'")
    hints: list[str] = []
    for note in listener.notifies(timeout=10):
        if note.payload == "end":
            return hints
        hints.append(note.payload)
    raise AssertionError("not even its own notification came")


def copy_in(db: psycopg.Connection, queues: list[str], count: int = 1000) -> None:
    with db.cursor() as cursor, cursor.copy("copy scheduler.run (app, queue, executor, spec) from stdin") as copy:
        for number in range(count):
            copy.write_row(("shop", queues[number % len(queues)], "python", Jsonb({"n": number})))


def test_an_insert_tells_who_awaits_it(db: psycopg.Connection, connect: Connect) -> None:
    listener = ears(connect)
    add_run(db)
    assert heard(listener) == ["shop\tdefault"]
    add_run(db, queue="mail")
    assert heard(listener) == ["shop\tmail"], "each insert anew"


def test_enqueue_tells_who_awaits_it_in_sql_and_in_python(db: psycopg.Connection, connect: Connect) -> None:
    listener = ears(connect)
    db.execute("select scheduler.enqueue('shop', 'python', queue => 'mail')")
    assert heard(listener) == ["shop\tmail"]
    enqueue(db, "shop", "note", queue="cards")
    assert heard(listener) == ["shop\tcards"]


@pytest.mark.parametrize(
    ("apps", "queues", "hints"),
    [
        (None, None, 4),
        (["shop"], None, 2),
        (None, ["mail"], 2),
        (["shop"], ["mail"], 1),
        (["shop", "bank"], ["mail", "cards"], 4),
        (["zoo"], None, 0),
        (None, ["zoo"], 0),
        (["shop"], ["zoo"], 0),
    ],
)
def test_a_hint_goes_out_only_for_an_app_and_queue_that_somebody_awaits(
    db: psycopg.Connection, connect: Connect, apps: list[str] | None, queues: list[str] | None, hints: int
) -> None:
    listener = ears(connect, apps, queues)
    for app in ("shop", "bank"):
        for queue in ("mail", "cards"):
            add_run(db, app=app, queue=queue)
    assert len(heard(listener)) == hints


def test_an_insert_that_nobody_awaits_tells_nobody(db: psycopg.Connection, connect: Connect) -> None:
    listener = connect()
    listener.execute("listen scheduler_run")
    add_run(db)
    assert heard(listener) == []


def test_who_declined_hears_nothing_until_it_asks_again(db: psycopg.Connection, connect: Connect) -> None:
    listener = ears(connect, ["shop"], ["default", "mail"])
    listener.execute("select scheduler.await_hints('{shop}')")  # twice, and in other words: the last one counts
    listener.execute("select scheduler.decline_hints()")
    assert one(db, AWAITED) == 0
    add_run(db)
    assert heard(listener) == []
    listener.execute("select scheduler.await_hints('{shop}')")
    add_run(db)
    assert heard(listener) == ["shop\tdefault"]


def test_a_busy_worker_does_not_silence_the_hints_of_one_that_sleeps(db: psycopg.Connection, connect: Connect) -> None:
    busy, asleep = ears(connect), ears(connect)
    busy.execute("select scheduler.decline_hints()")
    add_run(db)
    assert heard(asleep) == ["shop\tdefault"]


def test_the_wish_of_a_crashed_session_is_gone(db: psycopg.Connection, connect: Connect) -> None:
    listener = ears(connect)
    assert one(db, AWAITED) > 0
    one(db, "select pg_terminate_backend(%s, 10000)", listener.info.backend_pid)
    assert one(db, AWAITED) == 0


def test_a_look_for_who_awaits_leaves_nothing_behind(db: psycopg.Connection, connect: Connect) -> None:
    other = connect()
    with db.transaction():
        assert one(db, "select scheduler.are_hints_awaited(scheduler.hint_bucket('shop'))") is False
        add_run(db)
        assert one(db, AWAITED) == 0, "an open transaction holds no lock that another look could see"
        listener = ears(connect)
        awaited = one(other, AWAITED)
        assert one(other, "select scheduler.are_hints_awaited(scheduler.hint_bucket('shop'))") is True
        assert one(other, "select scheduler.are_hints_awaited(scheduler.hint_key('', ''))") is True
        assert one(other, "select scheduler.are_hints_awaited(scheduler.hint_key('shop', ''))") is False
        assert one(other, AWAITED) == awaited, "those of the listener"
    assert heard(listener) == [], "it was inserted before anybody awaited it, and is found by looking"


def test_a_long_transaction_does_not_hold_up_the_hints_of_others(db: psycopg.Connection, connect: Connect) -> None:
    listener, other = ears(connect), connect()
    with db.transaction():
        add_run(db)
        add_run(other)
        assert heard(listener) == ["shop\tdefault"], "of the other, while the first is still open"
    assert heard(listener) == ["shop\tdefault"]


def test_a_rollback_tells_nobody(db: psycopg.Connection, connect: Connect) -> None:
    listener = ears(connect)
    with db.transaction(force_rollback=True):
        add_run(db)
    with db.transaction(), db.transaction(force_rollback=True):
        add_run(db, queue="savepoint")
    assert heard(listener) == []


def test_copy_tells_each_queue_once(db: psycopg.Connection, connect: Connect) -> None:
    listener = ears(connect)
    copy_in(db, ["mail"])
    assert heard(listener) == ["shop\tmail"]
    copy_in(db, ["mail", "cards"])
    assert sorted(heard(listener)) == ["shop\tcards", "shop\tmail"]
    assert one(db, "select count(*) from scheduler.run") == 2000
    assert len(claim(db, add_worker(db), 1000)[1]) == 0, "that is the default queue"


def test_copy_tells_only_the_queues_that_somebody_awaits(db: psycopg.Connection, connect: Connect) -> None:
    listener = ears(connect, queues=["cards"])
    copy_in(db, ["mail", "cards", "default"])
    assert heard(listener) == ["shop\tcards"]


def test_a_transaction_of_many_inserts_tells_each_queue_once(db: psycopg.Connection, connect: Connect) -> None:
    listener = ears(connect)
    with db.transaction():
        for queue in ("mail", "cards", "mail"):
            add_run(db, queue=queue)
    assert heard(listener) == ["shop\tmail", "shop\tcards"]


def test_an_insert_of_many_rows_tells_each_app_and_queue(db: psycopg.Connection, connect: Connect) -> None:
    listener = ears(connect, ["shop", "bank"], ["mail", "cards"])
    db.execute("""
        insert into scheduler.run (app, queue, executor)
        select a.app, q.queue, 'python'
        from unnest('{shop,bank,zoo}'::text[]) a (app), unnest('{mail,cards,default}'::text[]) q (queue)
    """)
    assert sorted(heard(listener)) == ["bank\tcards", "bank\tmail", "shop\tcards", "shop\tmail"]


def test_who_awaits_one_app_hears_of_it_in_whatever_bucket_it_is(db: psycopg.Connection, connect: Connect) -> None:
    apps = [f"app{number}" for number in range(100)]
    buckets = db.execute("select distinct scheduler.hint_bucket(a.app) from unnest(%s::text[]) a (app)", [apps])
    assert sorted(bucket for (bucket,) in buckets) == [*range(32)], "those that await_hints holds for every app"
    everyone = ears(connect)
    for app in apps:
        add_run(db, app=app)
    assert heard(everyone) == [f"{app}\tdefault" for app in apps]
    everyone.execute("select scheduler.decline_hints()")
    half = ears(connect, apps[::2])
    for app in apps:
        add_run(db, app=app)
    assert heard(half) == [f"{app}\tdefault" for app in apps[::2]]


def test_a_hint_that_was_rolled_back_is_given_again(db: psycopg.Connection, connect: Connect) -> None:
    listener = ears(connect)
    with db.transaction():
        with db.transaction(force_rollback=True):
            add_run(db)
        add_run(db)
    assert heard(listener) == ["shop\tdefault"]
    with db.transaction(force_rollback=True):
        add_run(db)
    add_run(db)
    assert heard(listener) == ["shop\tdefault"]


def test_a_run_of_later_wakes_nobody(db: psycopg.Connection, connect: Connect, clock: Clock) -> None:
    clock.set(NOON)
    listener = ears(connect)
    db.execute("select scheduler.enqueue('later', 'python', run_at => scheduler.clock() + interval '3 s')")
    db.execute("select scheduler.enqueue('soon', 'python', run_at => scheduler.clock() + interval '2 s')")
    assert heard(listener) == ["soon\tdefault"]


def test_a_run_that_is_given_back_is_told_like_a_new_one(db: psycopg.Connection, connect: Connect) -> None:
    add_run(db)
    worker = add_worker(db)
    lease, _ = claim(db, worker)
    listener = ears(connect)
    one(db, "select scheduler.release('shop', %s, %s)", worker, lease)
    assert heard(listener) == ["shop\tdefault"]
