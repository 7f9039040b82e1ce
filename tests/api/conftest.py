"""The HTTP API on the test's own database, with a client for each of its doors."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.support.api import Client, make_token, served


@pytest.fixture
def server(dsn: str) -> Iterator[Client]:
    """A client without a token."""
    with served(dsn) as client:
        yield client


@pytest.fixture
def api(server: Client, db: psycopg.Connection) -> Client:
    """A client that may do everything in all apps."""
    return server.bearing(make_token(db, "root", ["admin"]))


@pytest.fixture
def of_shop(server: Client, db: psycopg.Connection) -> Client:
    """A client that may read and write in the app shop, and in no other."""
    return server.bearing(make_token(db, "of shop", ["write"], ["shop"]))
