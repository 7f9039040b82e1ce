"""What the planner will do in the coming hours or days, as it is and as it is only supposed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

import msgspec
from starlette.responses import Response

from scheduler.api import rows
from scheduler.api.kinds import SCHEDULE, LongName, Name
from scheduler.api.operation import JSON, Ask, Operation
from scheduler.api.problem import RETRY_AFTER, Problem
from scheduler.forecast import Change, changed, ensure_known, gather
from scheduler.forecast.apart import UnfinishedError, forecast_apart

MOST_JOBS = 10_000
"""Of one forecast; on the command line, which computes on the caller's machine, there may be any number."""
Hours = Annotated[int, msgspec.Meta(ge=1, le=720, description="How far ahead.")]
# Each looks at every job: a thousand of them took longer than all else.
Peaks = Annotated[int, msgspec.Meta(ge=0, le=100, description="Minutes with the most fires to be told.")]
Schedule = Annotated[str, SCHEDULE]


class Window(msgspec.Struct, forbid_unknown_fields=True):
    hours: Hours = 24
    peaks: Peaks = 5


class SupposedJob(msgspec.Struct, forbid_unknown_fields=True):
    """As if the job had this schedule, or were new; `schedule` null: as if it were removed."""

    job: LongName
    schedule: Schedule | None


class SupposedJobOfApp(SupposedJob):
    """As if the job had this schedule, or were new; `schedule` null: as if it were removed."""

    app: Name


class Supposed(Window, kw_only=True):
    suppositions: Annotated[list[SupposedJob], msgspec.Meta(min_length=1, max_length=100)]


class SupposedOfApps(Window, kw_only=True):
    suppositions: Annotated[list[SupposedJobOfApp], msgspec.Meta(min_length=1, max_length=100)]


class Jobs(TypedDict):
    """How many fire within the span, and how many do not, and why."""

    firing: int
    paused: int
    on_demand: int
    invalid: int
    over: int


class Fires(TypedDict):
    app: str
    fires: int


class Share(TypedDict):
    """Of a peak."""

    app: str
    job: str
    fires: int
    estimated: bool


class Peak(TypedDict):
    minute: rows.Instant
    fires: int
    jobs: int
    largest: list[Share]


class Overlap(TypedDict):
    """A job whose runs will meet its next fires, if they take the median of the last, or their p95."""

    app: str
    job: str
    schedule: str
    overlap: str
    fires: int
    overlapping: int
    overlapping_at_p95: int
    median: rows.Seconds
    p95: rows.Seconds


class Together(TypedDict):
    """All queues: `minutes` with more runs than slots."""

    slots: int
    minutes: int
    most: int
    most_at: rows.Instant | None


class Exceeded(TypedDict):
    """A queue with more to run than may run, in so many `minutes`."""

    app: str
    queue: str
    slots: int
    concurrency_limit: int | None
    rate_per_minute: float | None
    minutes: int
    first_at: rows.Instant
    most: int
    most_at: rows.Instant | None


class Invalid(TypedDict):
    app: str
    job: str
    error: str


class Outlook(TypedDict):
    """`per_minute`: the fires of each minute from `start` on. docs/forecast.md says what it rests on."""

    now: rows.Instant
    start: rows.Instant
    end: rows.Instant
    fires: int
    jobs: Jobs
    late: int
    estimated: int
    unjittered: int
    without_history: int
    apps: list[Fires]
    peaks: list[Peak]
    overlapping_jobs: int
    overlaps: list[Overlap]
    together: Together
    exceeded_queues: int
    exceeded: list[Exceeded]
    invalid: list[Invalid]
    per_minute: list[int]


class ChangedFires(TypedDict):
    """Null: the job is not there."""

    app: str
    job: str
    schedule: str | None
    before: int | None
    after: int | None


class Comparison(TypedDict):
    changes: list[ChangedFires]
    before: Outlook
    after: Outlook


async def forecast(ask: Ask) -> Response:
    return await _told(ask, ask.query)


async def forecast_app(ask: Ask) -> Response:
    return await _told(ask, ask.query, app=ask.path["app"])


async def suppose(ask: Ask) -> Response:
    for one in ask.body.suppositions:
        ask.caller.ensure_reaches(one.app)
    return await _told(ask, ask.body, [Change(one.app, one.job, one.schedule) for one in ask.body.suppositions])


async def suppose_in_app(ask: Ask) -> Response:
    app = ask.path["app"]
    return await _told(ask, ask.body, [Change(app, one.job, one.schedule) for one in ask.body.suppositions], app=app)


async def _told(ask: Ask, window: Window, changes: Sequence[Change] = (), *, app: str | None = None) -> Response:
    named = None if app is None else [app]
    async with ask.data.forecasting.turn():
        async with ask.data.reading() as conn:
            gathered = await gather(conn, named or ask.caller.among, dead_after=ask.settings.dead_after, most=MOST_JOBS)
        ensure_known(gathered.jobs, changes, named)
        changed(gathered.jobs, changes, gathered.now)  # so that a bad schedule is refused here
        try:
            told = await forecast_apart(
                gathered,
                60 * window.hours,
                changes=changes,
                peaks=window.peaks,
                pulse_below=ask.settings.pulse_below,
                ending=ask.data.ending,
            )
        except UnfinishedError as error:
            raise Problem(503, str(error), headers={"Retry-After": RETRY_AFTER}) from error
    return Response(told, media_type=JSON)


_SUPPOSED: dict[str, Any] = {"job": "nightly", "schedule": "0 */6 * * *"}

OPERATIONS = (
    Operation(
        method="GET",
        path="/api/v1/forecast",
        handle=forecast,
        scope="read",
        summary="What the planner will do with the jobs of all apps, of up to 10,000.",
        tag="forecast",
        query=Window,
        answer=Outlook,
        errors=(409,),
    ),
    Operation(
        method="POST",
        path="/api/v1/forecast",
        handle=suppose,
        scope="read",
        summary="What the planner would do, if some jobs had other schedules, were new, or were gone.",
        tag="forecast",
        body=SupposedOfApps,
        answer=Comparison,
        errors=(404, 409),
        example={"hours": 24, "suppositions": [{"app": "billing", **_SUPPOSED}]},
    ),
    Operation(
        method="GET",
        path="/api/v1/apps/{app}/forecast",
        handle=forecast_app,
        scope="read",
        summary="What the planner will do with the jobs of an app. 404 for one without any.",
        tag="forecast",
        query=Window,
        answer=Outlook,
        errors=(409,),
    ),
    Operation(
        method="POST",
        path="/api/v1/apps/{app}/forecast",
        handle=suppose_in_app,
        scope="read",
        summary="What the planner would do with an app's jobs, if some had other schedules, were new, or were gone.",
        tag="forecast",
        body=Supposed,
        answer=Comparison,
        errors=(409,),
        example={"hours": 24, "suppositions": [_SUPPOSED]},
    ),
)
