"""What a forecast is made of, read a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from scheduler.store import watch

Row = dict[str, Any]

PAGE = 500
"""Jobs to a statement: it looks for the last attempts of each in every day's partition, and has 10 s."""
ATTEMPTS = 20
"""The last so many attempts of a job tell how long its runs take."""
_WORKERS = 10_000


@dataclass(frozen=True, slots=True)
class Gathered:
    """`now`: when the first page was read, by the database's clock. `workers`: those that are alive."""

    now: datetime
    jobs: list[Row]
    workers: list[Row]


async def gather(conn: watch.Connection, apps: Sequence[str] = (), *, dead_after: float) -> Gathered:
    """Of these apps, or of all."""
    now = await watch.clock(conn)
    jobs: list[Row] = []
    for app in dict.fromkeys(apps) or [None]:
        place = (app or "", "")
        while True:
            page = await watch.prospects(conn, app=app, after=place, attempts=ATTEMPTS, limit=PAGE)
            jobs += page
            if len(page) < PAGE:
                break
            place = (page[-1]["app"], page[-1]["name"])
    workers = await watch.workers(conn, dead_after=dead_after, limit=_WORKERS)
    return Gathered(now, jobs, [worker for worker in workers if worker["state"] == "alive"])
