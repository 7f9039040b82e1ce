"""When an alarm fires, is told, told again and over: by a clock that the test sets."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.errors import CheckViolation

from tests.conftest import Connect
from tests.support.builders import add_job, add_run, add_worker, column, one
from tests.support.clock import Clock

NOON = "2040-03-08T12:00:00+00:00"
HOOK = [{"channel": "webhook", "url": "http://127.0.0.1:1/"}]
SETTLE = 30


@pytest.fixture
def at_noon(clock: Clock) -> Clock:
    clock.set(NOON)
    return clock


def add_alarm(db: psycopg.Connection, kind: str, name: str = "a", **columns: Any) -> None:
    values = {"app": "shop", "name": name, "kind": kind, "channels": json.dumps(HOOK), "gather": "0 s", "pause": "0 s"}
    values |= columns
    db.execute(
        f"insert into scheduler.alarm ({', '.join(values)}) values ({', '.join(['%s'] * len(values))})".encode(),
        list(values.values()),
    )
    # A moment ago: the clock stands still, and what happens in the very instant is not about it yet.
    db.execute("update scheduler.alarm set created_at = created_at - interval '1 s' where name = %s", [name])
    db.execute("update scheduler.alarm_look set cursor_at = cursor_at - interval '1 s'")


def look(db: psycopg.Connection, settle: float = SETTLE) -> list[tuple[Any, ...]]:
    return db.execute(
        "select app, alarms, firing from scheduler.look_for_alarms('1 s', make_interval(secs => %s))", [settle]
    ).fetchall()


def said(db: psycopg.Connection) -> list[tuple[str, int]]:
    """State and count of each notice so far."""
    return db.execute(
        "select r.spec -> 'notice' ->> 'state', (r.spec -> 'notice' ->> 'count')::integer from scheduler.run r"
        " where r.app = '_alarms' order by r.id"
    ).fetchall()


def fail(db: psycopg.Connection, count: int = 1, **columns: Any) -> list[int]:
    runs = [add_run(db, app="shop", executor="x", max_attempts=1, **columns) for _ in range(count)]
    worker = add_worker(db)
    lease, ids = one_claim(db, worker)
    assert finish_all(db, worker, lease, ids) == count
    return runs


def one_claim(db: psycopg.Connection, worker: int) -> tuple[int, list[int]]:
    found = db.execute(
        "select c.lease, c.id from scheduler.claim('shop', %s, p_limit => 5000, p_begin => true) c", [worker]
    ).fetchall()
    return found[0][0], [run for _, run in found]


def finish_all(  # noqa: PLR0917  a lease, and how it ends
    db: psycopg.Connection, worker: int, lease: int, runs: list[int], outcome: str = "failed", at: Any = None
) -> int:
    query: LiteralString = (
        "select scheduler.finish('shop', %s, %s, %s, %s, p_errors => %s, p_finished_at => %s::timestamptz[])"
    )
    ends = None if at is None else [at] * len(runs)
    return int(one(db, query, worker, lease, runs, [outcome] * len(runs), ["it broke"] * len(runs), ends))


def walk(db: psycopg.Connection, clock: Clock, seconds: int, step: int = 5) -> None:
    for _ in range(seconds // step):
        clock.advance(step)
        look(db)


def test_a_failure_is_told_once_and_is_over_when_nothing_failed_for_long(
    db: psycopg.Connection, at_noon: Clock
) -> None:
    add_alarm(db, "failed", within="60 s")
    look(db)
    at_noon.advance(5)
    fail(db)
    walk(db, at_noon, 55)
    assert said(db) == [("firing", 1)]
    walk(db, at_noon, 60)
    assert said(db) == [("firing", 1), ("resolved", 1)]


def test_what_was_gathered_is_one_notice_and_all_of_it_is_counted(db: psycopg.Connection, at_noon: Clock) -> None:
    add_alarm(db, "failed", gather="10 s", within="60 s")
    for _ in range(5):
        fail(db, 200)
        walk(db, at_noon, 2, step=2)
    walk(db, at_noon, 120)
    assert said(db) == [("firing", 1000), ("resolved", 1000)]


def test_n_failures_fire_only_when_they_lie_within_the_time(db: psycopg.Connection, at_noon: Clock) -> None:
    add_alarm(db, "failed", times=3, within="60 s")
    for _ in range(4):
        fail(db)
        walk(db, at_noon, 40)
    assert said(db) == []
    fail(db, 2)
    walk(db, at_noon, 5)
    assert said(db) == [("firing", 3)]


def test_attempts_that_are_tried_again_are_failing_and_not_failed(db: psycopg.Connection, at_noon: Clock) -> None:
    add_alarm(db, "failed", "a")
    add_alarm(db, "failing", "b")
    add_run(db, app="shop", executor="x", max_attempts=2)
    worker = add_worker(db)
    finish_all(db, worker, *one_claim(db, worker))
    walk(db, at_noon, 5)
    assert column(db, "select spec -> 'notice' ->> 'alarm' from scheduler.run where app = '_alarms'") == ["b"]


def test_a_failure_that_is_reported_late_is_told_and_counted_once(db: psycopg.Connection, at_noon: Clock) -> None:
    """The worker's clock stamped it before the last look; it comes to be known afterwards."""
    add_alarm(db, "failed", within="60 s")
    walk(db, at_noon, 60)
    add_run(db, app="shop", executor="x", max_attempts=1)
    worker = add_worker(db)
    lease, runs = one_claim(db, worker)
    ended_at = at_noon.now
    walk(db, at_noon, 25)
    finish_all(db, worker, lease, runs, at=ended_at)
    walk(db, at_noon, 120)
    assert said(db) == [("firing", 1), ("resolved", 1)]


