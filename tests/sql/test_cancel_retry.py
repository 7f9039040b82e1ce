"""What people do to runs: cancel one wherever it is, and run one again that has ended."""

from __future__ import annotations

from datetime import timedelta
from typing import LiteralString

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.builders import APP, add_run, add_worker, attempts, claim, column, finish, one, rows, state
from tests.support.clock import Clock

NOON = "2030-01-01T12:00:00+00:00"
RETRY: LiteralString = "select scheduler.retry(%s, %s)"
CANCEL: LiteralString = "select scheduler.cancel(%s, %s)"


def test_a_pending_run_is_cancelled_at_once(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    run = add_run(db)
    assert one(db, CANCEL, APP, run) is True
    assert one(db, CANCEL, APP, run) is False
    assert rows(
        db, "select r.state, r.attempt, r.started_at, r.finished_at, r.fence, r.error from scheduler.runs r"
    ) == [("cancelled", 0, None, clock.now, None, "cancelled before it started")]


def test_a_prefetched_run_is_cancelled_like_a_pending_one(db: psycopg.Connection, clock: Clock) -> None:
    # Nothing was started, so no attempt is counted and no start noted, wherever the run was lying.
    clock.set(NOON)
    pending, prefetched, worker = add_run(db, run_at="2031-01-01Z"), add_run(db), add_worker(db)
    lease, _ = claim(db, worker, begin=False)
    assert [one(db, CANCEL, APP, run) for run in (pending, prefetched)] == [True, True]
    a, b = column(db, "select to_jsonb(h) - 'id' - 'run_at' from scheduler.history h")
    assert a == b
    assert one(db, "select scheduler.begin(%s, %s, %s)", APP, worker, lease) is None, "it was all of the lease"


def test_a_running_run_is_cancelled_by_its_worker(db: psycopg.Connection, connect: Connect) -> None:
    listener = connect()
    listener.execute("listen scheduler_cancel")
    run, worker = add_run(db), add_worker(db)
    lease, _ = claim(db, worker)
    assert [one(db, CANCEL, APP, run) for _ in range(2)] == [True, True]
    assert {note.payload for note in listener.notifies(timeout=5, stop_after=1)} == {f"{worker} {run}"}
    assert column(db, "select h.cancels from scheduler.heartbeat(%s) h", worker) == [[run]]
    assert state(db, run) == "running"
    finish(db, worker, lease, [run], "cancelled")
    assert (state(db, run), attempts(db, run)) == ("cancelled", [(1, "cancelled")])
    assert column(db, "select h.cancels from scheduler.heartbeat(%s) h", worker) == [[]]


def test_a_run_that_ended_cannot_be_cancelled(db: psycopg.Connection) -> None:
    run, worker = add_run(db), add_worker(db)
    other = add_run(db)
    lease, _ = claim(db, worker)
    finish(db, worker, lease, [run])
    assert [one(db, CANCEL, APP, each) for each in (run, 0)] == [False, False], "its lease is still there"
    assert one(db, CANCEL, "another", other) is False
    finish(db, worker, lease, [other])
    assert [one(db, CANCEL, APP, each) for each in (run, other)] == [False, False]
    assert attempts(db, run) == attempts(db, other) == [(1, "succeeded")]


@pytest.mark.parametrize(
    ("outcome", "max_attempts", "end"),
    [("succeeded", 3, "succeeded"), ("failed", 1, "failed"), ("failed", 3, "cancelled"), ("lost", 3, "cancelled")],
)
def test_a_run_whose_cancellation_was_asked_for_is_not_tried_again(
    db: psycopg.Connection, outcome: str, max_attempts: int, end: str
) -> None:
    run, worker = add_run(db, max_attempts=max_attempts, unique_key="k"), add_worker(db)
    lease, _ = claim(db, worker)
    assert one(db, CANCEL, APP, run) is True
    finish(db, worker, lease, [run], outcome)
    assert (state(db, run), attempts(db, run)) == (end, [(1, end)])
    assert column(db, "select k.run_id from scheduler.run_key k") == []


def test_a_run_whose_cancellation_was_asked_for_does_not_come_back_released(db: psycopg.Connection) -> None:
    cancelled, kept = add_run(db), add_run(db)
    worker = add_worker(db)
    lease, _ = claim(db, worker)
    one(db, CANCEL, APP, cancelled)
    assert one(db, "select scheduler.release(%s, %s, %s)", APP, worker, lease) == 1
    assert [state(db, run) for run in (cancelled, kept)] == ["cancelled", "pending"]
    assert attempts(db, cancelled) == [(0, "cancelled")]


def test_a_retry_is_a_new_run_with_all_its_attempts(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    given = {"queue": "default", "spec": {"n": 1}, "priority": 3, "max_attempts": 2, "timeout": "1 min", "tags": ["a"]}
    given |= {"retry_delay": "1 s", "retry_max_delay": "2 s"}
    old, worker = add_run(db, unique_key="k", **given), add_worker(db)
    lease, _ = claim(db, worker)
    finish(db, worker, lease, [old], "cancelled")
    clock.advance(60)
    new = one(db, RETRY, APP, old)
    assert new != old
    assert (state(db, old), state(db, new)) == ("cancelled", "pending")
    assert rows(db, """
        select r.spec, r.priority, r.max_attempts, r.timeout, r.tags, r.unique_key, r.attempt, r.lost, r.run_at,
            r.retry_delay::text, r.retry_max_delay::text
        from scheduler.run r
    """) == [({"n": 1}, 3, 2, timedelta(minutes=1), ["a"], "k", 0, 0, clock.now, "00:00:01", "00:00:02")]  # fmt: skip


def test_a_retry_of_what_has_not_ended_or_never_was_is_refused(db: psycopg.Connection) -> None:
    pending, worker = add_run(db, run_at="2999-01-01Z"), add_worker(db)
    prefetched = add_run(db)
    claim(db, worker, begin=False)
    running = add_run(db)
    claim(db, worker)
    waiting = add_run(db)
    finish(db, worker, claim(db, worker)[0], [waiting], "failed")
    for run, sqlstate, text in [
        *((run, "JS003", "has not finished") for run in (pending, prefetched, running, waiting)),
        (0, "JS002", "there is no run 0 in app"),
    ]:
        with pytest.raises(psycopg.Error, match=text) as refused:
            one(db, RETRY, APP, run)
        assert refused.value.sqlstate == sqlstate
    with pytest.raises(psycopg.Error, match=f'there is no run {running} in app "another"'):
        one(db, RETRY, "another", running)


def test_a_retry_waits_its_turn_for_a_unique_key(db: psycopg.Connection) -> None:
    old, worker = add_run(db, unique_key="k"), add_worker(db)
    finish(db, worker, claim(db, worker)[0], [old])
    add_run(db, unique_key="k")
    with pytest.raises(psycopg.errors.UniqueViolation, match="pending or running run with unique_key"):
        one(db, RETRY, APP, old)
