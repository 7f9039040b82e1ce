"""Definitions: what a job is unless it says otherwise, and what triggering, renaming, pausing and removing one does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.errors import CheckViolation, UniqueViolation
from psycopg.types.json import Jsonb

from tests.conftest import Connect
from tests.support.builders import APP, add_job, add_worker, attempts, claim, column, one, plan, rows, state
from tests.support.clock import Clock

NOON = "2030-01-01T12:00:00+00:00"
SOON = "2030-01-01T12:00:05+00:00"
MERGE: LiteralString = "select scheduler.merge_spec(%s, %s, %s)"
TRIGGER: LiteralString = "select scheduler.trigger(%s, %s)"
LEDGER: LiteralString = "select f.outcome, f.reason from scheduler.fire f where f.app = %s and f.job = %s"


def test_a_job_is_what_the_contract_says_unless_it_says_otherwise(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    db.execute("insert into scheduler.job (name, executor) values ('nightly', 'python')")
    (job,) = column(db, "select to_jsonb(j) from scheduler.job j")
    assert job == {
        "app": "default", "name": "nightly", "schedule": None, "timezone": "UTC", "executor": "python", "spec": {},
        "queue": "default", "priority": 0, "max_attempts": 3, "timeout": "01:00:00", "retry_delay": "00:00:05",
        "retry_max_delay": "01:00:00", "overlap": "skip", "misfire": "one", "misfire_grace": "1 day",
        "misfire_limit": 100, "dst_gap": "after", "dst_fold": "first", "jitter": None,
        "starts_at": None, "ends_at": None, "paused_at": None, "tags": [],
        "concurrency_key": None, "concurrency_limit": None,
        "created_at": NOON, "updated_at": NOON,
    }  # fmt: skip


REFUSED: dict[str, dict[str, Any]] = {
    "app_is_1_to_100_characters": {"app": ""},
    "name_is_1_to_200_characters": {"name": "n" * 201},
    "schedule_is_at_most_500_characters": {"schedule": "*" * 501},
    "executor_is_1_to_100_characters": {"executor": ""},
    "queue_is_1_to_100_characters": {"queue": ""},
    "spec_is_an_object": {"spec": Jsonb("text")},
    "spec_is_at_most_1_mib": {"spec": {"text": "x" * (1 << 20)}},
    "max_attempts_is_at_least_1": {"max_attempts": 0},
    "timeout_is_positive": {"timeout": "0"},
    "retry_delay_is_not_negative": {"retry_delay": "-1 s"},
    "retry_max_delay_is_not_negative": {"retry_max_delay": "-1 s"},
    "overlap_is_known": {"overlap": "maybe"},
    "misfire_is_known": {"misfire": "maybe"},
    "misfire_grace_is_not_negative": {"misfire_grace": "-1 s"},
    "misfire_limit_is_1_to_10000": {"misfire_limit": 0},
    "dst_gap_is_known": {"dst_gap": "before"},
    "dst_fold_is_known": {"dst_fold": "third"},
    "jitter_is_not_negative": {"jitter": "-1 s"},
    "ends_after_it_starts": {"starts_at": NOON, "ends_at": "2029-01-01Z"},
}


@pytest.mark.parametrize(("rule", "columns"), REFUSED.items(), ids=REFUSED)
def test_a_job_is_refused_by_the_name_of_the_rule_that_it_breaks(
    db: psycopg.Connection, rule: str, columns: dict[str, Any]
) -> None:
    with pytest.raises(CheckViolation) as refused:
        add_job(db, **columns)
    assert refused.value.diag.constraint_name == rule


def test_a_name_is_taken_once_per_app(db: psycopg.Connection) -> None:
    add_job(db)
    add_job(db, app="another")
    with pytest.raises(UniqueViolation, match="job_pkey"):
        add_job(db)


@pytest.mark.parametrize("change", ["name = 'new'", "app = 'new'", "app = 'new', name = 'new'"])
def test_a_job_cannot_be_renamed_or_moved(db: psycopg.Connection, change: LiteralString) -> None:
    add_job(db)
    with pytest.raises(psycopg.Error) as refused:
        db.execute("update scheduler.job set " + change)
    assert refused.value.sqlstate == "JS001"
    assert refused.value.diag.message_primary == 'job "nightly" of app "shop" cannot be renamed or moved'
    assert "Add a job with the new name" in (refused.value.diag.message_hint or "")


MERGED: dict[str, tuple[str, dict[str, Any] | None, dict[str, Any] | None, dict[str, Any]]] = {
    "nothing to add": ("http", {"url": "u"}, None, {"url": "u"}),
    "nothing in it": ("http", {"url": "u"}, {}, {"url": "u"}),
    "its keys win": ("http", {"url": "u", "method": "GET"}, {"method": "PUT"}, {"url": "u", "method": "PUT"}),
    "objects of other executors are replaced": ("http", {"json": {"a": 1}}, {"json": {"b": 2}}, {"json": {"b": 2}}),
    "a null says nothing of arguments": (
        "python", {"task": "t", "args": {"a": 1}}, {"args": None}, {"task": "t", "args": {"a": 1}},
    ),
    "a null says nothing of an environment": (
        "shell", {"command": "c", "environment": {"A": "1"}}, {"environment": None, "command": None},
        {"command": "c", "environment": {"A": "1"}},
    ),
    "arguments of another kind replace": (
        "python", {"task": "t", "args": {"a": 1}}, {"args": [2]}, {"task": "t", "args": [2]},
    ),
    "arguments are merged": (
        "python", {"task": "t", "args": {"a": 1, "b": 1}}, {"args": {"b": 2}}, {"task": "t", "args": {"a": 1, "b": 2}},
    ),
    "arguments where there were none": ("python", {"task": "t"}, {"args": {"b": 2}}, {"task": "t", "args": {"b": 2}}),
    "another task": ("python", {"task": "t", "args": {"a": 1}}, {"task": "u"}, {"task": "u", "args": {"a": 1}}),
    "two arrays are one": (
        "shell", {"command": ["tar", "-c"]}, {"command": ["a b"]}, {"command": ["tar", "-c", "a b"]},
    ),
    "two strings are one": ("shell", {"command": "echo a"}, {"command": "| wc"}, {"command": "echo a | wc"}),
    "words after a string are quoted": (
        "shell", {"command": "echo"}, {"command": ["a b", "it's", "$HOME"]},
        {"command": "echo 'a b' 'it'\\''s' '$HOME'"},
    ),
    "words before a string are quoted": (
        "shell", {"command": ["echo", "a b"]}, {"command": "> f"}, {"command": "'echo' 'a b' > f"},
    ),
    "a command where there was none": ("shell", {"cwd": "/"}, {"command": "ls"}, {"cwd": "/", "command": "ls"}),
    "only another directory": ("shell", {"command": ["ls"]}, {"cwd": "/"}, {"command": ["ls"], "cwd": "/"}),
    "environments are merged": (
        "shell", {"command": ["ls"], "environment": {"A": "1", "B": "1"}}, {"environment": {"B": "2", "C": "2"}},
        {"command": ["ls"], "environment": {"A": "1", "B": "2", "C": "2"}},
    ),
    "an environment where there was none": (
        "shell", {"command": ["ls"]}, {"environment": {"A": "1"}}, {"command": ["ls"], "environment": {"A": "1"}},
    ),
    "containers are as commands": (
        "container", {"image": "i", "command": ["tar"], "environment": {"A": "1"}},
        {"command": ["-c"], "environment": {"B": "2"}},
        {"image": "i", "command": ["tar", "-c"], "environment": {"A": "1", "B": "2"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("executor", "job", "run", "expected"), MERGED.values(), ids=MERGED)
def test_what_a_triggered_run_adds_is_laid_over_the_jobs(
    db: psycopg.Connection, executor: str, job: dict[str, Any], run: dict[str, Any] | None, expected: dict[str, Any]
) -> None:
    assert one(db, MERGE, executor, Jsonb(job), None if run is None else Jsonb(run)) == expected


def test_a_triggered_run_is_what_the_job_says_and_nobodys_instant(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    options: dict[str, Any] = {
        "queue": "mail",
        "priority": -2,
        "max_attempts": 5,
        "timeout": "1 min",
        "retry_delay": "2 s",
        "tags": ["a"],
    }
    add_job(db, schedule="0 3 * * *", spec={"task": "t", "args": {"a": 1}}, retry_max_delay="3 s", **options)
    run = one(db, "select scheduler.trigger(%s, 'nightly', %s)", APP, Jsonb({"args": {"b": 2}}))
    assert rows(db, """
        select r.id, r.queue, r.executor, r.spec, r.run_at, r.priority, r.max_attempts, r.timeout, r.retry_delay,
            r.retry_max_delay, r.job, r.scheduled_at, r.tags, r.attempt
        from scheduler.run r
    """) == [(
        run, "mail", "python", {"task": "t", "args": {"a": 1, "b": 2}}, clock.now, -2, 5, timedelta(minutes=1),
        timedelta(seconds=2), timedelta(seconds=3), "nightly", None, ["a"], 0,
    )]  # fmt: skip
    assert rows(db, LEDGER, APP, "nightly") == []


def test_a_paused_job_can_still_be_triggered(db: psycopg.Connection) -> None:
    add_job(db, tags=[])
    assert one(db, "select scheduler.pause(%s, 'nightly')", APP) is True
    assert state(db, one(db, TRIGGER, APP, "nightly")) == "pending"
    assert column(db, "select r.tags from scheduler.run r") == [None]


def test_an_unknown_job_is_refused_by_every_verb(db: psycopg.Connection) -> None:
    add_job(db, app="another")
    verbs: list[LiteralString] = ["trigger", "pause", "resume", "remove_job"]
    for verb in verbs:
        with pytest.raises(psycopg.Error, match='there is no job "nightly" in app "shop"') as refused:
            db.execute("select scheduler." + verb + "(%s, 'nightly')", [APP])
        assert refused.value.sqlstate == "JS002"


def test_a_job_is_paused_and_resumed_once(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    add_job(db, schedule="* * * * *")
    assert [one(db, "select scheduler.pause(%s, 'nightly')", APP) for _ in range(2)] == [True, False]
    assert column(db, "select j.paused_at from scheduler.job j") == [clock.now]
    assert column(db, "select s.next_at from scheduler.job_schedule s") == [None]
    assert [one(db, "select scheduler.resume(%s, 'nightly')", APP) for _ in range(2)] == [True, False]
    assert column(
        db, "select s.next_at = '-infinity' and s.after_at = scheduler.clock() from scheduler.job_schedule s"
    ) == [True]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("select scheduler.pause('shop', 'nightly')", "paused"),
        ("select scheduler.remove_job('shop', 'nightly')", "removed"),
    ],
)
@pytest.mark.parametrize("place", ["pending", "prefetched"])
def test_the_ledger_says_why_a_due_instant_was_withdrawn(
    db: psycopg.Connection, clock: Clock, end: LiteralString, reason: str, place: str
) -> None:
    clock.set(NOON)
    add_job(db, schedule="* * * * *")
    ((outcome, run),) = plan(db, "nightly", SOON, following="2030-01-01T12:01:00Z")
    assert (outcome, state(db, run)) == ("planned", "pending")
    clock.advance(5)
    worker = add_worker(db)
    lease = claim(db, worker, begin=False)[0] if place == "prefetched" else 0
    db.execute(end)
    assert rows(db, LEDGER, APP, "nightly") == [("skipped", reason)]
    assert (state(db, run), attempts(db, run)) == (None, [])
    assert one(db, "select scheduler.begin(%s, %s, %s)", APP, worker, lease) is None


def test_a_future_instant_that_is_withdrawn_leaves_the_ledger_to_be_decided_anew(
    db: psycopg.Connection, clock: Clock
) -> None:
    clock.set(NOON)
    add_job(db, schedule="* * * * *")
    ((_, run),) = plan(db, "nightly", SOON)
    db.execute("update scheduler.job set spec = '{\"n\": 2}'")
    assert (state(db, run), rows(db, LEDGER, APP, "nightly")) == (None, [])
    ((_, again),) = plan(db, "nightly", SOON)
    assert again != run
    assert column(db, "select r.spec from scheduler.run r") == [{"n": 2}]


def test_an_update_that_changes_nothing_takes_nothing_back(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    add_job(db, schedule="* * * * *")
    ((_, run),) = plan(db, "nightly", SOON)
    db.execute("update scheduler.job set updated_at = scheduler.clock(), spec = spec")
    assert state(db, run) == "pending"
    assert column(db, "select s.revision from scheduler.job_schedule s") == [1]


def test_what_was_started_or_triggered_outlives_its_job(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    add_job(db, schedule="* * * * *")
    ((_, planned),) = plan(db, "nightly", SOON)
    clock.advance(5)
    claim(db, add_worker(db))
    triggered = one(db, TRIGGER, APP, "nightly")
    one(db, "select scheduler.remove_job(%s, 'nightly')::text", APP)
    assert [state(db, run) for run in (planned, triggered)] == ["running", "pending"]
    assert rows(db, LEDGER, APP, "nightly") == [("planned", None)]
    assert column(db, "select s.job from scheduler.job_schedule s") == []


def test_withdraw_counts_what_it_took_back(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    add_job(db, schedule="* * * * *")
    plan(db, "nightly", SOON)
    assert one(db, "select scheduler.withdraw(%s, 'nightly', 'edited', false)", APP) == 1
    assert one(db, "select scheduler.withdraw(%s, 'nightly', 'edited', true)", APP) == 0


def test_every_change_of_a_job_wakes_the_planner(db: psycopg.Connection, connect: Connect) -> None:
    listener = connect()
    listener.execute("listen scheduler_job")
    add_job(db)
    db.execute("update scheduler.job set schedule = '0 3 * * *'")
    db.execute("delete from scheduler.job")
    assert len(list(listener.notifies(timeout=5, stop_after=3))) == 3
