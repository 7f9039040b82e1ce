"""A worker whose login has the role scheduler_worker and nothing else."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.support.builders import column, one
from tests.support.command import Scheduler
from tests.support.fleet import wait_until
from tests.support.roles import login, make_roles

pytestmark = pytest.mark.direct("takes a role by a start-up option, which PgBouncer refuses")


@pytest.mark.parametrize("apps", [None, ["shop"]])
def test_a_worker_needs_no_more_than_its_role(dsn: str, db: psycopg.Connection, apps: list[str] | None) -> None:
    make_roles(dsn)
    with login(dsn, "scheduler_worker") as name:
        if apps is not None:
            db.execute("select scheduler.restrict_role(%s, %s)", [name, apps])
        spec = """{"command": "echo hello; echo $SCHEDULER_RUN_ID; exit ${CODE:-0}"}"""
        enqueue = "select scheduler.enqueue(%s, 'shell', %s, max_attempts => 1, concurrency_key => %s)"
        runs = [one(db, enqueue, app, spec, key) for app in ("shop", "billing") for key in (None, "k")]
        worker = Scheduler(make_conninfo(dsn, options=f"-c role={name}"), SCHEDULER_POLL="0.2").start(
            "worker", "--app", "shop", *(["billing"] if apps is None else []), "--executors", "shell"
        )
        try:
            done = runs if apps is None else runs[:2]
            wait_until(lambda: column(db, "select h.id from scheduler.history h order by 1") == done)
            wait_until(lambda: one(db, "select count(*) from scheduler.log l where l.text = 'hello'") == len(done))
            assert set(column(db, "select h.outcome from scheduler.history h")) == {"succeeded"}
        finally:
            worker.terminate()
            _, errors = worker.communicate(timeout=30)
        assert worker.returncode == 0
        assert "permission denied" not in errors
        assert one(db, "select count(*) from scheduler.worker w where w.stopped_at is null") == 0
