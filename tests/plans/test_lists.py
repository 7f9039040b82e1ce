"""Lists read a page by its key, however long the history is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from scheduler.store import watch

HISTORY = """
    insert into scheduler.history (app, queue, id, executor, spec, outcome, attempt, priority, max_attempts, run_at,
        finished_at)
    select 'app ' || i % 3, 'default', i, 'x', '{}', 'succeeded', 1, 0, 3, now(), now() from generate_series(1, 30000) i
"""
PARAMETERS = {
    "app": "app 1",
    "state": None,
    "job": None,
    "queue": None,
    "before": 20_000,
    "limit": 10,
    "run": 15_000,
    "after": "",
    "counted": watch.COUNTED,
}


def rows_read(plan: dict[str, Any]) -> Iterator[int]:
    """Of each node, those that it gave and those that it read in vain."""
    yield int(plan["Actual Rows"]) + int(plan.get("Rows Removed by Filter", 0))
    for inner in plan.get("Plans", []):
        yield from rows_read(inner)


@pytest.mark.parametrize(
    "query",
    [
        watch._THIS_APP + watch._RUNS,
        watch._APPS + watch._RUNS,
        watch._APPS + watch._RUN,
        watch._APPS + "," + watch._LANES + watch._HELD + watch._APP_ROWS,
    ],
    ids=["runs of an app", "runs", "run", "apps"],
)
def test_a_page_is_read_by_its_key(db: psycopg.Connection, query: str) -> None:
    db.execute(HISTORY)
    db.execute("analyze scheduler.history")
    (report,) = db.execute(f"explain (analyze, format json) {query}".encode(), PARAMETERS).fetchone() or ([],)
    assert max(rows_read(report[0]["Plan"])) <= 100
