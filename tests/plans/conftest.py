"""The large database that the tests of this folder share, one at a time: each takes back what it did."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psycopg
import pytest

from tests.support import million
from tests.support.database import Databases

_TURN = 7_716_897

# It needs auto_explain, which Debian's PostgreSQL brings along and the wheel's do not; .ci/run uses both.
collect_ignore = [] if os.environ.get("SCHEDULER_TEST_POSTGRES") == "15" else ["test_statements.py"]


@pytest.fixture(scope="session")
def large_dsn(databases: Databases) -> str:
    return databases.shared("million", million.fill)


@pytest.fixture
def large(large_dsn: str) -> Iterator[psycopg.Connection]:
    """A session on it. Tests of other processes wait for their turn, or they would skip each other's locked rows."""
    with psycopg.connect(large_dsn, autocommit=True) as conn:
        conn.execute("select pg_advisory_lock(%s)", [_TURN])
        yield conn
