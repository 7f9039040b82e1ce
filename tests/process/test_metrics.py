"""/metrics of real servers and workers: what they tell is what happened, under the names that are promised."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from scheduler.metrics import catalogue
from scheduler.metrics.catalogue import FAMILIES
from tests.support.api import make_token
from tests.support.builders import add_job, column, one, rows
from tests.support.command import Scheduler
from tests.support.fleet import QUICK, wait_until
from tests.support.ports import free_port

ACCEPT = "application/openmetrics-text; version=1.0.0"
Told = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Scraped:
    """A process with a /metrics."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def ask(self, path: str = "/metrics", **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def told(self, **headers: str) -> Told:
        """Each series with its value, read by the strict parser of OpenMetrics."""
        status, text = self.ask(Accept=ACCEPT, **headers)
        assert status == 200, text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        found = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}
        assert len(found) == len(samples), "a series twice"
        return found

    def value(self, name: str, **labels: str) -> float | None:
        return self.told().get((name, tuple(sorted(labels.items()))))

    def is_there(self) -> bool:
        try:
            return self.ask()[0] in {200, 401}
        except OSError:
            return False


Start = Callable[..., Scraped]


@pytest.fixture
def start(dsn: str, tmp_path: Path) -> Iterator[Start]:
    """Starts a command with --metrics on a free port; returns it once it answers. Killed at the end if need be."""
    started: list[subprocess.Popen[str]] = []
    (tmp_path / "effects").touch()

    def start(*words: str, flag: str = "--metrics", **env: str) -> Scraped:
        port = free_port()
        scheduler = Scheduler(dsn, FLEET_EFFECTS=str(tmp_path / "effects"), **QUICK, **env)
        path = tmp_path / f"{len(started)}.log"
        with path.open("w") as log:
            process = scheduler.start(*words, flag, f"127.0.0.1:{port}", stdout=log, stderr=log)
        started.append(process)
        scraped = Scraped(process, port)
        wait_until(lambda: process.poll() is not None or scraped.is_there())
        assert process.poll() is None, path.read_text()
        return scraped

    yield start
    for process in started:
        process.kill()
        process.wait()
    for path in sorted(tmp_path.glob("*.log")):
        print(f"--- {path.name}\n{path.read_text()[-3000:]}")  # noqa: T201  shown when the test fails


WORKER = ("worker", "--app", "shop", "--executors", "python", "--import", "tests.support.fleet_tasks")
SERVER = ("run", "--no-worker")


def insert(
    db: psycopg.Connection, task: str, count: int = 1, *, queue: str = "default", attempts: int = 2, **args: object
) -> list[int]:
    spec = json.dumps({"task": task, "args": args})
    return column(
        db,
        "insert into scheduler.run (app, queue, executor, spec, max_attempts)"
        " select 'shop', %s, 'python', %s, %s from generate_series(1, %s) returning id",
        queue,
        spec,
        attempts,
        count,
    )


def test_a_worker_tells_what_it_started_what_ended_and_what_runs(start: Start, db: psycopg.Connection) -> None:
    worker = start(*WORKER, "--concurrency", "7")
    lane = {"app": "shop", "queue": "default", "executor": "python"}
    insert(db, "note", 500)
    insert(db, "no such task", 3, attempts=1)
    insert(db, "nap", seconds=600)
    finished = "scheduler_runs_finished_total"
    wait_until(lambda: worker.value(finished, **lane, outcome="succeeded") == 500)
    wait_until(lambda: worker.value(finished, **lane, outcome="failed") == 3)
    wait_until(lambda: one(db, "select count(*) from scheduler.history") == 503)  # it is counted before it is written
    wait_until(lambda: worker.value("scheduler_runs_running", app="shop", queue="default") == 1)
    assert worker.value("scheduler_runs_started_total", **lane) == 504
    assert worker.value("scheduler_worker_slots") == 7
    assert worker.value("scheduler_worker_slots_used") == 1
    assert worker.value("scheduler_run_lateness_seconds_count", **lane) == 503
    assert worker.value("scheduler_run_duration_seconds_bucket", **lane, le="3600.0") == 503
    spent = one(db, "select sum(extract(epoch from finished_at - started_at))::float8 from scheduler.history")
    assert worker.value("scheduler_run_duration_seconds_sum", **lane) == pytest.approx(spent, abs=0.01)
    late = one(db, "select sum(extract(epoch from started_at - run_at))::float8 from scheduler.history")
    assert worker.value("scheduler_run_lateness_seconds_sum", **lane) == pytest.approx(late, abs=0.01)
    assert worker.value("scheduler_listener_connected") == 1
    assert abs(worker.value("scheduler_db_clock_offset_seconds") or 9) < 1


