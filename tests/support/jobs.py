"""Jobs, and what is planned for them, in a few words."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier, Placeholder

from scheduler.config import Settings
from scheduler.link import Link
from scheduler.planner import Planner
from tests.support.builders import APP, add_job, own
from tests.support.clock import Clock

NOON = "2026-03-01T12:00:00Z"


def schedule(db: psycopg.Connection, name: str = "tidy", expression: str = "* * * * *", **columns: Any) -> None:
    """A job, by plain SQL as any program would; every minute, unless it is told otherwise."""
    add_job(db, name, schedule=expression, **columns)


def edit_job(db: psycopg.Connection, name: str = "tidy", **columns: Any) -> None:
    settings = [SQL("{} = {}").format(Identifier(column), Placeholder(column)) for column in columns]
    where = SQL(" where app = {} and name = {}").format(Placeholder("_app"), Placeholder("_name"))
    db.execute(
        SQL("update scheduler.job set ") + SQL(", ").join(settings) + where, {**columns, "_app": APP, "_name": name}
    )


async def plan_once(dsn: str, **settings: float) -> float:
    """One step of a planner that owns every app, on a connection of its own, so that it goes by the clock as it was set
    last.
    """
    with psycopg.connect(dsn, autocommit=True) as db:
        server = own(db)
    async with Link(dsn, name="test planner") as link:
        return await Planner(link, Settings(**settings), lambda: server).run_once()


def fires(db: psycopg.Connection, name: str = "tidy") -> list[tuple[datetime, str, str | None]]:
    """The ledger of a job: instant, outcome, reason."""
    query = "select scheduled_at, outcome, reason from scheduler.fire where app = %s and job = %s order by scheduled_at"
    return [(at, str(outcome), reason) for at, outcome, reason in db.execute(query, [APP, name]).fetchall()]


def outcomes(db: psycopg.Connection, name: str = "tidy") -> list[tuple[str, str]]:
    """The ledger of a job: time of day and outcome."""
    return [(f"{at:%H:%M:%S}", outcome) for at, outcome, _ in fires(db, name)]


def runs(db: psycopg.Connection, name: str = "tidy") -> list[tuple[str, str]]:
    """The runs of a job in every state: the time of day they stand for, and the state; `waiting` for their turn."""
    query = """
        select scheduled_at, case when run_at = 'infinity' and state = 'pending' then 'waiting' else state end
        from scheduler.runs where app = %s and job = %s order by scheduled_at, id
    """
    return [(f"{at:%H:%M:%S}" if at else "-", str(state)) for at, state in db.execute(query, [APP, name]).fetchall()]


class FakeWorker:
    """Claims and ends runs by the worker protocol, when it is told to."""

    def __init__(self, db: psycopg.Connection) -> None:
        self._db = db
        row = db.execute("select scheduler.register_worker('fake')").fetchone()
        assert row is not None
        self.id: int = row[0]
        self.lease = 0
        self._runs: list[int] = []

    def claim(self, *, horizon: str = "0", begin: bool = True, limit: int = 100) -> int:
        """How many runs are under the lease now."""
        query = "select lease, id from scheduler.claim(%s, %s, p_limit => %s, p_horizon => %s::interval, p_begin => %s)"
        rows = self._db.execute(query, [APP, self.id, limit, horizon, begin]).fetchall()
        if rows:
            self.lease, self._runs = rows[0][0], [row[1] for row in rows]
        return len(rows)

    def begin(self) -> list[int]:
        """The runs of a prefetched lease that are still to be executed."""
        row = self._db.execute("select scheduler.begin(%s, %s, %s)", [APP, self.id, self.lease]).fetchone()
        return [run for run in self._runs if run not in row[0]] if row and row[0] is not None else []

    def finish(self) -> int:
        """Ends all that is open as succeeded."""
        row = self._db.execute("select scheduler.finish(%s, %s, %s)", [APP, self.id, self.lease]).fetchone()
        return int(row[0]) if row else 0


async def busy_at_its_next_instant(dsn: str, db: psycopg.Connection, clock: Clock, overlap: str) -> FakeWorker:
    """A job whose run of 12:01 is still running at 12:01:55."""
    schedule(db, overlap=overlap)
    clock.advance(60)
    await plan_once(dsn)
    worker = FakeWorker(db)
    assert worker.claim() == 1
    clock.advance(55)
    return worker
