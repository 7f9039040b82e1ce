"""`scheduler doctor` as it is typed, on a healthy installation, and with processes that ail."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scheduler.embedded import Embedded
from scheduler.verify import skewed
from tests.support.builders import one
from tests.support.command import Scheduler
from tests.support.embedded import initialised_directory
from tests.support.fleet import Fleet, wait_until

ROOT = Path(__file__).parents[2]
SETTINGS = "max_prepared_transactions = 5\narchive_mode = on\narchive_command = 'true'\n"


def codes(scheduler: Scheduler) -> dict[str, dict[str, Any]]:
    done = scheduler("doctor", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["is_sound"] else 1), done.stderr
    return {finding["code"]: finding for finding in report["findings"]}


@pytest.fixture
def cluster() -> Iterator[Embedded]:
    """A server of its own, that keeps its fsync and can be told what no other test may see."""
    with initialised_directory() as data_dir:
        server = Embedded(data_dir)
        with (server.pgdata / "postgresql.auto.conf").open("a") as file:
            file.write(SETTINGS)
        with server:
            yield server


@pytest.mark.direct("the embedded server is reached by its socket")
def test_a_healthy_installation_is_silent_and_what_then_ails_the_server_is_found(cluster: Embedded) -> None:
    scheduler = Scheduler("", SCHEDULER_DATA_DIR=str(cluster.pgdata.parent))
    running = scheduler.start("run", "--concurrency", "2", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        with (
            psycopg.connect(cluster.dsn, autocommit=True) as db,
            psycopg.connect(cluster.admin_dsn, autocommit=True) as admin,
        ):
            wait_until(lambda: one(db, "select to_regclass('scheduler.fire')") is not None)
            scheduler.says("job", "add", "shop", "hello", "shell", '{"command": "echo hello"}', "--schedule", "@daily")
            db.execute(
                "insert into scheduler.run (app, executor, spec) values ('shop', 'shell', '{\"command\": \"true\"}')"
            )
            wait_until(lambda: one(db, "select count(*) from scheduler.history where outcome = 'succeeded'") == 1)
            wait_until(
                lambda: (
                    one(db, "select count(*) from pg_inherits where inhparent::regclass::text like 'scheduler.%%'") > 9
                )
            )
            wait_until(lambda: one(db, "select count(*) from scheduler.owner where server > 0") == 1)
            said = scheduler("doctor")
            assert (said.returncode, said.stdout, said.stderr) == (0, "24 checks: 0 errors, 0 warnings\n", "")

            admin.execute("alter system set autovacuum = off")
            admin.execute("alter system set archive_command = 'false'")
            admin.execute("alter system set max_slot_wal_keep_size = '1MB'")
            admin.execute("select pg_reload_conf()")
            admin.execute("select pg_create_physical_replication_slot('left_behind', true)")
            db.execute("begin")
            db.execute(
                "insert into scheduler.run (app, executor, run_at) values ('shop', 'shell', now() + interval '1 day')"
            )
            db.execute("prepare transaction 'half done'")
            for _ in range(5):
                admin.execute("select pg_logical_emit_message(true, 'x', 'y')")
                admin.execute("select pg_switch_wal()")

            def is_lost() -> bool:
                admin.execute("checkpoint")
                return bool(one(admin, "select wal_status from pg_replication_slots") == "lost")

            wait_until(is_lost)
            wait_until(lambda: one(admin, "select failed_count from pg_stat_archiver") > 0)
            wait_until(lambda: one(admin, "select setting from pg_settings where name = 'autovacuum'") == "off")
            found = codes(scheduler)
            assert found.keys() == {"autovacuum_off", "archiving_fails", "slot_lost"}, (
                "what was prepared a moment ago is none yet"
            )
            assert {one["level"] for one in found.values()} == {"error"}
            assert found["slot_lost"]["remedy"] == "select pg_drop_replication_slot('left_behind');"
            held = json.loads(_examine(cluster.dsn))
            assert held == {"prepared_transaction": "rollback prepared 'half done';"}
            db.execute("rollback prepared 'half done'")
    finally:
        running.terminate()
        running.communicate(timeout=30)


def _examine(dsn: str) -> str:
    """What the doctor says of snapshots, however young, in a process of its own."""
    program = (
        "import asyncio, json, sys\n"
        "from scheduler import db\n"
        "from scheduler.doctor import Limits, server\n"
        "async def main():\n"
        "    async with await db.connect(sys.argv[1], name='doctor') as conn:\n"
        "        found = await server.snapshots(conn, Limits(snapshot_age=0))\n"
        "        print(json.dumps({one.code: one.remedy for one in found if one.code == 'prepared_transaction'}))\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program, dsn], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.direct("the listener's session is looked for by its name")
def test_a_worker_that_does_not_listen_is_found(fleet: Fleet, db: psycopg.Connection) -> None:
    scheduler = Scheduler(fleet.dsn)
    deaf = fleet.start(env={"SCHEDULER_LISTEN_DSN": "postgresql://127.0.0.1:1/nowhere"})
    connected = (
        "select count(*) from pg_stat_activity where datname = current_database() and starts_with(application_name, %s)"
    )
    wait_until(lambda: one(db, connected, "walclock heartbeat"))
    number = fleet.worker(deaf)["id"]
    found = codes(scheduler)["listener_dead"]
    assert (found["level"], found["facts"]["ids"], found["facts"]["listening"]) == ("error", [number], 0)
    assert "SCHEDULER_LISTEN_DSN" in found["remedy"]
    deaf.kill()
    fleet.start()
    db.execute("update scheduler.worker set dead_at = scheduler.clock() where id = %s", [number])
    wait_until(lambda: one(db, connected, "walclock worker listener"))
    assert "listener_dead" not in codes(scheduler)


def test_a_worker_in_another_language_need_not_listen(dsn: str, db: psycopg.Connection) -> None:
    db.execute("select scheduler.register_worker('mjs')")
    assert "listener_dead" not in codes(Scheduler(dsn))


def test_a_machine_whose_clock_is_wrong_is_told_by_how_much(dsn: str, tmp_path: Path) -> None:
    off = tmp_path / "skew"
    skewed.write(off, 90.0)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "scheduler.verify.skewed", off, "doctor", "--json"],
        env=Scheduler(dsn).env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    (found,) = (one for one in json.loads(done.stdout)["findings"] if one["code"] == "clock_offset")
    assert found["facts"]["offset"] == pytest.approx(90, abs=1 + time.monotonic() - began)
    assert "is 90 s ahead of the database's" in found["text"]
    assert "clock_offset" not in codes(Scheduler(dsn))


def test_a_worker_whose_machine_has_a_wrong_clock_is_named(
    fleet: Fleet, db: psycopg.Connection, tmp_path: Path
) -> None:
    fleet.start()
    off = tmp_path / "skew"
    skewed.write(off, -90.0)
    wrong = fleet.worker(fleet.start(skew=off))["id"]
    # The first heartbeat measures it; each later one says what was measured.
    wait_until(lambda: one(db, "select count(*) from scheduler.worker where clock_ahead is not null") == 2)
    found = codes(Scheduler(fleet.dsn))["clock_offset_process"]
    assert found["facts"]["id"] == wrong
    assert "s behind the database's" in found["text"]


def test_it_is_said_in_lines_and_without_a_database_in_one(dsn: str) -> None:
    done = Scheduler(dsn)("doctor")
    assert done.returncode == 1
    assert (
        "error: synchronous_commit_off: synchronous_commit is off: a crash may take back runs that were committed a "
        "moment ago.\n  remedy: alter system set synchronous_commit = on;" in (done.stdout)
    )
    assert done.stdout.splitlines()[-1].endswith("checks: 2 errors, 1 warnings")
    nowhere = Scheduler("postgresql://127.0.0.1:1/nowhere")
    assert "cannot connect to database nowhere" in nowhere.refuses("doctor", status=1)