def test_a_worker_counts_what_it_fires_from_timers(start: Start, db: psycopg.Connection) -> None:
    start(*SERVER)
    worker = start(*WORKER)
    add_job(db, "often", schedule="@every 100ms", spec=json.dumps({"task": "note"}))
    wait_until(lambda: (worker.value("scheduler_fires_total", app="shop", outcome="fired") or 0) >= 40)
    lane = {"app": "shop", "queue": "default", "executor": "python"}
    assert (worker.value("scheduler_runs_finished_total", **lane, outcome="succeeded") or 0) >= 40
    assert worker.value("scheduler_fires_total", app="shop", outcome="fired") == one(
        db, "select sum(instants) from scheduler.fire where outcome = 'fired'"
    )


def test_a_server_tells_what_it_planned_reclaimed_and_read(start: Start, db: psycopg.Connection) -> None:
    server, worker = start(*SERVER), start(*WORKER, "--queue", "default")
    add_job(db, "minutely", schedule="* * * * * *", spec=json.dumps({"task": "note"}))
    db.execute("select setval('scheduler.run_id', 1000)")
    with db.transaction():  # or the worker takes it as it was inserted
        poison = insert(db, "nap", seconds=600)
        db.execute("update scheduler.run set lost = 2, attempt = 2, max_attempts = 5 where id = %s", poison)
    insert(db, "note", 5, queue="nobody's")
    wait_until(lambda: worker.value("scheduler_runs_running", app="shop", queue="default") == 1)
    worker.process.send_signal(signal.SIGKILL)
    wait_until(lambda: (server.value("scheduler_runs_reclaimed_total", app="shop") or 0) >= 1)
    assert server.value("scheduler_runs_poisoned_total", app="shop") == 1
    assert rows(db, "select outcome from scheduler.history where id = %s and error like 'poison%%'", *poison)
    # A gauge that took long to read is read seldom.
    wait_until(lambda: server.value("scheduler_runs_pending", app="shop", queue="nobody's") == 5, 120)
    assert (server.value("scheduler_oldest_due_seconds", app="shop", queue="nobody's") or 0) > 0
    ledger = "select count(*) from scheduler.fire where outcome = 'planned'"
    wait_until(lambda: server.value("scheduler_fires_total", app="shop", outcome="planned") == one(db, ledger), 120)
    wait_until(lambda: server.value("scheduler_jobs", app="shop") == 1, 120)
    now = one(db, "select extract(epoch from scheduler.clock())::float8")
    for loop in ("heartbeat", "planner", "assigner", "reclaimer", "gauger"):
        at = server.value("scheduler_loop_last_success_timestamp_seconds", loop=loop)
        assert now - 20 < (at or 0) < now + 20


def test_every_metric_is_told_by_a_process_under_its_labels_and_no_other_is(
    start: Start, db: psycopg.Connection
) -> None:
    both = start("run", "--executors", "python", "--import", "tests.support.fleet_tasks")
    add_job(db, "secondly", schedule="* * * * * *", spec=json.dumps({"task": "note"}))
    insert(db, "note", 5)
    first = start(*WORKER)
    insert(db, "nap", seconds=600, count=40)
    db.execute(
        "insert into scheduler.alarm (app, name, kind, channels)"
        """ values ('shop', 'a', 'no_worker', '[{"channel": "webhook", "url": "http://127.0.0.1:9"}]')"""
    )
    wait_until(lambda: first.value("scheduler_runs_running", app="shop", queue="default"))
    told: dict[str, set[tuple[str, ...]]] = {}

    def look() -> bool:
        for name, labels in both.told():
            told.setdefault(name, set()).add(tuple(label for label, _ in labels))
        return FAMILIES.keys() - {_family(name) for name in told} == {"scheduler_runs_poisoned_total"}  # see above

    first.process.send_signal(signal.SIGKILL)
    wait_until(look, 120)
    for name, labels in told.items():
        family = FAMILIES.get(_family(name))
        if family is None:
            assert name.startswith("process_"), name
            continue
        expected = {*family.labels, *(["le"] if name.endswith("_bucket") else [])}
        assert labels == {tuple(sorted(expected))}, name


