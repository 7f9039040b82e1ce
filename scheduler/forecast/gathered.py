"""What a forecast is made of, read a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from scheduler.errors import ConflictError
from scheduler.store import watch

Row = dict[str, Any]

PAGE = 500
"""Jobs to a statement: it looks for the last attempts of each in every day's partition, and has 10 s."""
ATTEMPTS = 20
"""The last so many attempts of a job tell how long its runs take."""
_WORKERS = 10_000


@dataclass(frozen=True, slots=True)
class Gathered:
    """`now`: when the first page was read, by the database's clock. `workers`: alive, for one of the apps."""

    now: datetime
    jobs: list[Row]
    workers: list[Row]


async def gather(
    conn: watch.Connection, apps: Sequence[str] | None = None, *, dead_after: float, most: int | None = None
) -> Gathered:
    """Of these apps; None: of all. ConflictError when they have more than `most` jobs."""
    now = await watch.clock(conn)
    jobs: list[Row] = []
    for app in [None] if apps is None else dict.fromkeys(apps):
        place = (app or "", "")
        while True:
            page = await watch.prospects(conn, app=app, after=place, attempts=ATTEMPTS, limit=PAGE)
            jobs += page
            if most is not None and len(jobs) > most:
                raise ConflictError(
                    f"there are more than {most:,} jobs", hint="ask for one app, or on the command line"
                )
            if len(page) < PAGE:
                break
            place = (page[-1]["app"], page[-1]["name"])
    workers = await watch.workers(conn, dead_after=dead_after, limit=_WORKERS)
    return Gathered(now, jobs, [one for one in workers if one["state"] == "alive" and _serves(one["apps"], apps)])


def _serves(served: Sequence[str] | None, apps: Sequence[str] | None) -> bool:
    return served is None or apps is None or not set(apps).isdisjoint(served)
