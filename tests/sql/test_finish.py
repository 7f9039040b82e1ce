"""How attempts end: finished, lost or released; what is tried again, and what is kept."""

from __future__ import annotations

from datetime import timedelta
from typing import LiteralString

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Connect
from tests.support.builders import APP, add_run, add_worker, attempts, claim, column, finish, one, rows, state
from tests.support.clock import Clock

NOON = "2030-01-01T12:00:00+00:00"
FEW = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
small = st.floats(0, 1e5).map(lambda seconds: timedelta(seconds=round(seconds, 3)))


@FEW
@given(attempt=st.integers(-1, 32_767), delay=st.none() | small, cap=st.none() | small)
def test_backoff_doubles_up_to_its_cap_with_full_jitter(
    db: psycopg.Connection, attempt: int, delay: timedelta | None, cap: timedelta | None
) -> None:
    first = 5.0 if delay is None else delay.total_seconds()
    most = timedelta(
        seconds=min(3600.0 if cap is None else cap.total_seconds(), first * 2.0 ** min(max(attempt - 1, 0), 30))
    )
    waits = column(db, "select scheduler.backoff(%s, %s, %s) from generate_series(1, 30)", attempt, delay, cap)
    assert min(waits) >= timedelta()
    assert max(waits) <= most + timedelta(microseconds=1)
    if most > timedelta(seconds=1):
        assert len({*waits}) > 1, "all at once would come back all at once"
        assert max(waits) > most / 4, "30 draws, all in the lowest quarter: once in 10^18"


def test_no_delay_is_too_long_to_be_doubled(db: psycopg.Connection) -> None:
    # 3 hours * 2^30 is more than an interval holds, and one such run would keep its whole batch from being finished.
    for delay in ("3 hours", "2 days", "100 years"):
        assert one(db, "select scheduler.backoff(40, %s, '1 min') <= '1 min'", delay) is True
        assert one(db, "select scheduler.backoff(40, %s, '200000 years') <= '3650 days'", delay) is True


