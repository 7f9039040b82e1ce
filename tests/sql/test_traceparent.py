"""A run's traceparent: given with it, and there wherever the run goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import LiteralString

import psycopg
import pytest

from tests.support.builders import APP, add_job, add_run, add_worker, claim, column, finish, one, plan, rows

GIVEN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CLAIM: LiteralString = "select c.lease, c.traceparent from scheduler.claim(%s, %s, p_limit => 2) c order by c.id"
VIEW: LiteralString = "select r.state, r.traceparent from scheduler.runs r where r.app = %s and r.id = %s"
Ends = Callable[[psycopg.Connection, int, int, int], object]


def test_enqueue_takes_one_and_needs_none(db: psycopg.Connection) -> None:
    with_one = one(db, "select scheduler.enqueue(%s, 'python', traceparent => %s)", APP, GIVEN)
    without = one(db, "select scheduler.enqueue(%s, 'python')", APP)
    assert column(db, "select r.traceparent from scheduler.run r order by r.id") == [GIVEN, None]
    assert with_one < without


def test_the_view_shows_it_in_every_state(db: psycopg.Connection) -> None:
    run, worker = add_run(db, traceparent=GIVEN), add_worker(db)
    seen = rows(db, VIEW, APP, run)
    lease, _ = claim(db, worker)
    seen += rows(db, VIEW, APP, run)
    finish(db, worker, lease, [run])
    seen += rows(db, VIEW, APP, run)
    assert seen == [("pending", GIVEN), ("running", GIVEN), ("succeeded", GIVEN)]


def test_a_claim_tells_it_to_the_worker_and_the_lease_keeps_it(db: psycopg.Connection) -> None:
    add_run(db, traceparent=GIVEN)
    add_run(db)
    assert [given for _, given in rows(db, CLAIM, APP, add_worker(db))] == [GIVEN, None]
    assert column(db, "select (unnest(l.runs)).traceparent from scheduler.lease l") == [GIVEN, None]


def released(db: psycopg.Connection, worker: int, lease: int, run: int) -> None:
    one(db, "select scheduler.release(%s, %s, %s)", APP, worker, lease)


def failed(db: psycopg.Connection, worker: int, lease: int, run: int) -> None:
    finish(db, worker, lease, [run], "failed")


def lost(db: psycopg.Connection, worker: int, lease: int, run: int) -> None:
    db.execute("update scheduler.worker set dead_at = now()")
    db.execute("select scheduler.reclaim('1 hour')")


@pytest.mark.parametrize("end", [released, failed, lost])
def test_the_next_attempt_has_it_however_the_last_one_ended(db: psycopg.Connection, end: Ends) -> None:
    run, worker = add_run(db, traceparent=GIVEN), add_worker(db)
    lease, _ = claim(db, worker)
    end(db, worker, lease, run)
    assert [given for _, given in rows(db, CLAIM, APP, add_worker(db))] == [GIVEN]
    assert set(column(db, "select h.traceparent from scheduler.history h")) <= {GIVEN}


@pytest.mark.parametrize("end", ["finish", "finish all", "cancel"])
def test_a_run_that_is_tried_again_by_hand_has_it(db: psycopg.Connection, end: str) -> None:
    run, worker = add_run(db, traceparent=GIVEN), add_worker(db)
    if end == "cancel":
        one(db, "select scheduler.cancel(%s, %s)", APP, run)
    else:
        lease, _ = claim(db, worker)
        if end == "finish all":
            one(db, "select scheduler.finish(%s, %s, %s)", APP, worker, lease)
        else:
            finish(db, worker, lease, [run])
    again = one(db, "select scheduler.retry(%s, %s)", APP, run)
    assert rows(db, VIEW, APP, again) == [("pending", GIVEN)]


def test_an_event_that_ends_keeps_it(db: psycopg.Connection) -> None:
    gone = add_run(db, executor="event", spec='{"ttl": "1 s"}', run_at="2020-01-01Z", traceparent=GIVEN)
    db.execute("select scheduler.expire_events()")
    kept = add_run(db, executor="event", traceparent=GIVEN)
    one(db, "select scheduler.end_event(%s, %s)", APP, kept)
    assert rows(db, "select h.id, h.traceparent from scheduler.history h order by h.id") == [
        (gone, GIVEN),
        (kept, GIVEN),
    ]


def test_one_of_any_length_is_refused(db: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.StringDataRightTruncation):
        add_run(db, traceparent="x" * 101)


def test_what_a_schedule_fires_has_none(db: psycopg.Connection) -> None:
    plan(db, add_job(db, schedule="0 * * * *"), "2030-01-01T12:00:00Z")
    assert column(db, "select r.traceparent from scheduler.run r") == [None]
