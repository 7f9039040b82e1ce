"""Runs over HTTP: found, shown, cancelled, retried, and what they wrote while they write it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import psycopg
import pytest

from tests.support.api import Client, served
from tests.support.builders import add_run, add_worker, claim, finish
from tests.support.command import Scheduler
from tests.support.fleet import wait_until

RUNS = "/api/v1/apps/shop/runs"


def write(db: psycopg.Connection, run: int, *lines: int) -> None:
    db.execute(
        "select scheduler.append_log('shop', %s::bigint[], %s::smallint[], %s::int[], %s::timestamptz[],"
        " %s::text[], %s::text[])",
        [
            [run] * len(lines),
            [1] * len(lines),
            list(lines),
            [datetime.now(UTC)] * len(lines),
            ["stdout"] * len(lines),
            [f"line {line}" for line in lines],
        ],
    )


@contextmanager
def stream(client: Client, path: str) -> Iterator[list[tuple[float, dict[str, Any] | None]]]:
    """The lines of a stream as they come, each with its instant; None at its end."""
    found: list[tuple[float, dict[str, Any] | None]] = []
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
    connection.request("GET", path, headers=dict(client.headers))
    answer = connection.getresponse()
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")

    def read() -> None:
        while line := answer.readline():
            found.append((time.monotonic(), json.loads(line)))
        found.append((time.monotonic(), None))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        thread.join(20)
        connection.close()


def test_a_run_is_shown_as_the_command_line_shows_it(api: Client, db: psycopg.Connection, dsn: str) -> None:
    run = add_run(db, max_attempts=2, unique_key="k", tags=["a"])
    for outcome in ("failed", "succeeded"):
        worker = add_worker(db)
        lease, runs = claim(db, worker)
        assert finish(db, worker, lease, runs, outcome) == 1
    shown = api.read(f"{RUNS}/{run}")
    assert shown == Scheduler(dsn).json("runs", "show", str(run))
    assert [one["outcome"] for one in shown["attempts"]] == ["failed", "succeeded"]


def test_runs_are_found_by_state_job_and_queue(api: Client, db: psycopg.Connection) -> None:
    done, running = add_run(db), add_run(db)
    worker = add_worker(db)
    lease, runs = claim(db, worker)
    finish(db, worker, lease, [done])
    pending, of_job = add_run(db, queue="mail"), add_run(db, job="nightly", queue="mail")
    expected = {
        "": [of_job, pending, running, done],
        "state=succeeded": [done],
        "state=running": [running],
        "state=pending": [of_job, pending],
        "state=failed": [],
        "job=nightly": [of_job],
        "queue=default": [running, done],
        "queue=default&state=running": [running],
        f"before_id={running}": [done],
    }
    assert runs == [done, running]
    for path in (RUNS, "/api/v1/runs"):
        found = {query: [row["id"] for row in api.read(f"{path}?{query}")["runs"]] for query in expected}
        assert found == expected


def test_the_next_page_keeps_the_filters(api: Client, db: psycopg.Connection) -> None:
    ids = [add_run(db, queue=queue) for queue in ("mail", "default", "mail", "default", "mail")]
    assert [row["id"] for row in api.pages(f"{RUNS}?queue=mail&limit=1", "runs")] == [ids[4], ids[2], ids[0]]


def test_a_pending_run_is_cancelled_once(api: Client, db: psycopg.Connection) -> None:
    run = add_run(db)
    answer = api("POST", f"{RUNS}/{run}/cancel")
    assert (answer.status, answer.json) == (200, {"id": run, "state": "cancelled"})
    again = api("POST", f"{RUNS}/{run}/cancel")
    assert (again.status, "has ended: cancelled" in again.detail) == (409, True)


def test_a_running_run_is_asked_to_stop(api: Client, db: psycopg.Connection) -> None:
    run = add_run(db)
    claim(db, add_worker(db))
    assert api("POST", f"{RUNS}/{run}/cancel").json == {"id": run, "state": "running"}
    assert db.execute("select cancel from scheduler.lease").fetchone() == ([run],)


def test_a_finished_run_is_retried_as_a_new_one(api: Client, db: psycopg.Connection) -> None:
    run = add_run(db)
    assert (api("POST", f"{RUNS}/{run}/retry").status, api.get(f"{RUNS}/{run}").json["state"]) == (409, "pending")
    api("POST", f"{RUNS}/{run}/cancel")
    answer = api("POST", f"{RUNS}/{run}/retry")
    assert (answer.status, answer.headers["location"]) == (201, f"{RUNS}/{answer.json['id']}")
    assert api.read(answer.headers["location"])["state"] == "pending"


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/logs"), ("POST", "/cancel"), ("POST", "/retry")])
def test_a_run_that_is_not_there_is_not_found(api: Client, method: str, path: str) -> None:
    assert api(method, f"{RUNS}/4711{path}").status == 404


def test_a_log_is_read_whole_or_from_a_line_on(api: Client, db: psycopg.Connection, dsn: str) -> None:
    run = add_run(db)
    write(db, run, *range(1, 2_502))  # more than two pages
    lines = [json.loads(line) for line in api.get(f"{RUNS}/{run}/logs").body.splitlines()]
    assert [line["line"] for line in lines] == list(range(1, 2_502))
    said = Scheduler(dsn).says("logs", str(run), "--json").splitlines()
    assert lines[:3] == [json.loads(line) for line in said[:3]]
    rest = api.get(f"{RUNS}/{run}/logs?after_attempt=1&after_line=2500").body.splitlines()
    assert [json.loads(line)["text"] for line in rest] == ["line 2501"]
    assert api("HEAD", f"{RUNS}/{run}/logs?follow=true").headers["content-type"] == "application/x-ndjson"


def test_a_log_is_followed_until_the_run_has_ended(api: Client, db: psycopg.Connection) -> None:
    def has(count: int) -> bool:
        return len(found) == count

    run = add_run(db)
    worker = add_worker(db)
    lease, runs = claim(db, worker)
    write(db, run, 1)
    with stream(api, f"{RUNS}/{run}/logs?follow=true") as found:
        wait_until(lambda: len(found) == 1)
        late = []
        for line in (2, 3, 4):
            time.sleep(0.3)
            written = time.monotonic()
            write(db, run, line)
            wait_until(partial(has, line))
            late.append(found[-1][0] - written)
        write(db, run, 5)
        finish(db, worker, lease, runs)
        wait_until(lambda: bool(found) and found[-1][1] is None)
    assert [line["line"] for _, line in found[:-1] if line] == [1, 2, 3, 4, 5], "and what came right before its end"
    assert min(late) < 1, late


def test_who_follows_a_log_is_sent_home_when_the_server_stops(
    dsn: str, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the server would wait for its time to end, and then cut it off in the middle."""
    monkeypatch.setattr("scheduler.api.service._GRACE", 25)
    run = add_run(db)
    with ExitStack() as server:
        client = server.enter_context(served(dsn, is_open=True))
        with stream(client, f"{RUNS}/{run}/logs?follow=true") as found:
            write(db, run, 1)
            wait_until(lambda: len(found) == 1)
            stopped = time.monotonic()
            server.close()
            wait_until(lambda: found[-1][1] is None)
    assert found[-1][0] - stopped < 20


def test_a_log_is_followed_through_a_lost_connection(api: Client, db: psycopg.Connection) -> None:
    run = add_run(db)
    with stream(api, f"{RUNS}/{run}/logs?follow=true") as found:
        write(db, run, 1)
        wait_until(lambda: len(found) == 1)
        db.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name like '%% api%%'"
            " and datname = current_database()"
        )
        write(db, run, 2)
        wait_until(lambda: len(found) == 2)
        api("POST", f"{RUNS}/{run}/cancel")
    assert [line and line["line"] for _, line in found] == [1, 2, None]
