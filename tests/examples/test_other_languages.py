"""Programs that share nothing with this one but the database: psql, and Node with the `pg` package."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.support.fleet import wait_until

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "examples" / "worker.mjs"

INSERTS = """
import pg from 'pg';
const client = new pg.Client();
await client.connect();
const insert = (spec) => client.query(
  "insert into scheduler.run (app, executor, spec) values ('shop', 'node', $1) returning id", [spec]);
await client.query('begin');
await insert({ task: 'add', args: { a: 1, b: 1 } });
await client.query('rollback');
await client.query('begin');
const { rows } = await insert({ task: 'add', args: { a: 20, b: 22 } });
await client.query('commit');
await client.query("select scheduler.enqueue('shop', 'node', '{\\"task\\": \\"fail\\"}', max_attempts => 1)");
console.log(rows[0].id);
await client.end();
"""


def node() -> str:
    """Node of this machine, or the one that the test requirements bring along."""
    return shutil.which("node") or str(Path(sys.executable).with_name("node"))


@pytest.fixture(scope="session")
def node_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the package `pg`, where programs find it."""
    home = tmp_path_factory.mktemp("node")
    npm = shutil.which("npm") or str(Path(sys.executable).with_name("npm"))
    subprocess.run([npm, "install", "--silent", "--no-audit", "--no-fund", "pg@8"], cwd=home, check=True, timeout=120)
    return home


def environment(dsn: str) -> dict[str, str]:
    """The DSN in the variables that every driver reads."""
    given = conninfo_to_dict(dsn)
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE", "password": "PGPASSWORD"}
    return {**os.environ, "APP": "shop", **{names[key]: str(value) for key, value in given.items() if key in names}}


@pytest.fixture
def node_worker(dsn: str, node_home: Path) -> Iterator[subprocess.Popen[bytes]]:
    shutil.copy(WORKER, node_home / "worker.mjs")
    process = subprocess.Popen([node(), "worker.mjs"], cwd=node_home, env=environment(dsn))
    yield process
    process.kill()
    process.wait()


def test_a_node_program_inserts_runs_and_exactly_those_committed_are_executed_by_a_node_worker(
    dsn: str, db: psycopg.Connection, node_home: Path, node_worker: subprocess.Popen[bytes]
) -> None:
    (node_home / "insert.mjs").write_text(INSERTS)
    printed = subprocess.run(
        [node(), "insert.mjs"],
        cwd=node_home,
        env=environment(dsn),
        check=True,
        capture_output=True,
        timeout=60,
    ).stdout
    wait_until(lambda: db.execute("select count(*) from scheduler.history").fetchone() == (2,), seconds=30)
    rows = db.execute("select id, state, result, error from scheduler.runs order by id").fetchall()
    assert [(state, result, error) for _, state, result, error in rows] == [
        ("succeeded", {"sum": 42}, None),
        ("failed", None, "this task always fails"),
    ]
    assert rows[0][0] == json.loads(printed)

    node_worker.send_signal(signal.SIGTERM)
    assert node_worker.wait(timeout=15) == 0
    stopped = db.execute("select count(*) from scheduler.worker where stopped_at is not null").fetchone()
    assert stopped == (1,)
