"""A fleet of worker processes on the test's own database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.fleet import Fleet


@pytest.fixture
def fleet(dsn: str, db: psycopg.Connection, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(dsn, db, tmp_path)
    yield fleet
    fleet.end()


@pytest.fixture
def test_seconds() -> float:
    """How long a test that could go on for ever does."""
    return float(os.environ.get("SCHEDULER_TEST_SECONDS", "20"))
