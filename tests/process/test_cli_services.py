"""`run` and `worker` as processes: they start, work, drain and say what they do."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.command import Scheduler
from tests.support.embedded import data_directory
from tests.support.fleet import wait_until

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def scheduler(dsn: str) -> Scheduler:
    return Scheduler(dsn)


@pytest.fixture
def start(scheduler: Scheduler, tmp_path: Path) -> Iterator[Start]:
    """Starts a service whose stdout is a pipe and whose log is the file `log`; killed at the end if need be."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        with (tmp_path / "log").open("a") as log:
            started.append(scheduler.start(*words, stderr=log))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def stop(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> int:
    process.send_signal(number)
    return process.wait(60)


def test_a_server_and_its_worker_execute_a_run_and_stop_on_ctrl_c(
    scheduler: Scheduler, start: Start, tmp_path: Path
) -> None:
    running = start("run", "--executors", "shell", "--name", "box")
    assert "a server and a worker for shell" in first_line(running)
    run = scheduler.says("enqueue", "shop", "shell", '{"command": ["echo", "hi"]}').strip()
    assert scheduler.says("logs", run, "--follow") == "hi\n"
    shown = scheduler.json("runs", "show", run)
    assert (shown["state"], shown["result"]["stdout"]) == ("succeeded", "hi\n")
    assert [one["label"] for one in scheduler.json("servers")["servers"]] == ["box"]
    assert stop(running, signal.SIGINT) == 0
    assert scheduler.json("servers") == {"servers": []}
    assert [one["state"] for one in scheduler.json("workers", "--all")["workers"]] == ["stopped"]
    log = (tmp_path / "log").read_text()
    assert "SIGINT: stopping" in log
    assert "Traceback" not in log


def test_a_second_signal_gives_up_what_still_runs(scheduler: Scheduler, start: Start, db: psycopg.Connection) -> None:
    working = start("worker", "--app", "shop", "other", "--queue", "default=1", "slow", "--executors", "shell")
    assert "a worker of shop, other for shell" in first_line(working)
    run = scheduler.says("enqueue", "shop", "shell", '{"command": ["sh", "-c", "echo started; sleep 600"]}').strip()
    following = scheduler.start("logs", run, "--follow")
    assert first_line(following) == "started\n"
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=30)
    (worker,) = scheduler.json("workers")["workers"]
    assert (worker["apps"], worker["queues"]) == (["shop", "other"], ["default", "slow"])
    working.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        working.wait(1)  # it drains: the run may go on for SCHEDULER_GRACE, 30 s
    assert stop(working) == 0
    assert scheduler.json("runs", "show", run)["state"] != "succeeded"


def test_a_service_that_cannot_start_says_why_in_one_line(scheduler: Scheduler, start: Start, tmp_path: Path) -> None:
    for words, why in (
        (["run", "--executors", "nope"], "unknown executor 'nope'"),
        (["worker", "--app", "shop", "--import", "no_such_module"], "there is no module 'no_such_module'"),
        (["run", "--demo", "--no-worker"], "--demo needs the executor shell"),
        (["worker", "--app", "shop", "--queue", "q=0"], "at least 1 slot"),
        (["run", "--executors", ","], "names none"),
    ):
        assert start(*words).wait(60) in {1, 2}
        errors = [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("error: ")]
        assert why in errors[-1]
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_the_demo_says_how_to_go_on_and_prints_its_runs(scheduler: Scheduler, start: Start) -> None:
    running = start("run", "--demo", "--executors", "shell")
    lines = [first_line(running) for _ in range(4)]
    assert "Walclock runs on" in lines[0]
    assert "psql" in lines[1]
    assert "insert into scheduler.run" in lines[2]
    assert "(hello) succeeded" in lines[3]
    assert "hello from run" in lines[3]
    assert stop(running) == 0


def test_logs_are_json_lines_when_asked_for(scheduler: Scheduler, start: Start, tmp_path: Path) -> None:
    scheduler.env.update(SCHEDULER_LOG_FORMAT="json", SCHEDULER_LOG="info")
    running = start("run", "--no-worker")
    assert "a server, on" in first_line(running)
    assert stop(running) == 0
    records = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {"ts", "level", "logger", "message"} <= records[-1].keys()
    scheduler.env["SCHEDULER_LOG"] = "loud"
    assert "SCHEDULER_LOG" in scheduler.refuses("run", status=1)
    scheduler.env.update(SCHEDULER_LOG="", SCHEDULER_LOG_FORMAT="xml")
    assert "expected console or json" in scheduler.refuses("run", status=1)


def test_without_a_dsn_an_embedded_database_is_used_and_its_schema_installed() -> None:
    with data_directory() as folder:
        alone = Scheduler("", SCHEDULER_DATA_DIR=str(folder))
        run = alone.says("enqueue", "shop", "shell", '{"command": ["echo", "hi"]}').strip()
        running = alone.start("run")
        try:
            assert f"python, shell, http, sql, alarm, on an embedded PostgreSQL in {folder}" in first_line(running)
            with psycopg.connect(alone.says("dsn").strip(), autocommit=True) as conn:
                wait_until(lambda: conn.execute("select count(*) from scheduler.server").fetchone() == (1,))
            assert alone.says("logs", run, "--follow") == "hi\n"
            assert stop(running, signal.SIGINT) == 0
        finally:
            running.kill()
            running.communicate()
