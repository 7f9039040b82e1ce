"""Workers and servers: who is alive, who was silent for too long, and what becomes of what the dead held."""

from __future__ import annotations

from datetime import timedelta
from typing import LiteralString

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from tests.conftest import Connect
from tests.support.builders import APP, add_run, add_worker, attempts, claim, column, finish, one, rows, state
from tests.support.clock import Clock
from tests.support.run_model import DEAD_AFTER, START

RECLAIM: LiteralString = "select r.app, r.lease, r.worker, r.runs, r.lost from scheduler.reclaim(%s) r"
ASSIGN: LiteralString = "select a.moved, a.next_in from scheduler.assign_apps(%s) a"
UPDATES: LiteralString = "select s.n_tup_upd, s.n_tup_hot_upd from pg_stat_user_tables s where s.relid = %s::regclass"


def test_a_registered_worker_is_what_it_said(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(START)
    worker = one(db, "select scheduler.register_worker('web-1', 'host', 7, '{shop}', '{mail}', '{shell}', 4, '1.2')")
    assert column(db, "select to_jsonb(w) - 'started_at' - 'seen_at' from scheduler.worker w") == [{
        "id": worker, "label": "web-1", "host": "host", "pid": 7, "apps": ["shop"], "queues": ["mail"],
        "executors": ["shell"], "concurrency": 4, "version": "1.2", "stopped_at": None, "dead_at": None,
        "clock_ahead": None,
    }]  # fmt: skip
    assert add_worker(db, "web-1") != worker, "a name is only a label"
    assert column(db, "select w.executors from scheduler.worker w order by w.id desc limit 1") == [["python", "http"]]


def test_a_heartbeat_tells_the_time_and_keeps_the_worker_alive(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(START)
    worker = add_worker(db)
    for _ in range(3):
        clock.advance(4)
        assert rows(db, "select h.now, h.cancels from scheduler.heartbeat(%s) h", worker) == [(clock.now, [])]
        assert rows(db, RECLAIM, DEAD_AFTER) == []
    clock.advance(5)
    assert rows(db, RECLAIM, DEAD_AFTER) == []
    assert one(db, "select count(*) from scheduler.worker w where w.dead_at is not null") == 0


def test_who_was_silent_for_too_long_is_dead_and_stays_so(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(START)
    worker = add_worker(db)
    server = one(db, "select scheduler.register_server('one', 'host', 7, 'http://one', '1.2')")
    clock.advance(5.001)
    rows(db, RECLAIM, DEAD_AFTER)
    rows(db, ASSIGN, DEAD_AFTER)
    assert column(db, "select w.dead_at from scheduler.worker w") == [clock.now]
    assert column(db, "select s.dead_at from scheduler.server s") == [clock.now]
    beats: list[tuple[LiteralString, int]] = [
        ("select scheduler.heartbeat(%s)", worker), ("select scheduler.heartbeat_server(%s)", server)
    ]  # fmt: skip
    for beat, process in beats:
        with pytest.raises(psycopg.Error, match="was declared dead") as refused:
            db.execute(beat, [process])
        assert refused.value.sqlstate == "JS004"


def test_who_says_good_bye_is_not_declared_dead_afterwards(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(START)
    worker = add_worker(db)
    server = one(db, "select scheduler.register_server('one')")
    assert one(db, "select scheduler.heartbeat_server(%s)", server) == clock.now
    db.execute("select scheduler.retire_worker(%s), scheduler.retire_server(%s)", [worker, server])
    clock.advance(60)
    db.execute("select scheduler.retire_worker(%s), scheduler.retire_server(%s)", [worker, server])
    rows(db, RECLAIM, DEAD_AFTER)
    rows(db, ASSIGN, DEAD_AFTER)
    assert rows(db, "select w.stopped_at, w.dead_at from scheduler.worker w") == [(START, None)]
    assert rows(db, "select s.stopped_at, s.dead_at from scheduler.server s") == [(START, None)]


@pytest.mark.parametrize("table", ["scheduler.worker", "scheduler.server"])
def test_heartbeats_are_hot_updates(db: psycopg.Connection, table: str) -> None:
    # With an index on seen_at none of them was; the table then grows with every second of every process.
    for _ in range(20):
        worker = add_worker(db)
        server = one(db, "select scheduler.register_server('one')")
    for _ in range(300):
        db.execute("select scheduler.heartbeat(%s)", [worker])
        db.execute("select scheduler.heartbeat_server(%s)", [server])
    db.execute("select pg_stat_force_next_flush()")
    ((updates, hot),) = rows(db, UPDATES, table)
    assert updates == 300
    assert hot >= 0.9 * updates


def test_what_a_dead_worker_ran_is_lost_and_what_it_prefetched_comes_back_unharmed(
    db: psycopg.Connection, clock: Clock
) -> None:
    clock.set(START)
    dead, alive = add_worker(db, "dead"), add_worker(db)
    running, ended = add_run(db), add_run(db)
    begun, _ = claim(db, dead)
    finish(db, dead, begun, [ended])
    prefetched = [add_run(db) for _ in range(2)]
    waiting, _ = claim(db, dead, begin=False)
    other = add_run(db)
    claim(db, alive)
    clock.advance(6)
    db.execute("select scheduler.heartbeat(%s)", [alive])
    assert rows(db, RECLAIM, DEAD_AFTER) == [(APP, begun, dead, 1, True), (APP, waiting, dead, 2, False)]
    assert [state(db, run) for run in (running, ended, *prefetched, other)] == [
        "pending", "succeeded", "pending", "pending", "running"
    ]  # fmt: skip
    assert attempts(db, running) == [(1, "lost")]
    assert attempts(db, prefetched[0]) == []
    assert column(db, "select h.error from scheduler.history h where h.outcome = 'lost'") == [
        f"worker {dead} (dead on ) was lost"
    ]
    assert rows(db, "select r.attempt, r.lost, r.run_at from scheduler.run r where r.id = %s", running) == [
        (1, 1, clock.now)
    ]
    assert rows(db, RECLAIM, DEAD_AFTER) == []


def test_what_a_worker_held_when_it_left_or_that_nobody_knows_is_taken_back(db: psycopg.Connection) -> None:
    runs = [add_run(db) for _ in range(2)]
    for forgotten in (False, True):
        worker = add_worker(db)
        claim(db, worker, 1)
        one(db, "select scheduler.retire_worker(%s)::text", worker)
        if forgotten:
            db.execute("delete from scheduler.worker w where w.id = %s", [worker])
    assert len(rows(db, RECLAIM, "1 hour")) == 2
    assert [attempts(db, run) for run in runs] == [[(1, "lost")]] * 2


def test_a_cancelled_run_of_a_dead_worker_ends_there(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(START)
    run, worker = add_run(db), add_worker(db)
    claim(db, worker)
    one(db, "select scheduler.cancel(%s, %s)", APP, run)
    clock.advance(6)
    rows(db, RECLAIM, DEAD_AFTER)
    assert (state(db, run), attempts(db, run)) == ("cancelled", [(1, "cancelled")])


def test_a_reclaim_takes_no_more_leases_than_it_was_told(db: psycopg.Connection) -> None:
    for _ in range(5):
        add_run(db)
    worker = add_worker(db)
    leases = [claim(db, worker, 1)[0] for _ in range(5)]
    one(db, "select scheduler.retire_worker(%s)::text", worker)
    taken = [column(db, "select r.lease from scheduler.reclaim('1 hour', 2) r") for _ in range(4)]
    assert taken == [leases[:2], leases[2:4], leases[4:], []]


def test_nobody_is_dead_for_the_time_postgresql_was_down(db: psycopg.Connection, clock: Clock) -> None:
    started = one(db, "select pg_postmaster_start_time()")
    add_worker(db)
    one(db, "select scheduler.register_server('one')")
    for table in ("worker", "server"):
        silent = SQL("update scheduler.{} set seen_at = %s").format(Identifier(table))
        db.execute(silent, [started - timedelta(hours=1)])
    dead: LiteralString = "select w.dead_at from scheduler.worker w union all select s.dead_at from scheduler.server s"
    clock.set(started + timedelta(seconds=4.9))
    rows(db, RECLAIM, DEAD_AFTER)
    assert rows(db, ASSIGN, DEAD_AFTER) == [(0, timedelta(seconds=0.1))]
    assert column(db, dead) == [None, None]
    clock.set(started + timedelta(seconds=5.1))
    rows(db, RECLAIM, DEAD_AFTER)
    rows(db, ASSIGN, DEAD_AFTER)
    assert column(db, dead) == [clock.now, clock.now]


def test_a_reclaimed_worker_changes_nothing_any_more(db: psycopg.Connection, connect: Connect, clock: Clock) -> None:
    clock.set(START)
    run, stale = add_run(db), add_worker(db)
    lease, _ = claim(db, stale)
    clock.advance(6)
    rows(db, RECLAIM, DEAD_AFTER)
    fresh = add_worker(db)
    later, taken = claim(db, fresh)
    assert (taken, later > lease) == ([run], True)
    for who, what in ((stale, lease), (stale, later), (fresh, lease)):
        assert finish(db, who, what, [run]) == 0
        assert one(db, "select scheduler.release(%s, %s, %s)", APP, who, what) == 0
        assert one(db, "select scheduler.begin(%s, %s, %s)", APP, who, what) is None
    assert finish(db, fresh, later, [run]) == 1
    assert attempts(db, run) == [(1, "lost"), (2, "succeeded")]
    fences = column(db, "select h.fence from scheduler.history h order by h.attempt")
    assert fences == [lease, later]