def test_what_failed_while_nobody_looked_is_told(db: psycopg.Connection, at_noon: Clock) -> None:
    add_alarm(db, "failed", within="60 s")
    walk(db, at_noon, 60)
    at_noon.advance(600)
    fail(db, 3)
    at_noon.advance(3600)
    walk(db, at_noon, 40)
    assert said(db) == [("firing", 3), ("resolved", 3)]


def test_what_ended_just_before_an_outage_and_is_reported_after_it_is_told(
    db: psycopg.Connection, at_noon: Clock
) -> None:
    """Nobody could look, and nobody report: the first look afterwards must not pass what is still on its way."""
    add_alarm(db, "failed", within="60 s")
    walk(db, at_noon, 60)
    add_run(db, app="shop", executor="x", max_attempts=1)
    worker = add_worker(db)
    lease, runs = one_claim(db, worker)
    ended_at = at_noon.now + timedelta(seconds=1)
    at_noon.advance(600)
    look(db)
    at_noon.advance(2)
    look(db)
    finish_all(db, worker, lease, runs, at=ended_at)
    walk(db, at_noon, 60)
    assert said(db)[:1] == [("firing", 1)]


def test_it_is_told_again_while_it_fires_and_never_twice_within_the_pause(
    db: psycopg.Connection, at_noon: Clock
) -> None:
    add_alarm(db, "failed", within="40 s", pause="5 min", repeat="1 h")
    fail(db)
    walk(db, at_noon, 60)
    assert said(db) == [("firing", 1), ("resolved", 1)]
    fail(db)
    walk(db, at_noon, 100)
    assert said(db) == [("firing", 1), ("resolved", 1)], "the pause is not over"
    walk(db, at_noon, 240)
    assert said(db)[2:] == [("firing", 1), ("resolved", 1)], "what was short is told nevertheless"
    for _ in range(8):
        fail(db)
        walk(db, at_noon, 600, step=20)
    states = [state for state, _ in said(db)[4:]]
    assert states.count("firing") == 8


def test_what_goes_on_is_told_again_after_a_while(db: psycopg.Connection, at_noon: Clock) -> None:
    add_alarm(db, "failed", within="60 s", repeat="5 min")
    for _ in range(20):
        fail(db)
        walk(db, at_noon, 30, step=10)
    assert [state for state, _ in said(db)] == ["firing", "again"]


def test_a_silenced_alarm_says_nothing_until_then(db: psycopg.Connection, at_noon: Clock) -> None:
    add_alarm(db, "failed", within="300 s")
    db.execute("select scheduler.silence_alarm('shop', 'a', %s)", [at_noon.now + timedelta(seconds=60)])
    fail(db)
    walk(db, at_noon, 50)
    assert said(db) == []
    walk(db, at_noon, 20)
    assert said(db) == [("firing", 1)]


def test_only_the_runs_of_its_job_count_for_an_alarm_of_a_job(db: psycopg.Connection, at_noon: Clock) -> None:
    add_alarm(db, "failed", job="nightly")
    fail(db, job="other")
    walk(db, at_noon, 10)
    assert said(db) == []
    fail(db, job="nightly")
    walk(db, at_noon, 10)
    assert said(db) == [("firing", 1)]


def test_an_app_with_many_jobs_is_looked_through_for_those_without_a_success(
    db: psycopg.Connection, at_noon: Clock
) -> None:
    for number in range(450):
        add_job(db, f"job {number:03}", app="shop", schedule="@daily", executor="x")
    add_alarm(db, "no_success", within="1 h")
    at_noon.advance(3700)
    silent_since = [
        (number, at_noon.now - timedelta(seconds=60), "failed" if number % 3 == 0 else "succeeded")
        for number in range(450)
    ]
    with db.cursor() as cursor:
        cursor.executemany(
            "insert into scheduler.history (app, queue, id, job, executor, spec, outcome, attempt, priority,"
            " max_attempts, run_at, finished_at) values ('shop', 'default', %s, %s, 'x', '{}', %s, 1, 0, 1, now(), %s)",
            [(number, f"job {number:03}", outcome, at) for number, at, outcome in silent_since],
        )
    walk(db, at_noon, 20)
    assert one(db, "select cardinality(subjects) from scheduler.alarm_state") == 150
    db.execute("update scheduler.history set outcome = 'succeeded'")
    walk(db, at_noon, 20)
    assert [state for state, _ in said(db)] == ["firing", "resolved"]


