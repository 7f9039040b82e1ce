"""The worker protocol over HTTP, and a worker that has nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.api import Answer, Client, make_token
from tests.support.builders import add_run, add_worker, column, one, rows
from tests.support.fleet import wait_until

ROOT = Path(__file__).parents[2]
Ask = Callable[..., Any]


def asking(client: Client) -> Ask:
    """Steps of the protocol that must succeed, by name."""

    def ask(verb: str, **body: Any) -> Any:
        answer = client("POST", f"/api/v1/work/{verb}", body)
        assert answer.status in {200, 201}, answer.body
        return answer.json

    return ask


@pytest.fixture
def client(server: Client, db: psycopg.Connection) -> Client:
    """One whose token may work for the app shop."""
    return server.bearing(make_token(db, "worker", ["work"], ["shop"]))


@pytest.fixture
def ask(client: Client) -> Ask:
    return asking(client)


def register(ask: Ask, **given: Any) -> int:
    return int(ask("register", **{"label": "w", "apps": ["shop"], "executors": ["demo"], **given})["worker"])


def add(db: psycopg.Connection, **columns: Any) -> int:
    return add_run(db, **{"app": "shop", "executor": "demo", **columns})


def test_a_run_is_claimed_executed_and_reported(ask: Ask, db: psycopg.Connection) -> None:
    worker = register(ask, concurrency=3, host="h", pid=7, version="1")
    run = add(db, spec='{"task": "add"}', timeout="90 seconds", tags=["a"])
    claimed = ask("claim", worker=worker)
    (taken,) = claimed["runs"]
    assert (claimed["app"], claimed["queue"], claimed["limited"]) == ("shop", "default", False)
    assert (taken["id"], taken["spec"], taken["attempt"], taken["timeout"]) == (run, {"task": "add"}, 1, 90)
    end = {"run": run, "outcome": "succeeded", "result": {"sum": 3}, "started_at": "2026-01-01T00:00:00Z"}
    held = {"worker": worker, "app": "shop", "lease": claimed["lease"]}
    assert ask("finish", **held, ends=[end]) == {"finished": 1}
    assert ask("finish", **held, ends=[end]) == {"finished": 0}
    assert rows(db, "select state, result, worker, started_at::text from scheduler.runs") == [
        ("succeeded", {"sum": 3}, worker, "2026-01-01 00:00:00+00")
    ]
    ask("retire", worker=worker)
    assert column(db, "select stopped_at is not null from scheduler.worker") == [True]


def test_attempts_end_in_every_way_there_is(ask: Ask, db: psycopg.Connection) -> None:
    worker = register(ask)
    ids = [add(db) for _ in range(4)]
    lease = ask("claim", worker=worker, limit=10)["lease"]
    ends = [
        {"run": ids[0], "outcome": "failed", "error": "not now", "retry_after": 3600},
        {"run": ids[1], "outcome": "failed", "error": "never", "max_attempts": 0},
        {"run": ids[2], "outcome": "cancelled"},
    ]
    held = {"worker": worker, "app": "shop", "lease": lease}
    assert ask("finish", **held, ends=ends) == {"finished": 3}
    assert ask("finish", **held) == {"finished": 1}
    states = dict(rows(db, "select id, state from scheduler.runs"))
    assert [states[run] for run in ids] == ["pending", "failed", "cancelled", "succeeded"]
    assert one(db, "select run_at > now() + interval '50 minutes' from scheduler.run")


def test_a_lease_that_was_claimed_ahead_is_begun_or_released(ask: Ask, db: psycopg.Connection) -> None:
    worker = register(ask)
    ids = [add(db) for _ in range(3)]
    lease = ask("claim", worker=worker, limit=10, begin=False)["lease"]
    held = {"worker": worker, "app": "shop", "lease": lease}
    db.execute("select scheduler.cancel('shop', %s)", [ids[0]])
    assert ask("begin", **held) == {"begun": True, "skip": [ids[0]]}
    assert ask("release", **held, runs=[ids[1]]) == {"released": 1}
    assert ask("leases", worker=worker) == {"leases": [{"app": "shop", "lease": lease}]}
    assert ask("release", **held) == {"released": 1}
    assert ask("leases", worker=worker) == {"leases": []}
    assert ask("begin", **held) == {"begun": False, "skip": []}


def test_a_heartbeat_tells_what_is_to_be_stopped(ask: Ask, db: psycopg.Connection) -> None:
    worker = register(ask)
    run = add(db)
    ask("claim", worker=worker)
    assert ask("heartbeat", worker=worker)["cancels"] == []
    db.execute("select scheduler.cancel('shop', %s)", [run])
    beat = ask("heartbeat", worker=worker)
    assert beat["cancels"] == [run]
    assert one(db, "select now() - %s::timestamptz < interval '1 minute'", beat["now"])


def test_who_was_declared_dead_is_told_so(client: Client, ask: Ask, db: psycopg.Connection) -> None:
    worker = register(ask)
    add(db)
    db.execute("update scheduler.worker set dead_at = now()")
    for verb in ("heartbeat", "claim"):
        assert client("POST", f"/api/v1/work/{verb}", {"worker": worker}).status == 410


def test_lines_of_a_run_are_kept(ask: Ask, db: psycopg.Connection) -> None:
    worker = register(ask)
    run = add(db)
    ask("claim", worker=worker)
    lines = [{"run": run, "attempt": 1, "line": n, "at": "2026-01-01T00:00:00Z", "text": f"line {n}"} for n in range(3)]
    for _ in range(2):  # sent again after a lost answer
        ask("log", worker=worker, app="shop", lines=lines)
    assert column(db, "select text from scheduler.log order by line") == ["line 0", "line 1", "line 2"]


@pytest.mark.parametrize(
    ("given", "taken"),
    [({}, ("shop", "first")), ({"queue": "second"}, ("shop", "second")), ({"queue": "other"}, (None, None))],
)
def test_a_claim_takes_what_is_due_longest_or_of_the_queue_that_is_named(
    ask: Ask, db: psycopg.Connection, given: dict[str, Any], taken: tuple[Any, Any]
) -> None:
    worker = register(ask)
    add(db, queue="second", run_at="2026-01-01T00:00:02Z")
    add(db, queue="first", run_at="2026-01-01T00:00:01Z")
    add(db, app="mail", queue="zero", run_at="2026-01-01Z")
    claimed = ask("claim", worker=worker, **given)
    assert (claimed["app"], claimed["queue"]) == taken


def test_who_waits_holds_no_connection_and_is_woken(ask: Ask, db: psycopg.Connection) -> None:
    workers = [register(ask) for _ in range(12)]
    with ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(ask, "claim", worker=worker, wait=30) for worker in workers]
        # They are more than there are connections, and others are answered meanwhile.
        asked = "select count(*) from pg_locks where locktype = 'advisory' and classid = 7716801 and granted"
        wait_until(lambda: one(db, asked) > 0)
        ask("heartbeat", worker=workers[0])
        assert not any(answer.done() for answer in waiting)
        for _ in workers:
            add(db)
        leases = {answer.result(20)["lease"] for answer in waiting}
    assert len(leases) == 12
    assert None not in leases


def test_who_waits_starts_what_becomes_due_meanwhile(ask: Ask, db: psycopg.Connection) -> None:
    worker = register(ask)
    run = one(
        db,
        "insert into scheduler.run (app, executor, run_at)"
        " values ('shop', 'demo', clock_timestamp() + interval '300 ms') returning id",
    )
    claimed = ask("claim", worker=worker, app="shop", queue="default", wait=20)
    assert [taken["id"] for taken in claimed["runs"]] == [run]
    assert one(db, "select claimed_at >= (runs[1]).run_at from scheduler.lease")


def test_who_waits_in_vain_is_told_so(ask: Ask) -> None:
    assert ask("claim", worker=register(ask), wait=0.2) == {
        "lease": None,
        "runs": [],
        "app": None,
        "queue": None,
        "limited": False,
    }


STEPS: dict[str, dict[str, Any]] = {
    "heartbeat": {},
    "claim": {},
    "retire": {},
    "leases": {},
    "begin": {"app": "shop", "lease": 1},
    "finish": {"app": "shop", "lease": 1},
    "release": {"app": "shop", "lease": 1},
    "log": {"app": "shop", "lines": [{"run": 1, "attempt": 1, "line": 1, "at": "2026-01-01T00:00:00Z", "text": ""}]},
}


@pytest.mark.parametrize("verb", STEPS)
def test_another_ones_worker_looks_as_if_it_were_not_there(
    client: Client, api: Client, db: psycopg.Connection, verb: str
) -> None:
    ask = asking(api)
    others = [register(ask, apps=["mail"]), register(ask, apps=["shop", "mail"]), add_worker(db), 999_999]

    def said(worker: int) -> Answer:
        return client("POST", f"/api/v1/work/{verb}", {"worker": worker, **STEPS[verb]})

    for worker in others:
        answer = said(worker)
        assert (answer.status, answer.detail) == (404, f"there is no worker {worker}")
    assert column(db, "select distinct stopped_at from scheduler.worker") == [None]


@pytest.mark.parametrize("verb", [verb for verb, body in STEPS.items() if "app" in body] + ["claim"])
def test_a_worker_does_nothing_in_an_app_that_its_token_does_not_reach(client: Client, ask: Ask, verb: str) -> None:
    body = {**STEPS[verb], "worker": register(ask), "app": "mail"}
    answer = client("POST", f"/api/v1/work/{verb}", body)
    assert (answer.status, answer.detail) == (404, "there is no app mail")


def test_a_token_for_some_apps_registers_for_those_only(client: Client, db: psycopg.Connection) -> None:
    for apps, status in ((None, 403), (["mail"], 404), (["shop", "mail"], 404), ([], 400)):
        body = {"label": "w", "executors": ["demo"], "apps": apps}
        assert client("POST", "/api/v1/work/register", body).status == status
    assert rows(db, "select from scheduler.worker") == []


def test_work_is_for_tokens_with_that_scope(server: Client, db: psycopg.Connection) -> None:
    writer = server.bearing(make_token(db, "writer", ["write"]))
    for verb in ("register", *STEPS):
        assert writer("POST", f"/api/v1/work/{verb}", {"worker": 1}).status == 403


def test_a_worker_of_the_standard_library_alone_does_its_work(
    client: Client, api: Client, db: psycopg.Connection
) -> None:
    environment = {
        **os.environ,
        "URL": f"http://127.0.0.1:{client.port}",
        "TOKEN": client.headers["Authorization"].partition(" ")[2],
        "APP": "shop",
    }
    command = [sys.executable, "-I", str(ROOT / "examples" / "worker_http.py")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert "is ready" in process.stdout.readline()
            posted = [
                {"executor": "demo", "spec": {"task": "add", "args": {"a": 20, "b": 22}}},
                {"executor": "demo", "spec": {"task": "divide"}, "max_attempts": 1},
            ]
            ids = api("POST", "/api/v1/apps/shop/runs", posted).json["ids"]
            wait_until(lambda: one(db, "select count(*) from scheduler.history") == 2)
            found = {run: rest for run, *rest in rows(db, "select id, state, result, error from scheduler.runs")}
            assert [found[run] for run in ids] == [
                ["succeeded", {"sum": 42}, None],
                ["failed", None, "KeyError: 'divide'"],
            ]
            process.send_signal(signal.SIGTERM)
            api("POST", "/api/v1/apps/shop/runs", posted[0])  # which ends its wait
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert column(db, "select stopped_at is not null from scheduler.worker") == [True]
