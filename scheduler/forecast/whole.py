"""From what was read to what is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scheduler.forecast.change import Change, changed
from scheduler.forecast.gathered import Gathered
from scheduler.forecast.minutes import Span
from scheduler.forecast.outlook import outlook
from scheduler.forecast.prospect import Prospect, Prospects

Row = dict[str, Any]


def forecast(
    gathered: Gathered, minutes: int, *, changes: Sequence[Change] = (), peaks: int, pulse_below: float
) -> Row:
    """The outlook on so many minutes; with changes that `before`, that `after`, and the fires of each changed job.

    ScheduleError when one of the changes has a bad schedule.
    """
    span = Span(gathered.now, minutes)
    prospects = Prospects(span, pulse_below=pulse_below)
    supposed = changed(gathered.jobs, changes, gathered.now)
    before = {id(row): prospects.of(row) for row in gathered.jobs}
    told = outlook(list(before.values()), span, gathered.workers, peaks=peaks)
    if not changes:
        return told
    after = [before.get(id(row)) or prospects.of(row) for row in supposed]
    fires_before, fires_after = _fires(list(before.values())), _fires(after)
    return {
        "changes": [
            {
                "app": app,
                "job": job,
                "schedule": schedule,
                "before": fires_before.get((app, job)),
                "after": fires_after.get((app, job)),
            }
            for (app, job), schedule in {(one.app, one.job): one.schedule for one in changes}.items()
        ],
        "before": told,
        "after": outlook(after, span, gathered.workers, peaks=peaks),
    }


def _fires(found: Sequence[Prospect]) -> dict[tuple[str, str], int]:
    return {(one.row["app"], one.row["name"]): one.fires for one in found}
