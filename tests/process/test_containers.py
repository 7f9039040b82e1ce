"""Workers that run containers: as users start them, when they are killed, and what nobody may read afterwards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.engine import Engine, running_engine
from tests.support.fleet import Fleet, Process, wait_until
from tests.support.pids import alive

CANARY = "canary-5d20c1e7"
DOCUMENT = Path(__file__).parents[2] / "docs" / "containers.md"


@pytest.fixture
def engine() -> Iterator[Engine]:
    with running_engine() as engine:
        yield engine


def start(fleet: Fleet, engine: Engine, **env: str) -> Process:
    """`scheduler worker --executors container`."""
    quick = {"SCHEDULER_POLL": "0.2", "SCHEDULER_CONTAINER_SOCKET": engine.socket}
    return fleet.start(executors=["container"], env={**quick, **env})


def insert(fleet: Fleet, spec: dict[str, Any], **columns: Any) -> int:
    (run,) = fleet.insert_run("container", json.dumps({"image": "tiny:1", **spec}), **columns)
    return run


def log_of(fleet: Fleet, run: int) -> list[str]:
    cursor = fleet.db.execute("select text from scheduler.log where run_id = %s order by attempt, line", [run])
    return [text for (text,) in cursor.fetchall()]


def test_a_worker_runs_containers_and_their_output_is_the_runs(fleet: Fleet, engine: Engine) -> None:
    worker = start(fleet, engine)
    run = insert(fleet, {"command": "echo one; sleep 0.2; echo $SCHEDULER_RUN_ID"})
    slow = insert(fleet, {"command": "trap 'echo cleaned; exit 0' TERM; while :; do sleep 0.05; done"}, timeout="4 s",
                  max_attempts=1)  # fmt: skip
    asked = insert(fleet, {"command": "echo ready; sleep 60"})
    fleet.wait_for([run])
    assert fleet.row(run)["result"] == {"stdout": f"one\n{run}\n", "stderr": "", "exit_code": 0}
    assert log_of(fleet, run) == ["one", str(run)]
    wait_until(lambda: log_of(fleet, asked) == ["ready"])
    fleet.scalar("select scheduler.cancel('default', %s)", [asked])
    fleet.wait_for([asked], "cancelled")
    fleet.wait_for([slow], "failed")
    assert fleet.row(slow)["error"] == "timed out after 4 s"
    assert log_of(fleet, slow) == ["cleaned"]
    assert engine.containers == {}
    worker.term()
    assert worker.wait() == 0


def test_what_a_killed_worker_left_is_removed_by_the_next_one(fleet: Fleet, engine: Engine) -> None:
    worker = start(fleet, engine)
    waits = {"command": "echo begun; test $SCHEDULER_ATTEMPT = 2 || sleep 600"}
    again, once = insert(fleet, waits), insert(fleet, waits, max_attempts=1)
    wait_until(lambda: log_of(fleet, again) == log_of(fleet, once) == ["begun"])
    pids = [one.pid for one in engine.containers.values()]
    labels = engine.running()[0].body["Labels"]
    worker.kill()
    assert all(alive(pid) for pid in pids), "a container goes on without its worker"
    second = start(fleet, engine)
    fleet.wait_for([again], reclaim=True)
    assert fleet.attempts(again) == ["lost", "succeeded"]
    assert fleet.row(once)["error"].startswith(f"worker {labels['walclock.worker']} (w1 on ")
    wait_until(lambda: not engine.containers)
    assert not any(alive(pid) for pid in pids)
    # Which comes first, the look at what is left or the attempt, is a matter of luck; that the lost run is seen is not.
    # The engine removes a container before the worker hears of it, and its log is a moment later still.
    begun_by = f"begun by worker {labels['walclock.worker']}"
    wait_until(lambda: f"of run {once}, {begun_by}: its lease is gone" in second.log)
    wait_until(lambda: f"of run {again}, {begun_by}" in second.log)


def test_a_living_workers_containers_are_left_alone(fleet: Fleet, engine: Engine) -> None:
    start(fleet, engine)
    run = insert(fleet, {"command": "echo begun; while [ ! -e go ]; do sleep 0.1; done; rm go"})
    wait_until(lambda: log_of(fleet, run) == ["begun"])
    second = start(fleet, engine)
    looked = engine.asked.count("list")
    wait_until(lambda: engine.asked.count("list") >= looked + 4)  # two workers, each at least once more
    assert "removed container" not in second.log
    (Path(engine.socket).parent / "go").touch()
    fleet.wait_for([run])
    assert fleet.attempts(run) == ["succeeded"]


def test_a_run_is_tried_again_when_the_engine_is_back(fleet: Fleet, engine: Engine) -> None:
    engine.stop()
    worker = start(fleet, engine)
    run = insert(fleet, {"command": ["true"]}, max_attempts=20, retry_delay="100 ms")
    wait_until(lambda: fleet.attempts(run))
    refused = r"leftovers w1: no container engine at \S+: No such file or directory; next try in"
    wait_until(lambda: re.search(refused, worker.log))
    error = fleet.scalar("select min(error) from scheduler.history where id = %s", [run])
    assert error == f"no container engine at {engine.socket}: No such file or directory"
    engine.start()
    fleet.wait_for([run])
    assert "Traceback" not in worker.log


def test_a_secret_in_an_environment_is_in_no_log_and_no_error(
    fleet: Fleet, engine: Engine, db: psycopg.Connection
) -> None:
    worker = start(fleet, engine, SCHEDULER_LOG="DEBUG")
    secret = {"environment": {"TOKEN": CANARY}}
    well = insert(fleet, {"command": 'test -n "$TOKEN"; echo done', **secret})
    failing = insert(fleet, {"command": "exit 4", **secret}, max_attempts=1)
    refused = insert(fleet, {"privileged": True, **secret})
    bad = insert(fleet, {"environment": {"TOKEN": [CANARY]}})
    fleet.wait_for([well])
    fleet.wait_for([failing, refused, bad], "failed")
    engine.quotes = True
    quoted = insert(fleet, {"command": ["true"], **secret}, max_attempts=1)
    fleet.wait_for([quoted], "failed")
    assert "TOKEN=***" in fleet.row(quoted)["error"]
    kept = db.execute("select jsonb_agg(to_jsonb(h) - 'spec')::text from scheduler.history h").fetchone()
    lines = db.execute("select jsonb_agg(to_jsonb(l))::text from scheduler.log l").fetchone()
    assert kept is not None
    assert CANARY not in kept[0]
    assert CANARY not in str(lines)
    worker.term()
    assert worker.wait() == 0
    assert CANARY not in worker.log


def test_the_examples_of_the_document_run(fleet: Fleet, engine: Engine, db: psycopg.Connection) -> None:
    (script,) = re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    engine.images |= set(re.findall(r'"image": "([^"]+)"', script))
    allow = re.search(r"^SCHEDULER_CONTAINER_ALLOW=(\S+)", DOCUMENT.read_text(), re.MULTILINE)
    assert allow is not None
    start(fleet, engine, SCHEDULER_CONTAINER_ALLOW=allow[1])
    runs = []
    for statement in filter(str.strip, script.split(";\n")):
        cursor = db.execute(statement.encode())
        runs += [row[0] for row in cursor.fetchall()] if cursor.description else []
    assert len(runs) == 3
    fleet.wait_for(runs)
