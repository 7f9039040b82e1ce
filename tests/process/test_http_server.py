"""`scheduler run --http`: a process with an API, its first token, and where it may listen."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from tests.support.api import Client
from tests.support.command import Scheduler
from tests.support.database import Databases
from tests.support.fleet import wait_until
from tests.support.ports import free_port

Start = Callable[..., tuple[subprocess.Popen[str], Client]]


@pytest.fixture
def scheduler(dsn: str) -> Scheduler:
    return Scheduler(dsn)


@pytest.fixture
def start(scheduler: Scheduler, tmp_path: Path) -> Iterator[Start]:
    """Starts a server with an API; returns it once it is ready. Killed at the end if need be."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> tuple[subprocess.Popen[str], Client]:
        client = Client(free_port())
        with (tmp_path / "log").open("a") as log, (tmp_path / "out").open("a") as out:
            bind = f"127.0.0.1:{client.port}"
            process = scheduler.start("run", "--executors", "shell", "--http", bind, *words, stdout=out, stderr=log)
        started.append(process)
        wait_until(lambda: process.poll() is not None or _is_ready(client))
        assert process.poll() is None, (tmp_path / "log").read_text()
        return process, client

    yield start
    for process in started:
        process.kill()
        process.wait()


def _is_ready(client: Client) -> bool:
    try:
        return client.get("/readyz").status == 200
    except OSError:
        return False


def test_a_run_that_is_triggered_over_http_is_executed_and_its_log_is_there(scheduler: Scheduler, start: Start) -> None:
    token = scheduler.json("token", "create", "ci", "--scope", "write", "--app", "shop")["token"]
    process, anybody = start()
    client = anybody.bearing(token)
    assert anybody.get("/api/v1/apps").status == 401
    job = {"executor": "shell", "spec": {"command": ["echo", "hi"]}}
    assert client("PUT", "/api/v1/apps/shop/jobs/hello", job).status == 201
    run = client("POST", "/api/v1/apps/shop/jobs/hello/trigger").headers["location"]
    assert b'"text":"hi"' in client.get(f"{run}/logs?follow=true").body
    assert client.read(run)["state"] == "succeeded"
    assert client.get("/api/v1/apps/other/jobs").status == 404
    scheduler.says("token", "revoke", "ci")
    wait_until(lambda: client.get(run).status == 401)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_the_first_server_shows_an_admin_token_once(start: Start, tmp_path: Path) -> None:
    _, client = start()
    wait_until(lambda: "sched_" in (tmp_path / "out").read_text())
    (token,) = re.findall(r"sched_\w+", (tmp_path / "out").read_text())
    assert client.bearing(token).get("/api/v1/tokens").status == 200
    start("--no-worker")
    assert (tmp_path / "out").read_text().count("sched_") == 1
    assert "sched_" not in (tmp_path / "log").read_text()


def test_without_tokens_it_answers_everybody_on_this_machine(start: Start) -> None:
    _, client = start("--http-no-auth", "--no-worker")
    assert client.get("/api/v1/apps").status == 200
    assert client.get("/api/v1/apps", Host="rebound.example").status == 421


def test_a_server_without_its_database_lives_and_is_not_ready(start: Start, dsn: str, databases: Databases) -> None:
    _, client = start("--http-no-auth", "--no-worker")
    name = str(conninfo_to_dict(dsn)["dbname"])
    with psycopg.connect(databases.server, autocommit=True) as admin:
        admin.execute(SQL("alter database {} allow_connections false").format(Identifier(name)))
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
    wait_until(lambda: client.get("/readyz").status == 503)
    answer = client.get("/api/v1/apps")
    assert (answer.status, answer.headers["retry-after"], name in answer.detail) == (503, "1", False)
    assert client.get("/healthz").status == 200


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--http", "0.0.0.0:0", "--http-no-auth"], "loopback"),
        (["--http", "10.1.2.3:80", "--http-no-auth"], "loopback"),
        (["--http-no-auth"], "--http"),
        (["--http", "8080"], "HOST:PORT"),
        (["--http", "127.0.0.1:99999"], "HOST:PORT"),
    ],
)
def test_where_it_may_not_listen_is_bad_usage(words: list[str], said: str) -> None:
    assert said in Scheduler("postgresql://127.0.0.1:1/nowhere").refuses("run", *words)


def test_an_address_that_is_taken_is_said_before_anything_starts(scheduler: Scheduler) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        assert "cannot listen" in scheduler.refuses("run", "--http", bind, status=1)