def _family(sample: str) -> str:
    for suffix in ("_bucket", "_count", "_sum"):
        family = FAMILIES.get(sample.removesuffix(suffix))
        if sample.endswith(suffix) and family is not None and family.kind == "histogram":
            return family.name
    return sample


def test_counters_end_in_total_and_units_are_base_units() -> None:
    for family in FAMILIES.values():
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert family.kind != "histogram" or (family.name.endswith("_seconds") and family.bounds[0] == 0.0005)
        assert not {"id", "run", "run_id", "le"} & set(family.labels), family.name


def test_a_metrics_server_asks_for_the_token_that_it_was_given(start: Start, db: psycopg.Connection) -> None:
    worker = start(*WORKER, SCHEDULER_METRICS_TOKEN="open sesame")
    assert worker.ask()[0] == 401
    assert worker.ask(Authorization="Bearer open sesam")[0] == 401
    assert worker.ask(Authorization="Bearer open sesame")[0] == 200
    assert worker.ask("/")[0] == 404


def test_without_a_token_it_answers_for_this_machine_by_that_name_only(start: Start) -> None:
    worker = start(*WORKER)
    assert worker.ask(Host="rebound.example")[0] == 421
    assert worker.ask(Host="localhost:1")[0] == 200


def test_where_others_reach_it_the_operator_must_have_said_so(dsn: str) -> None:
    scheduler = Scheduler(dsn)
    assert "SCHEDULER_METRICS_TOKEN" in scheduler(*WORKER, "--metrics", "0.0.0.0:0").stderr
    assert "--metrics" in scheduler.refuses(*WORKER, "--metrics-no-auth")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        assert bind.rpartition(":")[2] in scheduler.refuses(*WORKER, "--metrics", bind, status=1)


def test_the_api_tells_them_to_a_token_that_may_read_of_all_apps(start: Start, db: psycopg.Connection) -> None:
    reader = make_token(db, "prometheus", ["read"])
    of_one = make_token(db, "shop", ["read"], ["shop"])
    server = start(*SERVER, flag="--http")
    wait_until(lambda: server.ask("/readyz")[0] == 200)
    assert server.ask()[0] == 401
    assert server.ask(Authorization=f"Bearer {of_one}")[0] == 403
    info = ("scheduler_info", (("role", "server"), ("version", "0.1.0")))
    assert server.told(Authorization=f"Bearer {reader}")[info] == 1
    planned = f"# HELP {catalogue.PLANNING_TIME.name} {catalogue.PLANNING_TIME.meaning}\n"  # from its first step on
    wait_until(lambda: planned in server.ask(Authorization=f"Bearer {reader}")[1])


def test_a_worker_that_could_not_say_that_it_lives_counts_what_it_lost(start: Start, db: psycopg.Connection) -> None:
    start(*SERVER)
    worker = start(*WORKER)
    insert(db, "nap", 3, seconds=600)
    wait_until(lambda: worker.value("scheduler_runs_running", app="shop", queue="default") == 3)
    os.kill(worker.process.pid, signal.SIGSTOP)
    wait_until(lambda: one(db, "select count(*) from scheduler.worker where dead_at is not null") == 1)
    os.kill(worker.process.pid, signal.SIGCONT)
    wait_until(lambda: worker.value("scheduler_runs_lost_total") == 3)
    lane = {"app": "shop", "queue": "default", "executor": "python"}
    wait_until(lambda: worker.value("scheduler_runs_running", app="shop", queue="default") == 3)  # once more
    assert worker.value("scheduler_runs_started_total", **lane) == 6
