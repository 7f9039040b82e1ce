"""`scheduler verify`: it passes the product, finds each planted bug, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from scheduler.errors import ConfigError
from scheduler.verify.certify import certify, possible
from scheduler.verify.findings import Verdict
from scheduler.verify.kinds import KINDS
from scheduler.verify.options import Options
from tests.support.command import COMMAND, Scheduler, clean_environment
from tests.support.fleet import QUICK, all_dead, wait_until

SMALL = ("--servers", "2", "--workers", "2", "--rate", "40", "--jobs", "6", "--concurrency", "40")
LATE = 60.0  # seconds: a loaded machine is slow, not wrong


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes inherit it."""
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)


def plant(*statements: str) -> Callable[[str], None]:
    """Breaks the schema of a scratch database."""

    def prepare(dsn: str) -> None:
        with psycopg.connect(dsn, autocommit=True) as conn:
            for statement in statements:
                conn.execute(statement.encode())

    return prepare


def plant_in(function: str, *changes: tuple[str, str]) -> Callable[[str], None]:
    """Breaks a function, by other words in its text."""

    def prepare(dsn: str) -> None:
        with psycopg.connect(dsn, autocommit=True) as conn:
            ((text,),) = conn.execute(
                "select pg_get_functiondef(p.oid) from pg_proc p"
                " where p.pronamespace = 'scheduler'::regnamespace and p.proname = %s",
                [function],
            ).fetchall()
            for old, new in changes:
                assert old in text, f"{function} has changed: plant the bug anew"
                text = text.replace(old, new)
            conn.execute(text.encode())

    return prepare


def passed_over(dsn: str, prepare: Callable[[str], None], *faults: str, **options: Any) -> Verdict:
    """A short pass over a broken build."""
    small: dict[str, Any] = {
        "seconds": 6.0, "rate": 20, "jobs": 4, "servers": 1, "workers": 2, "concurrency": 40, "patience": 6.0
    }  # fmt: skip
    chosen = Options(**{**small, **options}, faults=faults, seed=1, every=(1.0, 1.0), late=LATE)
    return certify(dsn, chosen, prepare=prepare)


@pytest.mark.chaos
@pytest.mark.timeout(float(os.environ.get("SCHEDULER_TEST_SECONDS", "20")) * 2 + 240)
def test_a_short_pass_with_every_fault_finds_nothing_on_a_postgresql_of_its_own(
    tmp_path: Path, test_seconds: float
) -> None:
    words = [
        "verify",
        *SMALL,
        "--seconds",
        str(max(20.0, test_seconds)),
        "--seed",
        "3",
        "--every",
        "1-2",
        "--late",
        str(LATE),
        "--json",
    ]
    done = subprocess.run(
        [*COMMAND, *words, "--keep", str(tmp_path)],
        env={**clean_environment(), **QUICK},
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)
    assert (done.returncode, found["passed"], found["found"]) == (0, True, []), done.stderr
    figures = found["figures"]
    assert figures["faults"].keys() >= {"kill", "terminate", "notify", "restart", "clock", "poison", "replan"}
    assert figures["enqueued"]["acknowledged"] > 200
    assert figures["executed"] >= figures["enqueued"]["acknowledged"] + figures["fires"]["due"] - figures[
        "poisoned"
    ] - (figures["broken_off"] + figures["quarantined"])
    assert figures["fires"]["matched"] + figures["fires"]["unbegun"] == figures["fires"]["due"] > 20
    assert figures["lost"] == figures["doubled"] == figures["stale"] == 0
    assert figures["poisoned"] >= 1
    assert "seed 3: kill, pause, " in done.stderr
    assert (tmp_path / "record").stat().st_size > 0
    (data_dir,) = re.findall(r"database in (\S+)", done.stderr)
    assert list(Path(data_dir).parent.glob(f"{Path(data_dir).name}*")) == []


