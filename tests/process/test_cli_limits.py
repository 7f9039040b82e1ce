"""Limits by command: set on a queue, seen in the list, brought along by runs and jobs."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.command import Scheduler

HELLO = '{"command": "echo hello"}'


@pytest.fixture
def scheduler(dsn: str) -> Scheduler:
    return Scheduler(dsn)


def test_a_queues_limits_are_set_shown_and_taken_away(scheduler: Scheduler) -> None:
    scheduler.says("limit", "shop", "mail", "--concurrency", "3", "--rate", "100", "--per", "1m")
    scheduler.says("enqueue", "shop", "shell", HELLO, "--queue", "mail", "--concurrency-key", "k")
    (row,) = scheduler.json("queues")["queues"]
    shown = {
        name: row[name] for name in ("concurrency_limit", "rate_limit", "rate_interval", "taken", "pending", "keyed")
    }
    assert shown == {
        "concurrency_limit": 3, "rate_limit": 100, "rate_interval": 60, "taken": 0, "pending": 1, "keyed": 1,
    }  # fmt: skip
    assert "0/3 held, 100 per 1m" in scheduler.says("queues")
    scheduler.says("limit", "shop", "mail", "--rate", "5")
    assert scheduler.json("queues")["queues"][0]["concurrency_limit"] is None, "what is not given has no limit any more"
    scheduler.says("limit", "shop", "mail", "--none")
    assert scheduler.json("queues")["queues"][0]["rate_limit"] is None


@pytest.mark.parametrize("words", [[], ["--none", "--rate", "5"], ["--rate", "0"]])
def test_a_limit_that_makes_no_sense_is_bad_usage(words: list[str]) -> None:
    assert "error: " in Scheduler("postgresql://127.0.0.1:1/nowhere").refuses("limit", "shop", "mail", *words)


def test_a_run_and_a_job_bring_their_key_and_limit(scheduler: Scheduler, db: psycopg.Connection) -> None:
    words = ["--concurrency-key", "k", "--concurrency-limit", "4"]
    run = scheduler.says("enqueue", "shop", "shell", HELLO, *words).strip()
    assert scheduler.json("runs", "show", run)["concurrency_limit"] == 4
    scheduler.says("job", "add", "shop", "nightly", "shell", HELLO, *words)
    assert scheduler.json("job", "show", "shop", "nightly")["concurrency_key"] == "k"
    refused = scheduler.refuses("enqueue", "shop", "shell", HELLO, "--concurrency-limit", "4")
    assert "needs a concurrency_key" in refused
    assert db.execute("select count(*) from scheduler.run").fetchone() == (1,)
