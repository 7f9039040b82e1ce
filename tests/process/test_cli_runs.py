"""Runs by command: enqueued, found, cancelled, tried again, and what they wrote."""

from __future__ import annotations

import json

import psycopg
import pytest

from tests.support.command import Scheduler

NOWHERE = Scheduler("postgresql://127.0.0.1:1/nowhere")
HELLO = '{"command": "echo hello"}'
FINISHED = """
    insert into scheduler.history (app, queue, id, executor, spec, priority, max_attempts, run_at, started_at, attempt,
        finished_at, retry_at, outcome, error, result)
    select 'shop', 'default', 7, 'shell', '{}', 0, 3, now(), now(), a.attempt, now() + a.attempt * interval '1 s',
        case when a.attempt < 3 then now() end, a.outcome, a.error, a.result::jsonb
    from (values (1, 'lost', 'its worker was lost', null), (2, 'failed', 'exit 1', null),
        (3, 'succeeded', null, '{"n": 1e5000}')) as a (attempt, outcome, error, result)
"""


@pytest.fixture
def scheduler(dsn: str) -> Scheduler:
    return Scheduler(dsn)


def test_a_run_is_enqueued_with_every_option(scheduler: Scheduler, db: psycopg.Connection) -> None:
    words = ["--queue", "slow", "--priority", "-1", "--unique-key", "a", "--max-attempts", "9", "--timeout", "90s"]
    words += ["--tag", "x", "--tag", "y", "--at", "2100-01-01T00:00:00+01:00"]
    run = scheduler.says("enqueue", "shop", "shell", "-", *words, stdin=HELLO).strip()
    stored = db.execute(
        "select id, app, queue, executor, spec, priority, unique_key, max_attempts, timeout::text, tags, run_at::text"
        " from scheduler.run"
    ).fetchone()
    spec = {"command": "echo hello"}
    assert stored == (
        *(int(run), "shop", "slow", "shell", spec, -1, "a", 9, "00:01:30", ["x", "y"], "2099-12-31 23:00:00+00"),
    )
    assert scheduler.says("enqueue", "shop", "shell", HELLO, "--unique-key", "a").strip() == run


def test_a_delay_counts_from_the_databases_now(scheduler: Scheduler, db: psycopg.Connection) -> None:
    scheduler.says("enqueue", "shop", "shell", HELLO, "--in", "1h30m")
    (delay,) = db.execute("select extract(epoch from run_at - now())::float8 from scheduler.run").fetchone() or (0,)
    assert 5400 - 60 < delay <= 5400


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        ("{bad", "not JSON"),
        ("[]", "must be a JSON object"),
        ("{}", 'needs "command"'),
        (r'{"command": "\u0000"}', "NUL"),
        (r'{"command": "\ud800"}', "surrogate"),
        ('{"command": "x", "n": 1e999}', "not JSON"),
        ('{"command": "x", "n": ' + "[" * 5_000 + "]" * 5_000 + "}", "nested too deeply"),
        ('{"command": "' + "x" * 2_000_000 + '"}', "at most 1,048,576"),
        ('{"command": "' + "x" * 10_000_000 + '"}', "more than 8,388,608 bytes on stdin"),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}", "not JSON"),
    ],
    ids=["broken", "array", "no command", "NUL", "surrogate", "infinity", "deep", "2 MB", "10 MB", "word"],
)
def test_a_spec_that_cannot_be_stored_is_refused_before_the_database_is_asked(spec: str, wrong: str) -> None:
    assert wrong in NOWHERE.refuses("enqueue", "shop", "shell", "-", stdin=spec)


def test_a_bad_option_of_enqueue_is_refused_before_the_database_is_asked() -> None:
    for words, wrong in (
        (["--at", "2100-01-01T00:00:00Z", "--in", "1s"], "exclude each other"),
        (["--at", "tomorrow"], "no instant"),
        (["--max-attempts", "0"], "from 1 to 32767"),
        (["--queue", ""], "0 characters"),
        (["--unique-key", "k" * 501], "501 characters"),
    ):
        assert wrong in NOWHERE.refuses("enqueue", "shop", "shell", HELLO, *words)


def test_a_run_is_found_without_its_app_and_every_attempt_is_shown(
    scheduler: Scheduler, db: psycopg.Connection
) -> None:
    db.execute(FINISHED)
    shown = scheduler.json("runs", "show", "7")
    assert (shown["app"], shown["state"], shown["result"]) == ("shop", "succeeded", '{"n": ' + "1" + "0" * 5000 + "}")
    assert [one["outcome"] for one in shown["attempts"]] == ["lost", "failed", "succeeded"]
    assert [one["error"] for one in shown["attempts"]] == ["its worker was lost", "exit 1", None]
    assert scheduler.json("runs", "show", "shop", "7") == scheduler.json("runs", "show", "7", "--app", "shop") == shown
    assert "its worker was lost" in scheduler.says("runs", "show", "7")


