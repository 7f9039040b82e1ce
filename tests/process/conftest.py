"""A fleet of worker processes on the test's own database.

With SCHEDULER_TEST_POOLER=pgbouncer all processes reach it through PgBouncer in transaction mode, and have a DSN of
PostgreSQL itself for the listener; with SCHEDULER_TEST_POOLER=polling they have none. What a test itself asks goes to
PostgreSQL.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.support.database import Databases
from tests.support.fleet import Fleet
from tests.support.pooler import pooler

POOLER = os.environ.get("SCHEDULER_TEST_POOLER", "")
collect_ignore = [] if POOLER else ["test_pooler.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what cannot go through a pooler: each such test says why."""
    unfit = {"": (), "pgbouncer": ("direct",), "polling": ("direct", "listens")}[POOLER]
    items[:] = [item for item in items if not any(item.get_closest_marker(name) for name in unfit)]


@pytest.fixture(scope="session")
def pooled_server(databases: Databases) -> Iterator[str]:
    """A DSN that leads through PgBouncer to any database of the test run's server."""
    with pooler(databases.server) as dsn:
        yield dsn


@pytest.fixture
def dsn(direct_dsn: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if not POOLER:
        return direct_dsn
    if POOLER == "pgbouncer":
        monkeypatch.setenv("SCHEDULER_LISTEN_DSN", direct_dsn)
    return make_conninfo(request.getfixturevalue("pooled_server"), dbname=conninfo_to_dict(direct_dsn)["dbname"])


@pytest.fixture
def fleet(dsn: str, db: psycopg.Connection, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(dsn, db, tmp_path)
    yield fleet
    fleet.end()


@pytest.fixture
def test_seconds() -> float:
    """How long a test that could go on for ever does."""
    return float(os.environ.get("SCHEDULER_TEST_SECONDS", "20"))
