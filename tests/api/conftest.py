"""The HTTP API on the test's own database, with a client for each of its doors."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.support.api import Client, make_token, served


@pytest.fixture
def root(db: psycopg.Connection) -> str:
    """A token that may do everything in all apps; there before the server, which makes one where there is none."""
    return make_token(db, "root", ["admin"])


@pytest.fixture
def server(dsn: str, root: str) -> Iterator[Client]:
    """A client without a token."""
    with served(dsn) as client:
        yield client


@pytest.fixture
def api(server: Client, root: str) -> Client:
    """A client that may do everything in all apps."""
    return server.bearing(root)