def test_two_apps_with_the_same_id_are_told_apart(scheduler: Scheduler, db: psycopg.Connection) -> None:
    db.execute("insert into scheduler.run (app, id, executor) values ('a', 7, 'shell'), ('b', 7, 'shell')")
    assert "--app" in scheduler.refuses("runs", "show", "7", status=1)
    assert scheduler.json("runs", "show", "b", "7")["app"] == "b"


def test_runs_are_listed_by_state_app_job_and_queue_a_page_at_a_time(
    scheduler: Scheduler, db: psycopg.Connection
) -> None:
    db.execute(FINISHED)
    db.execute(
        "insert into scheduler.run (app, id, executor, job, queue)"
        " select 'shop', i, 'shell', 'hello', 'slow' from generate_series(10, 14) i"
    )
    db.execute(
        "insert into scheduler.run (app, id, executor, run_at, scheduled_at) values ('z', 20, 'x', 'infinity', now())"
    )

    def ids(*words: str) -> list[int]:
        return [run["id"] for run in scheduler.json("runs", "list", *words)["runs"]]

    assert ids() == [20, 14, 13, 12, 11, 10, 7]
    assert ids("--limit", "2", "--before-id", "14") == [13, 12]
    assert ids("--state", "succeeded") == [7]
    assert ids("--state", "running") == []
    assert ids("--app", "shop", "--state", "pending", "--queue", "slow", "--job", "hello", "--limit", "1") == [14]
    assert "--before-id 13" in scheduler("runs", "list", "--app", "shop", "--limit", "2").stderr
    claimed = db.execute(
        "select lease from scheduler.claim('shop', scheduler.register_worker('w'), 'slow', 2)"
    ).fetchall()
    assert len(claimed) == 2
    assert ids("--state", "running") == [11, 10]
    (queue,) = (one for one in scheduler.json("queues")["queues"] if one["queue"] == "slow")
    assert (queue["pending"], queue["running"], queue["workers"]) == (3, 2, 1)
    db.execute("update scheduler.worker set seen_at = scheduler.clock()")  # commands start slowly on a busy machine
    (worker,) = scheduler.json("workers")["workers"]
    assert (worker["label"], worker["running"], worker["state"]) == ("w", 2, "alive")


def test_a_run_is_cancelled_once_and_tried_again_as_a_new_one(scheduler: Scheduler) -> None:
    run = scheduler.says("enqueue", "shop", "shell", HELLO).strip()
    assert "has not finished" in scheduler.refuses("runs", "retry", run, status=1)
    assert scheduler.says("runs", "cancel", run) == f"run {run} cancelled\n"
    assert "has ended: cancelled" in scheduler.refuses("runs", "cancel", run, status=1)
    again = scheduler.says("runs", "retry", run).strip()
    assert int(again) > int(run)
    assert scheduler.json("runs", "show", again)["state"] == "pending"


def test_a_run_that_is_not_there_is_said_so(scheduler: Scheduler) -> None:
    for words in (["runs", "show"], ["runs", "cancel"], ["runs", "retry"], ["logs"]):
        assert scheduler.refuses(*words, "77", status=1) == "error: there is no run 77"
    assert scheduler.refuses("logs", "shop", "77", status=1) == "error: there is no run 77 in app shop"
    assert "no run id" in scheduler.refuses("logs", "x")
    assert "id of a run" in scheduler.refuses("logs", "a", "b", "1")


def test_a_log_is_followed_until_its_run_has_ended(scheduler: Scheduler, db: psycopg.Connection) -> None:
    db.execute("insert into scheduler.run (app, id, executor) values ('shop', 7, 'shell')")
    line = "insert into scheduler.log values ('shop', 7, %s, %s, now(), 'stdout', %s)"
    db.execute(line, [1, 1, "first"])
    assert scheduler.says("logs", "7") == "first\n"
    following = scheduler.start("logs", "7", "--follow", "--json")
    assert following.stdout is not None
    assert json.loads(following.stdout.readline())["text"] == "first"
    db.execute(line, [2, 1, "second"])
    assert json.loads(following.stdout.readline())["attempt"] == 2
    assert following.poll() is None
    db.execute(line, [2, 2, "last"])
    db.execute("select scheduler.cancel('shop', 7)")
    rest, errors = following.communicate(timeout=30)
    assert (json.loads(rest)["text"], errors, following.returncode) == ("last", "", 0)


def test_stored_text_can_neither_break_a_row_nor_drive_the_terminal(
    scheduler: Scheduler, db: psycopg.Connection
) -> None:
    db.execute("insert into scheduler.run (app, executor, queue) values (%s, 'x', '[red]q[/]')", ["a\n\x1b[2Jb"])
    listed = scheduler.says("runs", "list").splitlines()
    assert len(listed) == 2
    assert r"a\n\x1b[2Jb" in listed[1]
    assert "[red]q[/]" in listed[1]
