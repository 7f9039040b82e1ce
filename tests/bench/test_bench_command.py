"""`scheduler bench`: one short pass of every scenario, and that nothing of it stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scheduler.bench.names import NAMES
from tests.support.command import Scheduler, clean_environment

PATIENCE = 60.0  # seconds: a loaded machine is slow, not wrong
TINY = {
    "runs": 400,
    "seconds": 0.5,
    "repeat": 1,
    "workers": 2,
    "clients": 3,
    "concurrency": 50,
    "batch": 100,
    "backlog": 1_000,
    "jobs": 40,
    "definitions": 40,
    "due": 10,
}
LINES = {
    "enqueue": ["copy", "one.asleep", "one.awake", "many.asleep", "many.awake"],
    "drain": [f"{kind}.{count}" for kind in ("async", "thread", "process") for count in ("one", "many")],
    "sleep": [""],
    "pickup": ["p50", "p95", "p99"],
    "delayed": [f"{state}.{share}" for state in ("idle", "loaded") for share in ("p50", "p99")],
    "snapshot": [""],
    "backlog": ["drain", "claim.p50", "claim.p99"],
    "planning": ["instant.p50", "instant.p99", "definitions.cpu", "definitions.p50", "definitions.p99"],
    "idle": [f"{kind}.{what}" for kind in ("server", "worker") for what in ("queries", "cpu", "memory")],
}
KEYS = {
    *("name", "scenario", "title", "unit", "better", "figure", "floor", "ratio", "details"),
    *("worker_memory_bytes", "wal_bytes_per_run", "database_cpu_us_per_run"),
}
MOST = {"runs/s": 5e6, "ms": 60_000, "% of a core": 1_000, "queries/s": 10_000, "MB": 2_000}
FLOORLESS = {"idle", "planning.definitions.cpu"}


@pytest.fixture
def scheduler(dsn: str) -> Scheduler:
    scheduler = Scheduler(dsn, SCHEDULER_PLAN_AHEAD="1")
    scheduler.patience = 240.0  # a scenario starts some 25 processes
    return scheduler


def tiny(**other: float) -> list[str]:
    return [word for name, value in {**TINY, **other}.items() for word in (f"--{name}", str(value))]


def left_behind(db: psycopg.Connection) -> dict[str, int]:
    """What is in the database that was not there before: rows by table, schemas and sessions."""
    found = {}
    for table in (
        "job",
        "job_schedule",
        "run",
        "lease",
        "run_key",
        "fire",
        "history",
        "log",
        "worker",
        "server",
        "app",
    ):
        found[table] = db.execute(f"select count(*) from scheduler.{table}").fetchone()
    found["schemas"] = db.execute("select count(*) from pg_namespace where nspname ~ 'bench'").fetchone()
    found["sessions"] = db.execute(
        "select count(*) from pg_stat_activity where application_name ~ 'bench' and datname = current_database()"
    ).fetchone()
    return {name: row[0] for name, row in found.items() if row and row[0]}


def assert_nothing_is_left(db: psycopg.Connection) -> None:
    wait_for(lambda: "sessions" not in left_behind(db))  # a backend ends a moment after its client
    assert left_behind(db) == {}


def wait_for(condition: Callable[[], Any]) -> Any:
    late = time.monotonic() + PATIENCE
    while not (answer := condition()):
        assert time.monotonic() < late, "it did not happen"
        time.sleep(0.02)
    return answer


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_measures_its_lines_and_leaves_nothing_behind(
    scheduler: Scheduler, db: psycopg.Connection, name: str
) -> None:
    # Sessions tell how many transactions they made once a second at most.
    measured = scheduler.json("bench", name, *tiny(seconds=3 if name == "idle" else 0.5))
    assert measured["scenarios"] == [name]
    assert measured["options"]["runs"] == TINY["runs"]
    assert measured["database"]["settings"]["synchronous_commit"] in {"on", "off"}
    assert [line["name"] for line in measured["lines"]] == [f"{name}.{part}".rstrip(".") for part in LINES[name]]
    for line in measured["lines"]:
        assert set(line) == KEYS
        check(line)
    assert_nothing_is_left(db)


def check(line: dict[str, Any]) -> None:
    figure, floor, ratio = line["figure"], line["floor"], line["ratio"]
    assert line["scenario"] == line["name"].partition(".")[0]
    assert line["better"] == ("higher" if line["unit"] == "runs/s" else "lower")
    # A worker's instants are late by the way back of the answer that it has the database's clock from, so they seem
    # early: beside other tests by more than what there is to measure.
    soonest = -10 if line["scenario"] == "pickup" else 0
    assert soonest < figure["min"] == figure["median"] == figure["max"] < MOST[line["unit"]], line
    if line["name"].startswith(tuple(FLOORLESS)):
        assert (floor, ratio) == (None, None)
    else:
        assert 0 < floor["median"] < MOST[line["unit"]], line
        assert ratio["values"] == [figure["median"] / floor["median"]]
    for key, least in (
        ("worker_memory_bytes", 10e6),
        ("wal_bytes_per_run", 50),
    ):  # without bounds above: other tests use the same server
        assert line[key] is None or least <= line[key]["median"], (key, line)
    if line["name"].startswith("delayed"):
        assert line["details"][0]["earliest_ms"] > -1
    if line["name"].startswith(("drain", "snapshot", "enqueue")):
        assert line["wal_bytes_per_run"] is not None
    if line["name"].startswith(("drain", "pickup", "planning.instant")) and Path("/proc/self").exists():
        assert line["worker_memory_bytes"] is not None


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_benchmark_that_is_interrupted_leaves_nothing_behind(
    scheduler: Scheduler, db: psycopg.Connection, number: signal.Signals, status: int
) -> None:
    running = scheduler.start("bench", "enqueue", *tiny(seconds=60, runs=20_000))
    try:
        wait_for(lambda: {"run", "worker", "schemas", "sessions"} <= left_behind(db).keys())
        running.send_signal(number)
        _, said = running.communicate(timeout=PATIENCE)
    finally:
        running.kill()
    assert running.returncode == status, said
    assert_nothing_is_left(db)


def test_a_worker_that_dies_ends_the_benchmark_with_a_line_and_nothing_left(
    scheduler: Scheduler, db: psycopg.Connection
) -> None:
    running = scheduler.start("bench", "delayed", *tiny(seconds=60))
    try:
        query = "select w.pid from scheduler.worker w where exists (select from scheduler.run)"
        (pid,) = wait_for(lambda: db.execute(query).fetchone())
        os.kill(pid, signal.SIGKILL)
        out, said = running.communicate(timeout=PATIENCE)
    finally:
        running.kill()
    assert (running.returncode, out) == (1, "")
    assert said.startswith("error: a worker ended by itself with status -9")
    assert len(said.splitlines()) == 1
    assert_nothing_is_left(db)


def test_a_worker_that_would_take_the_runs_is_a_reason_to_refuse(scheduler: Scheduler, db: psycopg.Connection) -> None:
    db.execute("select scheduler.register_worker('everybody''s', p_host => 'box')")
    db.execute("update scheduler.worker set seen_at = scheduler.clock() + interval '1 hour'")  # it has no heartbeat
    line = scheduler.refuses("bench", "drain", status=1)
    assert "worker everybody's on box serves every app" in line


def test_an_unknown_scenario_is_refused_with_the_known_ones(scheduler: Scheduler) -> None:
    line = scheduler.refuses("bench", "drian")
    assert "'drian' is not one of" in line
    assert all(name in line for name in NAMES)


def test_a_chart_is_drawn_as_its_suffix_says(scheduler: Scheduler, tmp_path: Path) -> None:
    chart = tmp_path / "chart.svg"
    table = scheduler.says("bench", "pickup", *tiny(), "--plot", str(chart))
    assert "pick-up by an idle worker, p99" in table
    assert "<svg" in chart.read_text()[:1_000]


@pytest.mark.parametrize("file", ["chart.pdf", "chart", "nowhere/chart.png"])
def test_a_chart_that_could_not_be_written_is_refused_before_anything_is_measured(
    scheduler: Scheduler, tmp_path: Path, file: str
) -> None:
    assert "must end in .png or .svg" in scheduler.refuses("bench", "drain", "--plot", str(tmp_path / file))


def test_without_its_extra_a_chart_is_refused_with_the_name_of_it(dsn: str, tmp_path: Path) -> None:
    program = "import sys; sys.modules['matplotlib'] = None; from scheduler.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "bench", "drain", "--plot", tmp_path / "chart.png"],
        env={**clean_environment(), "SCHEDULER_DSN": dsn},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "error: --plot needs an optional dependency (pip install 'walclock[bench]')\n"


@pytest.mark.parametrize(
    ("words", "loaded"),
    [(["queues"], "[]\n"), (["bench"], "['scheduler.bench', 'scheduler.bench.names', 'scheduler.bench.options']\n")],
)
def test_a_command_loads_what_it_needs(words: list[str], loaded: str) -> None:
    program = (
        "import sys\n"
        "from scheduler.cli import cli\n"
        "cli.main([*sys.argv[1:], '--help'], standalone_mode=False)\n"
        "others = tuple(f'scheduler.{part}' for part in ('bench', 'crontab', 'forecast', 'doctor', 'verify'))\n"
        "print([name for name in sys.modules if name.startswith(others)], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    assert done.stderr == loaded