@pytest.mark.chaos
def test_it_finds_a_finish_that_does_not_check_its_fence(direct_dsn: str) -> None:
    """Whoever reports a run is believed, also when another one has it by now."""
    believes = plant_in(
        "finish",
        (
            "where l.app = p_app and l.id = p_lease and l.worker = p_worker\n",
            """where l.app = p_app and (
                l.id = p_lease or exists (select from unnest(l.runs) r where r.id = any (p_runs))
            )
            """,
        ),
        (
            "perform scheduler.close_runs(p_app, p_lease, v_ended);",
            "perform scheduler.close_runs(p_app, v_lease.id, v_ended);",
        ),
    )

    verdict = passed_over(direct_dsn, believes, "straggler")
    assert verdict.found["stale"] > 0, verdict


@pytest.mark.chaos
def test_it_finds_a_ledger_without_its_key(direct_dsn: str) -> None:
    verdict = passed_over(direct_dsn, plant("alter table scheduler.fire drop constraint fire_pkey"), "replan")
    assert verdict.found["doubled"] > 0, verdict


@pytest.mark.chaos
def test_it_finds_a_build_that_reclaims_nothing(direct_dsn: str) -> None:
    verdict = passed_over(
        direct_dsn, plant_in("reclaim", ("limit p_limit", "limit 0")), "kill", servers=1, workers=1, rate=100
    )
    assert verdict.found["lost"] > 0, verdict


@pytest.mark.chaos
def test_such_passes_find_nothing_in_a_build_that_is_whole(direct_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEDULER_DEAD_AFTER", "6")  # nobody is taken for dead who is slow
    verdict = passed_over(direct_dsn, lambda _: None, "straggler", "replan", "kill", patience=20.0)
    assert verdict.passed, verdict
    assert verdict.figures["faults"].keys() == {"straggler", "replan", "kill"}


@pytest.mark.chaos
@pytest.mark.timeout(200)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_pass_that_is_interrupted_leaves_nothing_behind(
    direct_dsn: str, db: psycopg.Connection, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    environment = {**clean_environment(), "SCHEDULER_DSN": direct_dsn, "TMPDIR": str(tmp_path), **QUICK}
    running = subprocess.Popen(
        [*COMMAND, "verify", *SMALL, "--seconds", "60", "--fault", "pause", "--every", "0.3"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stderr is not None
        said = ""
        while "faults, 1m" not in said:
            line = running.stderr.readline()
            assert line, said
            said += line
        time.sleep(2)  # some stand still now
        children = children_of(running.pid)
        assert len(children) == 4
        (scratch,) = {str(conninfo_to_dict(dsn_of(child))["dbname"]) for child in children}
        running.send_signal(number)
        rest = running.communicate(timeout=60)[1]
    finally:
        running.kill()
    assert (running.returncode, rest) == (status, "")
    wait_until(lambda: all_dead(children))
    assert db.execute("select from pg_database where datname = %s", [scratch]).fetchall() == []
    assert list(tmp_path.iterdir()) == []


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def dsn_of(pid: int) -> str:
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next(one.removeprefix(b"SCHEDULER_DSN=").decode() for one in variables if one.startswith(b"SCHEDULER_DSN="))


def test_a_login_that_may_not_create_a_database_is_told_so_in_a_line(direct_dsn: str, db: psycopg.Connection) -> None:
    role = f"verify_{os.getpid()}_{time.time_ns()}"
    db.execute(f"create role {role} login".encode())
    try:
        poor = make_conninfo(direct_dsn, options=f"-c role={role}")
        done = Scheduler(poor)("verify")
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith(
            "error: verify works in a database of its own, and this login may not create one"
        )
    finally:
        db.execute(f"drop role {role}".encode())


def test_a_server_that_others_use_is_not_restarted(direct_dsn: str) -> None:
    assert "restart is not done to a server that others use" in Scheduler(direct_dsn).refuses(
        "verify", "--fault", "restart"
    )
    assert "restart" not in possible(direct_dsn, ())
    assert possible(None, ()) == tuple(KINDS)
    with pytest.raises(ConfigError):
        possible(direct_dsn, ("kill", "restart"))


@pytest.mark.parametrize("pause", ["0", "3-1", "x", "0-1"])
def test_a_pause_that_is_none_is_bad_usage(direct_dsn: str, pause: str) -> None:
    assert f"'{pause}' is no pause: write 2, or 1-3" in Scheduler(direct_dsn).refuses("verify", "--every", pause)
