"""Definitions by command: added, listed, previewed, paused, removed."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.command import Scheduler

NOWHERE = Scheduler("postgresql://127.0.0.1:1/nowhere")
HELLO = '{"command": "echo hello"}'


@pytest.fixture
def scheduler(dsn: str) -> Scheduler:
    return Scheduler(dsn)


def test_a_job_is_added_with_every_option_and_shows_its_next_instants(
    scheduler: Scheduler, db: psycopg.Connection
) -> None:
    options = {
        "--schedule": "30 1 * * *",
        "--timezone": "America/New_York",
        "--queue": "slow",
        "--priority": "-5",
        "--max-attempts": "7",
        "--timeout": "90s",
        "--retry-delay": "0",
        "--retry-max-delay": "1h30m",
        "--overlap": "queue",
        "--misfire": "all",
        "--misfire-grace": "2d",
        "--misfire-limit": "9",
        "--dst-gap": "skip",
        "--dst-fold": "both",
        "--jitter": "500ms",
        "--starts-at": "2100-01-01T00:00:00+02:00",
        "--ends-at": "2100-01-02T12:00:00Z",
        "--tag": "night",
    }
    words = [word for option in options.items() for word in option]
    said = scheduler.says("job", "add", "shop", "nightly", "shell", HELLO, *words, "--paused")
    assert said.splitlines() == [
        "job nightly of app shop added",
        "paused",
        "  2100-01-01T06:30:00Z  2100-01-01 01:30:00 -0500 EST",
        "  2100-01-02T06:30:00Z  2100-01-02 01:30:00 -0500 EST",
    ]
    stored = db.execute(
        "select schedule, timezone, queue, priority, max_attempts, timeout::text, retry_delay::text,"
        " retry_max_delay::text, overlap, misfire, misfire_grace::text, misfire_limit, dst_gap, dst_fold, jitter::text,"
        " starts_at::text, ends_at::text, tags, paused_at is not null from scheduler.job"
    ).fetchone()
    assert stored == (
        *(
            "30 1 * * *",
            "America/New_York",
            "slow",
            -5,
            7,
            "00:01:30",
            "00:00:00",
            "01:30:00",
            "queue",
            "all",
            "2 days",
        ),
        *(9, "skip", "both", "00:00:00.5", "2099-12-31 22:00:00+00", "2100-01-02 12:00:00+00", ["night"], True),
    )


def test_a_job_is_overwritten_only_when_asked_for_and_stays_paused(scheduler: Scheduler) -> None:
    scheduler.says("job", "add", "shop", "hello", "shell", HELLO, "--paused")
    assert "--replace" in scheduler.refuses("job", "add", "shop", "hello", "shell", HELLO, status=1)
    scheduler.says("job", "add", "shop", "hello", "shell", HELLO, "--queue", "slow", "--replace")
    shown = scheduler.json("job", "show", "shop", "hello")
    assert (shown["queue"], shown["state"]) == ("slow", "paused")


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["--schedule", "61 * * * *"], "61 is out of range"),
        (["--schedule", "0 3 * * *", "--timezone", "Europe/Pariz"], "did you mean Europe/Paris"),
        (["--timezone", "Europe/Pariz"], "did you mean Europe/Paris"),
        (["--timeout", "90"], "no unit"),
        (["--timeout", "0s"], "longer than nothing"),
        (["--starts-at", "2100-01-01T00:00:00"], "no time zone"),
        (["--starts-at", "2100-01-02T00:00:00Z", "--ends-at", "2100-01-01T00:00:00Z"], "before starts_at"),
        (["--priority", "40000"], "from -32768 to 32767"),
        (["--overlap", "never"], "never"),
        (["--tag", ""], "0 characters"),
    ],
)
def test_a_bad_option_is_refused_before_the_database_is_asked(words: list[str], wrong: str) -> None:
    assert wrong in NOWHERE.refuses("job", "add", "shop", "bad", "shell", HELLO, *words)


def test_a_spec_without_what_its_executor_needs_is_refused_and_an_unknown_executor_only_noted(
    scheduler: Scheduler,
) -> None:
    assert '"command"' in scheduler.refuses("job", "add", "shop", "a", "shell", "{}")
    assert '"task"' in scheduler.refuses("job", "add", "shop", "a", "python", '{"task": 5}')
    assert '"url"' in scheduler.refuses("job", "add", "shop", "a", "http", '{"url": ""}')
    assert '"image"' in scheduler.refuses("job", "add", "shop", "a", "container", '{"command": "ls"}')
    done = scheduler("job", "add", "shop", "a", "carrier-pigeon", "{}")
    assert done.returncode == 0
    assert "note: 'carrier-pigeon' is not a built-in executor" in done.stderr


def test_a_list_goes_on_where_the_page_before_ended(scheduler: Scheduler, db: psycopg.Connection) -> None:
    db.execute(
        "insert into scheduler.job (app, name, executor)"
        " select 'shop', 'job ' || i, 'shell' from generate_series(1, 5) i"
    )
    page = scheduler("job", "list", "--limit", "3")
    assert "note: there may be more: --after shop 'job 3'" in page.stderr
    rest = scheduler.json("job", "list", "--after", "shop", "job 3")["jobs"]
    assert [job["name"] for job in rest] == ["job 4", "job 5"]


def test_a_bad_schedule_that_came_by_sql_shows_in_the_list_and_spoils_nothing_else(
    scheduler: Scheduler, db: psycopg.Connection
) -> None:
    db.execute(
        "insert into scheduler.job (app, name, schedule, executor, timeout, ends_at) values"
        " ('shop', 'bad', '61 * * * *', 'shell', '100000 years', 'infinity'),"
        " ('shop', 'good', '@daily', 'shell', '1 s', null)"
    )
    bad, good = scheduler.json("job", "list")["jobs"]
    assert "61 is out of range" in bad["error"]
    assert (bad["next_at"], bad["ends_at"]) == (None, "infinity")
    assert good["error"] is None
    assert good["next_at"].endswith("T00:00:00Z")
    assert "61 is out of range" in scheduler.refuses("job", "preview", "shop", "bad", status=1)


def test_the_list_says_how_the_last_run_ended(scheduler: Scheduler) -> None:
    scheduler.says("job", "add", "shop", "hello", "shell", HELLO)
    run = scheduler.says("job", "trigger", "shop", "hello", '{"command": "again"}').strip()
    assert scheduler.json("runs", "show", run)["spec"] == {"command": "echo hello again"}
    scheduler.says("runs", "cancel", run)
    (listed,) = scheduler.json("job", "list", "--app", "shop")["jobs"]
    assert (listed["last_run"], listed["last_outcome"]) == (int(run), "cancelled")


def test_a_preview_of_a_schedule_needs_no_database() -> None:
    words = ["--timezone", "America/New_York", "--from", "2026-10-31T00:00:00Z", "-n", "3"]
    both = NOWHERE.json("job", "preview", "--schedule", "30 1 * * *", "--dst-fold", "both", *words)
    assert both == {"instants": ["2026-10-31T05:30:00Z", "2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z"]}
    first = NOWHERE.says("job", "preview", "--schedule", "30 1 * * *", *words).splitlines()
    assert first[2] == "2026-11-02T06:30:00Z  2026-11-02 01:30:00 -0500 EST"
    every = NOWHERE.json("job", "preview", "--schedule", "@every 1h", "--from", "2026-01-01T00:00Z", "-n", "2")
    assert every == {"instants": ["2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"]}
    assert "empty" in NOWHERE.refuses("job", "preview", "--schedule", "")
    assert "or --schedule" in NOWHERE.refuses("job", "preview", "shop")


def test_a_preview_of_a_job_keeps_to_its_bounds(scheduler: Scheduler) -> None:
    bounds = ["--starts-at", "2100-01-01T00:00:00Z", "--ends-at", "2100-01-02T00:00:00Z"]
    scheduler.says("job", "add", "shop", "hello", "shell", HELLO, "--schedule", "@daily", *bounds)
    shown = scheduler.json("job", "preview", "shop", "hello")
    assert shown == {"instants": ["2100-01-01T00:00:00Z", "2100-01-02T00:00:00Z"]}


def test_a_job_and_an_app_are_paused_resumed_and_removed(scheduler: Scheduler) -> None:
    scheduler.says("job", "add", "shop", "hello", "shell", HELLO, "--schedule", "@daily")
    assert scheduler.says("job", "pause", "shop", "hello") == "job hello of app shop paused\n"
    assert scheduler.says("job", "pause", "shop", "hello") == "job hello of app shop was paused already\n"
    assert scheduler.says("job", "resume", "shop", "hello") == "job hello of app shop resumed\n"
    assert scheduler.says("job", "pause", "shop") == "app shop paused\n"
    assert scheduler.json("apps")["apps"][0]["paused_at"] is not None
    assert scheduler.json("job", "show", "shop", "hello")["state"] == "paused"
    assert scheduler.says("job", "resume", "shop") == "app shop resumed\n"
    assert scheduler.says("job", "remove", "shop", "hello") == "job hello of app shop removed\n"
    assert scheduler.json("job", "list")["jobs"] == []


def test_a_job_or_an_app_that_is_not_there_is_said_so(scheduler: Scheduler) -> None:
    for command in ("show", "pause", "resume", "remove", "trigger", "preview"):
        assert "there is no job" in scheduler.refuses("job", command, "shop", "nope", status=1)
    assert scheduler.refuses("job", "pause", "shop", status=1) == "error: there is no app shop"