def test_a_batch_of_successes_is_finished_by_one_call(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    runs, worker = [add_run(db) for _ in range(3)], add_worker(db)
    lease, _ = claim(db, worker)
    begun = clock.now
    clock.advance(3)
    assert one(db, "select scheduler.finish(%s, %s, %s)", APP, worker, lease) == 3
    assert rows(db, """
        select h.id, h.outcome, h.attempt, h.retry_at, h.started_at, h.finished_at, h.worker, h.fence, h.error, h.result
        from scheduler.history h order by h.id
    """) == [(run, "succeeded", 1, None, begun, clock.now, worker, lease, None, None) for run in runs]  # fmt: skip
    assert column(db, "select l.id from scheduler.lease l") == []


def test_reports_run_parallel_to_their_runs(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    runs, worker = [add_run(db, unique_key=str(number)) for number in range(3)], add_worker(db)
    lease, _ = claim(db, worker)
    assert one(db, """
        select scheduler.finish(
            %s, %s, %s, %s::bigint[], '{cancelled,failed,succeeded}', array['1', null, '{"n": 2}']::jsonb[],
            '{why,how,null}',
            array['2029-12-31Z', null, null]::timestamptz[], array['2029-12-31 01:00Z', null, null]::timestamptz[],
            array[null, '7 s', null]::interval[], null
        )
    """, APP, worker, lease, runs[::-1]) == 3  # fmt: skip
    assert rows(db, """
        select h.id, h.outcome, h.result, h.error, h.finished_at - h.started_at, h.retry_at - scheduler.clock()
        from scheduler.history h order by h.id desc
    """) == [
        (runs[2], "cancelled", 1, "why", timedelta(hours=1), None),
        (runs[1], "failed", None, "how", timedelta(), timedelta(seconds=7)),
        (runs[0], "succeeded", {"n": 2}, None, timedelta(), None),
    ]  # fmt: skip


def test_reports_for_all_that_is_open_leave_out_what_ended_before(db: psycopg.Connection) -> None:
    first, second, third = (add_run(db, max_attempts=1) for _ in range(3))
    worker = add_worker(db)
    lease, _ = claim(db, worker)
    finish(db, worker, lease, [first])
    assert one(db, "select scheduler.finish(%s, %s, %s, null, '{failed,cancelled}')", APP, worker, lease) == 2
    assert [state(db, run) for run in (first, second, third)] == ["succeeded", "failed", "cancelled"]


def test_a_lease_that_succeeded_is_finished_whole_each_run_with_its_own_times(db: psycopg.Connection) -> None:
    keyed, plain = add_run(db, unique_key="k", tags=["a"]), add_run(db, priority=1)
    worker = add_worker(db)
    lease, _ = claim(db, worker)
    whole: LiteralString = """
        select scheduler.finish(%s, %s, %s,
            p_started_at => array['2030-01-01 12:00Z', '2030-01-01 12:01Z']::timestamptz[],
            p_finished_at => array['2030-01-01 12:02Z', null]::timestamptz[])
    """
    assert one(db, whole, APP, worker + 1, lease) == 0, "not its lease"
    assert one(db, whole, APP, worker, lease) == 2
    assert one(db, whole, APP, worker, lease) == 0, "twice"
    assert rows(
        db,
        "select h.id, h.outcome, h.attempt, h.worker, h.fence, to_char(h.started_at at time zone 'UTC', 'MI'),"
        " h.finished_at < '2030-01-01 12:03Z', h.unique_key, h.tags from scheduler.history h order by h.id",
    ) == [
        (keyed, "succeeded", 1, worker, lease, "00", True, "k", ["a"]),
        (plain, "succeeded", 1, worker, lease, "01", True, None, None),
    ]
    assert rows(db, "select from scheduler.run_key") == []
    assert rows(db, "select from scheduler.lease") == []


def test_a_lease_can_be_finished_in_parts_and_no_part_twice(db: psycopg.Connection) -> None:
    runs, worker = [add_run(db) for _ in range(3)], add_worker(db)
    lease, _ = claim(db, worker)
    assert finish(db, worker, lease, runs[:2]) == 2
    assert [state(db, run) for run in runs] == ["succeeded", "succeeded", "running"]
    assert finish(db, worker, lease, [*runs, runs[2], 0], "cancelled") == 1
    assert [state(db, run) for run in runs] == ["succeeded", "succeeded", "cancelled"]
    assert finish(db, worker, lease, runs) == 0


def test_an_outcome_nobody_knows_is_refused_and_nothing_ends(db: psycopg.Connection) -> None:
    run, worker = add_run(db), add_worker(db)
    lease, _ = claim(db, worker)
    with pytest.raises(psycopg.errors.CheckViolation, match="outcome_is_known"):
        finish(db, worker, lease, [run], "exploded")
    assert state(db, run) == "running"


def test_who_does_not_hold_the_lease_changes_nothing(db: psycopg.Connection) -> None:
    run, worker, other = add_run(db), add_worker(db), add_worker(db)
    lease, _ = claim(db, worker)
    for app, who, what in [("another", worker, lease), (APP, other, lease), (APP, worker, lease + 1)]:
        assert one(db, "select scheduler.finish(%s, %s, %s)", app, who, what) == 0
        assert one(db, "select scheduler.release(%s, %s, %s)", app, who, what) == 0
    assert state(db, run) == "running"


def test_a_failed_attempt_is_tried_again_until_there_are_none_left(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    run, worker = add_run(db, max_attempts=2, retry_delay="8 s"), add_worker(db)
    lease, _ = claim(db, worker)
    one(db, "select scheduler.finish(%s, %s, %s, p_outcomes => '{failed}')", APP, worker, lease)
    assert state(db, run) == "pending"
    (wait,) = column(db, "select r.run_at - scheduler.clock() from scheduler.run r")
    assert timedelta() <= wait <= timedelta(seconds=8)
    clock.advance(8)
    lease, _ = claim(db, worker)
    one(db, "select scheduler.finish(%s, %s, %s, p_outcomes => '{failed}')", APP, worker, lease)
    assert attempts(db, run) == [(1, "failed"), (2, "failed")]
    assert state(db, run) == "failed"


def test_a_task_may_have_its_own_number_of_attempts(db: psycopg.Connection) -> None:
    few, more, worker = add_run(db), add_run(db, max_attempts=1), add_worker(db)
    lease, _ = claim(db, worker)
    db.execute(
        "select scheduler.finish(%s, %s, %s, %s::bigint[], '{failed,failed}', p_max_attempts => '{0,2}')",
        [APP, worker, lease, [few, more]],
    )
    assert [state(db, run) for run in (few, more)] == ["failed", "pending"]


def test_a_run_lost_three_times_in_a_row_ends_as_poison(db: psycopg.Connection) -> None:
    run, worker = add_run(db, max_attempts=9), add_worker(db)
    for outcome in ("lost", "lost", "failed", "lost", "lost", "lost"):
        lease, _ = claim(db, worker)
        finish(db, worker, lease, [run], outcome)
    assert [outcome for _, outcome in attempts(db, run)] == ["lost", "lost", "failed", "lost", "lost", "failed"]
    assert state(db, run) == "failed"
    (error,) = column(db, "select r.error from scheduler.runs r")
    assert error == "poison: lost 3 times in a row with the process that ran it; "


def test_a_lost_run_has_no_more_attempts_than_others(db: psycopg.Connection) -> None:
    run, worker = add_run(db, max_attempts=1), add_worker(db)
    lease, _ = claim(db, worker)
    finish(db, worker, lease, [run], "lost")
    assert (state(db, run), attempts(db, run)) == ("failed", [(1, "failed")])


def test_released_runs_come_back_unharmed(db: psycopg.Connection) -> None:
    runs, worker = [add_run(db, priority=2, unique_key=str(number), tags=["a"]) for number in range(3)], add_worker(db)
    before = column(db, "select to_jsonb(r) from scheduler.run r order by r.id")
    lease, _ = claim(db, worker)
    assert one(db, "select scheduler.release(%s, %s, %s, %s::bigint[])", APP, worker, lease, runs[:2]) == 2
    assert [state(db, run) for run in runs] == ["pending", "pending", "running"]
    assert one(db, "select scheduler.release(%s, %s, %s, '{}')", APP, worker, lease) == 0
    assert one(db, "select scheduler.release(%s, %s, %s)", APP, worker, lease) == 1
    assert one(db, "select scheduler.release(%s, %s, %s)", APP, worker, lease) == 0
    assert column(db, "select to_jsonb(r) from scheduler.run r order by r.id") == before
    assert attempts(db, runs[0]) == []


def test_ends_of_a_jobs_runs_wake_the_planner(db: psycopg.Connection, connect: Connect) -> None:
    listener = connect()
    listener.execute("listen scheduler_job")
    worker = add_worker(db)
    add_run(db)
    one(db, "select scheduler.finish(%s, %s, %s)", APP, worker, claim(db, worker)[0])
    assert list(listener.notifies(timeout=0)) == []
    add_run(db, job="nightly")
    one(db, "select scheduler.finish(%s, %s, %s)", APP, worker, claim(db, worker)[0])
    assert len(list(listener.notifies(timeout=5, stop_after=1))) == 1


def test_runs_are_struck_off_a_lease_that_goes_with_the_last(db: psycopg.Connection) -> None:
    runs, worker = [add_run(db) for _ in range(2)], add_worker(db)
    lease, _ = claim(db, worker)
    for number, run in enumerate(runs):
        assert column(db, "select cardinality(coalesce(l.done, '{}')) from scheduler.lease l") == [number]
        db.execute("select scheduler.close_runs(%s, %s, %s::bigint[])", [APP, lease, [run]])
    assert column(db, "select l.id from scheduler.lease l") == []


def test_lines_that_are_sent_twice_are_kept_once(db: psycopg.Connection) -> None:
    for texts in (["a", "b"], ["a", "b"], ["x", "c"]):
        first = 1 if texts[0] == "a" else 2
        db.execute(
            "select scheduler.append_log(%s, '{7,7}', '{1,1}', %s::int[], '{2030-01-01Z,2030-01-01Z}',"
            " '{stdout,stderr}', %s::text[])",
            [APP, [first, first + 1], texts],
        )
    assert rows(db, "select l.line, l.stream, l.text from scheduler.log l order by l.line") == [
        (1, "stdout", "a"), (2, "stderr", "b"), (3, "stderr", "c")
    ]  # fmt: skip
