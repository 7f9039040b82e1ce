"""Puts jobs, runs and workers into a database, and reads back what became of them, in a line each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

import psycopg
from psycopg.sql import SQL, Identifier, Placeholder
from psycopg.types.json import Jsonb

APP = "shop"


def rows(db: psycopg.Connection, query: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
    return db.execute(query, parameters).fetchall()


def one(db: psycopg.Connection, query: LiteralString, *parameters: Any) -> Any:
    """The one value of the one row that there must be."""
    ((value,),) = rows(db, query, *parameters)
    return value


def column(db: psycopg.Connection, query: LiteralString, *parameters: Any) -> list[Any]:
    return [value for (value,) in rows(db, query, *parameters)]


def add_run(db: psycopg.Connection, **columns: Any) -> int:
    """Inserts a row of `scheduler.run` as any program would; returns its id."""
    return int(_insert(db, "run", {"app": APP, "executor": "python"} | columns, "id"))


def add_job(db: psycopg.Connection, name: str = "nightly", **columns: Any) -> str:
    """Inserts a row of `scheduler.job`; on demand, unless it has a schedule. Returns its name."""
    return str(_insert(db, "job", {"app": APP, "name": name, "executor": "python"} | columns, "name"))


def add_worker(db: psycopg.Connection, label: str = "worker") -> int:
    return int(one(db, "select scheduler.register_worker(%s)", label))


def add_server(db: psycopg.Connection, label: str = "server", address: str | None = None) -> int:
    return int(one(db, "select scheduler.register_server(%s, p_address => %s)", label, address))


def own(db: psycopg.Connection, label: str = "test planner") -> int:
    """A server of this name, the same each time, and alive; each app that nobody else alive owns is its own."""
    with db.transaction():
        db.execute("select pg_advisory_xact_lock(7716895)")
        known = column(
            db,
            "select s.id from scheduler.server s where s.label = %s and s.dead_at is null and s.stopped_at is null",
            label,
        )
        server = known[0] if known else add_server(db, label)
        db.execute("select scheduler.heartbeat_server(%s)", [server])
        db.execute("select scheduler.assign_apps(null, true)")
    return int(server)


def plan(db: psycopg.Connection, job: str, at: Any, *, following: Any = None) -> list[tuple[Any, ...]]:
    """Plans one instant of a job from what its schedule row says now; returns (outcome, run_id) of what was written."""
    own(db)
    revision, expected = rows(
        db, "select s.revision, s.next_at::text from scheduler.job_schedule s where s.app = %s and s.job = %s", APP, job
    )[0]
    return rows(db, PLAN, APP, Jsonb([a_plan(job, at, revision=revision, expected=expected, following=following)]))


PLAN: LiteralString = """
    select f.outcome, f.run_id
    from (select * from scheduler.owner o where o.app = %s) o
    cross join lateral scheduler.plan_fires(o.app, o.server, o.epoch, %s) f
    where f.outcome <> 'moved'
"""
"""What the app's owner, whoever it is, gets back for its plans."""


def a_plan(
    job: str, at: Any, *, revision: int = 1, expected: str = "-infinity", following: Any = None
) -> dict[str, Any]:
    """A plan as planners make them: one instant to be planned, and the next one after it."""
    return {
        "jobs": [job],
        "revisions": [revision],
        "expected": expected,
        "next": str(following) if following else None,
        "fires": [{"at": str(at), "outcome": "planned", "run_at": str(at)}],
    }


def claim(db: psycopg.Connection, worker: int, limit: int = 100, *, begin: bool = True) -> tuple[int, list[int]]:
    """The lease and the ids of its runs in their order; (0, []) when nothing was due."""
    query: LiteralString = "select c.lease, c.id from scheduler.claim(%s, %s, p_limit => %s, p_begin => %s) c"
    taken = rows(db, query, APP, worker, limit, begin)
    return (taken[0][0], [run for _, run in taken]) if taken else (0, [])


def finish(db: psycopg.Connection, worker: int, lease: int, runs: Sequence[int], outcome: str = "succeeded") -> int:
    """Ends the runs with one outcome; returns how many counted. A failed one is due again at once."""
    query: LiteralString = (
        "select scheduler.finish(%s, %s, %s, %s::bigint[], %s::text[], p_retry_after => %s::interval[])"
    )
    return int(one(db, query, APP, worker, lease, list(runs), [outcome] * len(runs), ["0"] * len(runs)))


def state(db: psycopg.Connection, run: int) -> str | None:
    """What the view says; None when it knows no such run, a failure when it has it twice."""
    found = column(db, "select r.state from scheduler.runs r where r.app = %s and r.id = %s", APP, run)
    assert len(found) <= 1, found
    return found[0] if found else None


def attempts(db: psycopg.Connection, run: int) -> list[tuple[int, str]]:
    """(attempt, outcome) of each row of a run's history, in the order in which they were written."""
    query: LiteralString = (
        "select h.attempt, h.outcome from scheduler.history h where h.app = %s and h.id = %s order by h.ctid"
    )
    return [(attempt, outcome) for attempt, outcome in rows(db, query, APP, run)]


def _insert(db: psycopg.Connection, table: str, columns: dict[str, Any], returning: str) -> Any:
    values = {name: Jsonb(value) if isinstance(value, dict) else value for name, value in columns.items()}
    query = SQL("insert into scheduler.{} ({}) values ({}) returning {}").format(
        Identifier(table),
        SQL(", ").join(map(Identifier, values)),
        SQL(", ").join(map(Placeholder, values)),
        Identifier(returning),
    )
    ((value,),) = db.execute(query, values).fetchall()
    return value
