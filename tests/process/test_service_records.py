"""What services log: each record says who logged it, and about which run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.support.command import Scheduler
from tests.support.fleet import Fleet, wait_until
from tests.support.serving import serving

JSON = {"SCHEDULER_LOG_FORMAT": "json"}


def records(log: str) -> list[dict[str, Any]]:
    """Every line but what is said at the start on stdout; a line that is no object fails."""
    return [json.loads(line) for line in log.splitlines() if not line.startswith("Walclock ")]


def test_a_record_says_which_run_wrote_it_however_the_run_was_executed(fleet: Fleet) -> None:
    process = fleet.start(env=JSON)
    fleet.db.execute("insert into scheduler.job (app, name, executor, spec) values ('shop', 'orders', 'python', '{}')")
    tasks = ["speak", "speak_in_thread"]
    runs = [run for task in tasks for run in fleet.insert(task, app="shop", job="orders", count=30)]
    runs += fleet.insert("speak", {"seconds": 0.2}, app="shop", job="orders", count=30)
    fleet.wait_for(runs)
    worker = fleet.worker(process)["id"]
    fences: dict[int, int] = dict(fleet.db.execute("select id, fence from scheduler.history").fetchall())
    said = [one for one in records(process.log) if one["logger"] == "shop.orders"]
    assert len(said) == 2 * 4 * 30
    for one in said:
        run = int(one["message"].split()[2 if one["level"] == "WARNING" else 1])
        about = {"app": "shop", "run": run, "job": "orders", "attempt": 1, "fence": fences[run], "worker": worker}
        assert about.items() <= one.items()
        assert (one.get("order"), "exception" in one) == ((17, False) if one["level"] == "WARNING" else (None, True))
    assert said[1]["exception"].endswith("KeyError: 'nothing'")
    others = [one for one in records(process.log) if one["logger"].startswith("worker.")]
    assert others
    assert not any("run" in one for one in others)


def test_no_run_is_a_record_of_its_own(fleet: Fleet) -> None:
    process = fleet.start()
    fleet.wait_for(fleet.insert("note", count=10))
    before = process.log.count("\n")
    fleet.wait_for(fleet.insert("note", count=500))
    assert process.log.count("\n") < before + 10  # a warning, on a machine that is slow


def test_a_server_its_worker_and_its_libraries_log_the_same_way(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "effects").touch()
    env = {**JSON, "FLEET_EFFECTS": str(tmp_path / "effects"), "PYTHONWARNINGS": "always"}
    with serving(fleet.dsn, tmp_path) as serve:
        process, _ = serve("--executors", "python", "--import", "tests.support.fleet_tasks", env=env)
        fleet.wait_for(fleet.insert("speak"))
        process.term()
        assert process.wait() == 0
    found = records(process.log)
    (server,) = fleet.db.execute("select id from scheduler.server").fetchone() or (0,)
    (worker,) = fleet.db.execute("select id from scheduler.worker").fetchone() or (0,)
    by_logger = {one["logger"]: one for one in found}
    assert by_logger["scheduler.service"]["server"] == server
    assert by_logger["worker.service"]["worker"] == worker
    assert by_logger["worker.service"].keys().isdisjoint({"server", "run"})
    assert "uvicorn.error" in by_logger
    assert all(one["ts"].endswith("Z") and one["level"] and one["message"] for one in found)


def test_a_service_that_fails_says_so_in_the_same_form(dsn: str) -> None:
    done = Scheduler(dsn, **JSON)("worker", "--app", "shop", "--import", "no_such_module")
    assert done.returncode == 1
    last = records(done.stderr)[-1]
    assert (last["level"], "no_such_module" in last["message"]) == ("CRITICAL", True)


def test_no_record_holds_a_password_or_a_secret(direct_dsn: str, fleet: Fleet, tmp_path: Path) -> None:
    password = str(conninfo_to_dict(direct_dsn).get("password") or "correct-horse")
    dsn = make_conninfo(direct_dsn, password=password)
    (tmp_path / "token").write_text("in-a-file-it-is\n")
    env = {**JSON, "SCHEDULER_SECRET_DOOR": "open-sesame", "SCHEDULER_SECRETS_DIR": str(tmp_path)}
    process = fleet.start(dsn=dsn, env=env)
    runs = [
        fleet.insert("tell", {"text": text})[0]
        for text in (password, "${secret:door}", "${secret:token}", "redis://u:somebody-elses@h/0")
    ]
    fleet.wait_for(runs)
    said = [one["message"] for one in records(process.log) if one["logger"] == "shop"]
    assert sorted(said) == ["it is ***", "it is ***", "it is ***", "it is redis://u:***@h/0"]
    for text in (password, "open-sesame", "in-a-file-it-is", "somebody-elses"):
        assert text not in process.log


def test_what_a_service_says_on_a_terminal_is_one_line_each(fleet: Fleet, db: psycopg.Connection) -> None:
    process = fleet.start()
    (run,) = fleet.insert("speak")
    wait_until(lambda: f"of run {run}" in process.log and "in two lines" in process.log)
    said = [line for line in process.log.splitlines() if "shop.orders" in line]
    assert f"WARNING shop.orders: of run {run} worker=" in said[0]
    assert f" app=default run={run} attempt=1 fence=" in said[0]
    assert said[0].endswith(" order=17")
    assert "ERROR   shop.orders: run" in said[1]
    assert r"KeyError: 'nothing'" in said[1]
    assert len(said) == 2
    assert "\x1b" not in process.log
    assert db.execute("select count(*) from scheduler.log").fetchone() == (0,)
