"""Two sessions at one run: whatever the order, it ends once, and nobody waits for nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.errors import UniqueViolation

from tests.conftest import Connect
from tests.support.builders import APP, add_run, add_worker, attempts, claim, column, finish, one, rows, state
from tests.support.sessions import blocked

CANCEL: LiteralString = "select scheduler.cancel(%s, %s)"
CLAIM: LiteralString = "select c.id from scheduler.claim(%s, %s, p_limit => 100) c"
BEGIN: LiteralString = "select scheduler.begin(%s, %s, %s)"
FINISH: LiteralString = "select scheduler.finish(%s, %s, %s)"
RELEASE: LiteralString = "select scheduler.release(%s, %s, %s)"
ENQUEUE: LiteralString = "select scheduler.enqueue(%s, 'python', unique_key => 'k')"
RECLAIM: LiteralString = "select r.runs from scheduler.reclaim('1 hour') r"


class Held:
    """A run under a lease, in a database with a session that looks on."""

    def __init__(self, db: psycopg.Connection, *, begin: bool = True, **columns: Any) -> None:
        self.run = add_run(db, **columns)
        self.worker = add_worker(db)
        self.lease, _ = claim(db, self.worker, begin=begin)

    @property
    def key(self) -> tuple[str, int, int]:
        return APP, self.worker, self.lease


def test_a_finish_that_comes_before_reclaim_counts(db: psycopg.Connection, connect: Connect) -> None:
    held = Held(db)
    one(db, "select scheduler.retire_worker(%s)::text", held.worker)
    worker, server = connect(), connect()
    with worker.transaction():
        assert one(worker, FINISH, *held.key) == 1
        assert rows(server, RECLAIM) == [], "the lease is being finished: reclaim passes it over"
    assert rows(server, RECLAIM) == []
    assert attempts(db, held.run) == [(1, "succeeded")]


def test_a_finish_that_comes_after_reclaim_changes_nothing(db: psycopg.Connection, connect: Connect) -> None:
    held = Held(db)
    one(db, "select scheduler.retire_worker(%s)::text", held.worker)
    worker, server = connect(), connect()
    with server.transaction():
        assert rows(server, RECLAIM) == [(1,)]
        late = blocked(db, worker, FINISH, *held.key)
    assert late.value() == 0
    assert attempts(db, held.run) == [(1, "lost")]
    assert state(db, held.run) == "pending"


def test_a_finish_counts_when_reclaim_was_broken_off(db: psycopg.Connection, connect: Connect) -> None:
    held = Held(db)
    one(db, "select scheduler.retire_worker(%s)::text", held.worker)
    worker, server = connect(), connect()
    with server.transaction(force_rollback=True):
        rows(server, RECLAIM)
        late = blocked(db, worker, FINISH, *held.key)
    assert late.value() == 1
    assert attempts(db, held.run) == [(1, "succeeded")]


def test_two_reclaims_share_the_leases(db: psycopg.Connection, connect: Connect) -> None:
    first, second = Held(db), Held(db)
    for held in (first, second):
        one(db, "select scheduler.retire_worker(%s)::text", held.worker)
    one_server, other_server = connect(), connect()
    with one_server.transaction():
        assert rows(one_server, "select r.lease from scheduler.reclaim('1 hour', 1) r") == [(first.lease,)]
        assert rows(other_server, "select r.lease from scheduler.reclaim('1 hour') r") == [(second.lease,)]
    assert rows(other_server, RECLAIM) == []
    assert [attempts(db, held.run) for held in (first, second)] == [[(1, "lost")]] * 2


def test_two_reclaims_that_both_find_a_silent_worker_do_not_wait_for_ever(
    db: psycopg.Connection, connect: Connect
) -> None:
    held = Held(db)
    db.execute("update scheduler.worker set seen_at = seen_at - interval '1 day'")
    silent: LiteralString = "select r.lease from scheduler.reclaim('0') r"
    one_server, other_server = connect(), connect()
    with one_server.transaction():
        assert rows(one_server, silent) == [(held.lease,)]
        late = blocked(db, other_server, silent)
    assert late.rows() == []
    assert attempts(db, held.run) == [(1, "lost")]


def test_a_heartbeat_that_comes_too_late_says_so(db: psycopg.Connection, connect: Connect) -> None:
    worker = add_worker(db)
    server, late_one = connect(), connect()
    with server.transaction():
        rows(server, "select r.lease from scheduler.reclaim('0') r")
        late = blocked(db, late_one, "select scheduler.heartbeat(%s)", worker)
    with pytest.raises(psycopg.Error, match="was declared dead") as refused:
        late.rows()
    assert refused.value.sqlstate == "JS004"


def test_a_cancel_that_comes_after_the_finish_is_too_late(db: psycopg.Connection, connect: Connect) -> None:
    held = Held(db)
    worker, person = connect(), connect()
    with worker.transaction():
        one(worker, FINISH, *held.key)
        late = blocked(db, person, CANCEL, APP, held.run)
    assert late.value() is False
    assert attempts(db, held.run) == [(1, "succeeded")]


def test_a_cancel_finds_the_run_that_a_failure_put_back_meanwhile(db: psycopg.Connection, connect: Connect) -> None:
    held = Held(db)
    worker, person = connect(), connect()
    with worker.transaction():
        finish(worker, held.worker, held.lease, [held.run], "failed")
        late = blocked(db, person, CANCEL, APP, held.run)
    assert late.value() is True
    assert state(db, held.run) == "cancelled"
    assert attempts(db, held.run) == [(1, "failed"), (1, "cancelled")]


@pytest.mark.parametrize(("outcome", "end"), [("succeeded", "succeeded"), ("failed", "cancelled")])
def test_a_finish_that_waited_for_a_cancel_minds_it(
    db: psycopg.Connection, connect: Connect, outcome: str, end: str
) -> None:
    held = Held(db)
    worker, person = connect(), connect()
    query: LiteralString = "select scheduler.finish(%s, %s, %s, p_outcomes => array[%s])"
    with person.transaction():
        assert one(person, CANCEL, APP, held.run) is True
        late = blocked(db, worker, query, *held.key, outcome)
    assert late.value() == 1
    assert (state(db, held.run), len(attempts(db, held.run))) == (end, 1)


def test_a_cancel_that_waited_for_a_claim_reaches_the_worker(db: psycopg.Connection, connect: Connect) -> None:
    run, claimant = add_run(db), add_worker(db)
    worker, person = connect(), connect()
    with worker.transaction():
        assert column(worker, CLAIM, APP, claimant) == [run]
        late = blocked(db, person, CANCEL, APP, run)
    assert late.value() is True
    assert state(db, run) == "running"
    assert column(db, "select h.cancels from scheduler.heartbeat(%s) h", claimant) == [[run]]


def test_a_cancel_that_waited_for_a_prefetch_ends_the_run(db: psycopg.Connection, connect: Connect) -> None:
    run, claimant = add_run(db), add_worker(db)
    worker, person = connect(), connect()
    with worker.transaction():
        lease, _ = claim(worker, claimant, begin=False)
        late = blocked(db, person, CANCEL, APP, run)
    assert late.value() is True
    assert (state(db, run), attempts(db, run)) == ("cancelled", [(0, "cancelled")])
    assert one(db, BEGIN, APP, claimant, lease) is None


def test_a_claim_passes_over_what_is_being_cancelled(db: psycopg.Connection, connect: Connect) -> None:
    run, other = add_run(db), add_run(db)
    claimant, person = add_worker(db), connect()
    with person.transaction(force_rollback=True):
        assert one(person, CANCEL, APP, run) is True
        assert column(db, CLAIM, APP, claimant) == [other]
    assert column(db, CLAIM, APP, claimant) == [run], "the cancel was taken back"


def test_a_begin_that_waited_for_a_cancel_does_not_start_the_run(db: psycopg.Connection, connect: Connect) -> None:
    held = Held(db, begin=False)
    worker, person = connect(), connect()
    with person.transaction():
        assert one(person, CANCEL, APP, held.run) is True
        late = blocked(db, worker, BEGIN, *held.key)
    assert late.value() is None
    assert (state(db, held.run), attempts(db, held.run)) == ("cancelled", [(0, "cancelled")])


def test_a_cancel_that_waited_for_a_begin_reaches_the_worker(db: psycopg.Connection, connect: Connect) -> None:
    held = Held(db, begin=False)
    worker, person = connect(), connect()
    with worker.transaction():
        assert one(worker, BEGIN, *held.key) == []
        late = blocked(db, person, CANCEL, APP, held.run)
    assert late.value() is True
    assert state(db, held.run) == "running"
    assert column(db, "select h.cancels from scheduler.heartbeat(%s) h", held.worker) == [[held.run]]


def test_a_cancel_finds_the_run_that_was_released_meanwhile(db: psycopg.Connection, connect: Connect) -> None:
    held = Held(db, begin=False)
    worker, person = connect(), connect()
    with worker.transaction():
        assert one(worker, RELEASE, *held.key) == 1
        late = blocked(db, person, CANCEL, APP, held.run)
    assert late.value() is True
    assert (state(db, held.run), attempts(db, held.run)) == ("cancelled", [(0, "cancelled")])


def test_a_release_that_waited_for_a_cancel_does_not_bring_the_run_back(
    db: psycopg.Connection, connect: Connect
) -> None:
    held = Held(db)
    worker, person = connect(), connect()
    with person.transaction():
        assert one(person, CANCEL, APP, held.run) is True
        late = blocked(db, worker, RELEASE, *held.key)
    assert late.value() == 0
    assert state(db, held.run) == "cancelled"


def test_two_cancels_of_a_run_end_it_once(db: psycopg.Connection, connect: Connect) -> None:
    run = add_run(db)
    one_person, other = connect(), connect()
    with one_person.transaction():
        assert one(one_person, CANCEL, APP, run) is True
        late = blocked(db, other, CANCEL, APP, run)
    assert late.value() is False
    assert attempts(db, run) == [(0, "cancelled")]


def test_an_enqueue_waits_for_the_one_that_has_the_key_and_gets_its_run(
    db: psycopg.Connection, connect: Connect
) -> None:
    first, second = connect(), connect()
    with first.transaction():
        run = one(first, ENQUEUE, APP)
        late = blocked(db, second, ENQUEUE, APP)
    assert late.value() == run
    assert column(db, "select r.id from scheduler.run r") == [run]


def test_an_enqueue_takes_over_a_key_whose_first_taker_gave_up(db: psycopg.Connection, connect: Connect) -> None:
    first, second = connect(), connect()
    with first.transaction(force_rollback=True):
        run = one(first, ENQUEUE, APP)
        late = blocked(db, second, ENQUEUE, APP)
    assert late.value() != run
    assert column(db, "select r.id from scheduler.run r") == [late.value()]


def test_a_plain_insert_waits_for_the_key_and_then_fails(db: psycopg.Connection, connect: Connect) -> None:
    first, second = connect(), connect()
    with first.transaction():
        one(first, ENQUEUE, APP)
        late = blocked(
            db, second, "insert into scheduler.run (app, executor, unique_key) values ('shop', 'x', 'k') returning id"
        )
    with pytest.raises(UniqueViolation):
        late.rows()


def test_an_enqueue_waits_for_the_end_of_the_run_that_has_the_key(db: psycopg.Connection, connect: Connect) -> None:
    held = Held(db, unique_key="k")
    worker, person = connect(), connect()
    with worker.transaction():
        one(worker, FINISH, *held.key)
        late = blocked(db, person, ENQUEUE, APP)
    assert late.value() != held.run
    assert state(db, late.value()) == "pending"


def test_a_claim_passes_over_what_another_is_claiming(db: psycopg.Connection, connect: Connect) -> None:
    runs = [add_run(db) for _ in range(4)]
    first, second = connect(), connect()
    with first.transaction():
        assert claim(first, add_worker(db), 3)[1] == runs[:3]
        assert claim(second, add_worker(db), 3)[1] == runs[3:]
    assert claim(second, add_worker(db), 3) == (0, [])


def test_twenty_sessions_claim_5000_runs_each_exactly_once(db: psycopg.Connection, connect: Connect) -> None:
    db.execute("insert into scheduler.run (app, executor) select 'shop', 'python' from generate_series(1, 5000)")
    together = Barrier(20)

    def drain(session: psycopg.Connection, worker: int) -> list[int]:
        together.wait()
        return [run for batch in iter(lambda: claim(session, worker, 13)[1], []) for run in batch]

    with ThreadPoolExecutor(20) as threads:
        shares = list(threads.map(drain, [connect() for _ in range(20)], [add_worker(db) for _ in range(20)]))
    assert sorted(run for share in shares for run in share) == list(range(1, 5001))
    assert sum(1 for share in shares if share) > 1, "they did not take turns"
    assert one(db, "select count(*) from scheduler.runs r where r.state = 'running'") == 5000
    assert rows(db, "select r.id from scheduler.run r") == []