def test_one_look_is_had_at_an_app_at_a_time(db: psycopg.Connection, connect: Connect, at_noon: Clock) -> None:
    add_alarm(db, "failed")
    fail(db)
    other = connect()
    at_noon.advance(5)
    with other.transaction():
        assert look(other) == [("shop", 1, 1)]
        assert look(db) == [], "another one is at it"
    assert look(db) == [], "it was looked at just now"
    assert said(db) == [("firing", 1)]


def test_a_look_that_is_undone_has_told_nothing_and_the_next_one_does(
    db: psycopg.Connection, connect: Connect, at_noon: Clock
) -> None:
    add_alarm(db, "failed")
    fail(db)
    at_noon.advance(5)
    with connect().transaction(force_rollback=True) as undone:
        assert look(undone.connection) == [("shop", 1, 1)]
    assert said(db) == []
    look(db)
    assert said(db) == [("firing", 1)]


def test_the_audit_has_alarms_without_what_looks_like_a_secret(db: psycopg.Connection) -> None:
    hook = [{"channel": "webhook", "url": "https://ops:hunter22@x/", "headers": {"Authorization": "Bearer hunter22"}}]
    add_alarm(db, "failed", channels=json.dumps(hook))
    db.execute("update scheduler.alarm set times = 2")
    db.execute("select scheduler.remove_alarm('shop', 'a')")
    found = db.execute("select action, object, before::text, after::text from scheduler.audit order by n").fetchall()
    assert [(action, what) for action, what, _, _ in found] == [
        ("add", "alarm a"),
        ("edit", "alarm a"),
        ("remove", "alarm a"),
    ]
    assert "hunter22" not in str(found)
    assert '"times": 2' in found[1][3]


def test_an_alarm_that_asks_something_else_starts_anew(db: psycopg.Connection, at_noon: Clock) -> None:
    add_alarm(db, "failed")
    fail(db)
    walk(db, at_noon, 5)
    db.execute("update scheduler.alarm set channels = channels || channels")
    assert one(db, "select count(*) from scheduler.alarm_state where since_at is not null") == 1
    db.execute("update scheduler.alarm set times = 5")
    assert one(db, "select count(*) from scheduler.alarm_state") == 0


def test_no_error_can_name_a_secret_that_a_notice_would_then_carry(db: psycopg.Connection, at_noon: Clock) -> None:
    add_alarm(db, "failed", name="${secret:x}")
    fail(db)
    walk(db, at_noon, 5)
    assert "${secret" not in one(db, "select spec::text from scheduler.run where app = '_alarms'")


@pytest.mark.parametrize(
    ("rule", "columns"),
    [
        ("kind_is_known", {"kind": "sad"}),
        ("channels_are_1_to_10_objects", {"channels": "[]"}),
        ("channels_are_1_to_10_objects", {"channels": '["webhook"]'}),
        ("channels_are_1_to_10_objects", {"channels": '{"channel": "webhook"}'}),
        ("channels_are_webhook_slack_dingtalk_or_email", {"channels": '[{"channel": "pigeon"}]'}),
        ("hooks_are_named_secrets", {"channels": '[{"channel": "slack", "url": "https://hooks.slack.com/T0/B0/x"}]'}),
        (
            "hooks_are_named_secrets",
            {"channels": '[{"channel": "dingtalk", "url": "${secret:d}", "secret": "SEC000"}]'},
        ),
        ("times_is_1_to_1000", {"times": 0}),
        ("only_what_happens_is_counted", {"kind": "late", "times": 2}),
        ("no_worker_is_of_an_app", {"kind": "no_worker", "job": "nightly"}),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_by_name(
    db: psycopg.Connection, rule: str, columns: dict[str, Any]
) -> None:
    with pytest.raises(CheckViolation, match=rule):
        add_alarm(db, **({"kind": "failed"} | columns))


def test_a_notice_is_a_run_for_each_channel_and_a_judgement_without_news_changes_nothing(
    db: psycopg.Connection,
) -> None:
    add_alarm(db, "failed", channels=json.dumps(HOOK * 3))
    runs = one(db, "select scheduler.write_notices(a, 'test', '{}') from scheduler.alarm a")
    assert column(db, "select id from scheduler.run where (app, executor) = ('_alarms', 'alarm') order by id") == runs
    assert len(one(db, "select scheduler.test_alarm('shop', 'a')")) == 3
    judged: LiteralString = """
        select (scheduler.judge_alarm(a, s, scheduler.clock(), '{}', 0, '{}')).since_at
        from scheduler.alarm a
        cross join (
            select row('shop', 'a', null, null, null, 0, '{}', null, null, '{}', '')::scheduler.alarm_state as s
        ) s
    """
    assert one(db, judged) is None
