"""The large database that the tests of this folder share, one at a time: each takes back what it did."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.support import million
from tests.support.database import Databases

_TURN = 7_716_897


@pytest.fixture(scope="session")
def large_dsn(databases: Databases) -> str:
    return databases.shared("million", million.fill)


@pytest.fixture
def large(large_dsn: str) -> Iterator[psycopg.Connection]:
    """A session on it. Tests of other processes wait for their turn, or they would skip each other's locked rows."""
    with psycopg.connect(large_dsn, autocommit=True) as conn:
        conn.execute("select pg_advisory_lock(%s)", [_TURN])
        yield conn
