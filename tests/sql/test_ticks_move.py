"""Ticks: one that waits for each item, whatever else happens to it."""

from __future__ import annotations

import threading
from typing import Any

import psycopg

from tests.conftest import Connect

PUT = "select scheduler.put_ticks('ticks', %s, array(select now() + u from unnest(%s::interval[]) u), %s)"


def put(db: psycopg.Connection, *ticks: tuple[str, str, str]) -> None:
    items, after, values = zip(*ticks, strict=True)
    db.execute(PUT, [list(items), list(after), list(values)])


def runs(db: psycopg.Connection) -> list[tuple[Any, ...]]:
    return db.execute("""
        select id, state, unique_key, spec ->> 'value', run_at > now() + interval '30 min'
        from scheduler.runs where app = 'ticks' order by id
    """).fetchall()


def worker(db: psycopg.Connection) -> int:
    row = db.execute("select scheduler.register_worker('w', p_executors => '{kafka}')").fetchone()
    return int(row[0]) if row else 0


def claim(db: psycopg.Connection, worker: int, *, begin: bool) -> int:
    rows = db.execute("select lease from scheduler.claim('ticks', %s, p_limit => 100, p_begin => %s)", [worker, begin])
    return int(rows.fetchall()[0][0])


def test_a_tick_that_waits_is_moved_and_keeps_its_id(db: psycopg.Connection) -> None:
    put(db, ("a", "1 h", "1"), ("b", "0", "2"), ("a", "0", "the last of a batch counts"))
    assert runs(db) == [(1, "pending", "a", "the last of a batch counts", False), (2, "pending", "b", "2", False)]
    put(db, ("a", "1 h", "moved"), ("c", "0", "3"))
    assert [one[1:] for one in runs(db) if one[2] == "a"] == [("pending", "a", "moved", True)]
    assert [one[0] for one in runs(db) if one[2] == "a"] == [1]
    assert len(runs(db)) == 3


def test_a_tick_that_was_claimed_ahead_is_moved_as_long_as_nobody_has_started_it(db: psycopg.Connection) -> None:
    put(db, ("a", "0", "old"), ("b", "0", "neighbour"))
    lease = claim(db, w := worker(db), begin=False)
    put(db, ("a", "1 h", "moved"))
    moved, neighbour = runs(db)
    assert moved[1:] == ("pending", "a", "moved", True)
    assert db.execute("select scheduler.begin('ticks', %s, %s)", [w, lease]).fetchone() == ([moved[0]],)
    assert db.execute("select scheduler.finish('ticks', %s, %s)", [w, lease]).fetchone() == (1,)
    assert [one[:2] for one in runs(db)] == [(moved[0], "pending"), (neighbour[0], "succeeded")]


def test_a_tick_that_is_being_sent_goes_on_beside_the_new_one_however_it_ends(db: psycopg.Connection) -> None:
    ends = {
        "succeeded": "select scheduler.finish('ticks', %s, %s)",
        "failed": "select scheduler.finish('ticks', %s, %s, p_outcomes => '{failed}')",
        "lost": "select scheduler.finish('ticks', %s, %s, p_outcomes => '{lost}')",
        "released": "select scheduler.release('ticks', %s, %s)",
    }
    for end, query in ends.items():
        put(db, (end, "0", "old"))
        lease = claim(db, w := worker(db), begin=True)
        put(db, (end, "1 h", "new"))
        put(db, (end, "1 h", "newer"))
        db.execute(query, [w, lease])
        old, new = runs(db)[-2:]
        assert old[1] == ("succeeded" if end == "succeeded" else "cancelled"), end
        assert new[1:] == ("pending", end, "newer", True), end
        assert db.execute("select run_id from scheduler.run_key where unique_key = %s", [end]).fetchone() == (new[0],)


def test_a_tick_that_was_sent_leaves_its_item_free(db: psycopg.Connection) -> None:
    for value in ("1", "2"):
        put(db, ("a", "0", value))
        lease = claim(db, w := worker(db), begin=True)
        db.execute("select scheduler.finish('ticks', %s, %s)", [w, lease])
    assert [one[1:4] for one in runs(db)] == [("succeeded", "a", "1"), ("succeeded", "a", "2")]
    assert db.execute("select count(*) from scheduler.run_key").fetchone() == (0,)


def test_posts_of_the_same_items_by_many_at_a_time_leave_one_tick_of_each(
    db: psycopg.Connection, connect: Connect
) -> None:
    failures: list[BaseException] = []
    # Each orders the items in a way of its own, so that locks taken item by item would be in each other's way.
    sessions = [connect() for _ in range(6)]

    def post(session: psycopg.Connection, turn: int) -> None:
        try:
            for look in range(8):
                put(session, *((f"i{(nr * (2 * turn + 1) + look) % 64}", "0", f"{turn}") for nr in range(64)))
        except psycopg.Error as error:
            failures.append(error)

    def send(session: psycopg.Connection, stopping: threading.Event) -> None:
        w = worker(session)
        while not stopping.is_set():
            for (lease,) in session.execute(
                "select distinct lease from scheduler.claim('ticks', %s, p_limit => 20)", [w]
            ).fetchall():
                session.execute("select scheduler.finish('ticks', %s, %s)", [w, lease])

    stopping = threading.Event()
    sender = threading.Thread(target=send, args=(connect(), stopping))
    posters = [threading.Thread(target=post, args=(session, nr)) for nr, session in enumerate(sessions)]
    for thread in (sender, *posters):
        thread.start()
    for thread in posters:
        thread.join(60)
    stopping.set()
    sender.join(60)
    assert failures == []
    rows = db.execute("select unique_key, count(*) from scheduler.run group by 1 having count(*) > 1").fetchall()
    assert rows == []
    orphans = (
        "select count(*) from scheduler.run_key k where not exists (select from scheduler.run r where r.id = k.run_id)"
    )
    assert db.execute(orphans).fetchone() == (0,)
