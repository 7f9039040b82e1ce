"""What is done with a job: pause it, run it now, and look at its coming instants."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
from starlette.responses import Response

from scheduler import foresight
from scheduler.api import rows
from scheduler.api.kinds import SCHEDULE, ZONE, Instant
from scheduler.api.operation import JSON, Ask, Operation
from scheduler.api.problem import Problem
from scheduler.api.routes.apps import Changed
from scheduler.api.routes.jobs import the_job
from scheduler.errors import SchedulerError
from scheduler.model import encode_spec
from scheduler.store import define, watch

Count = Annotated[int, msgspec.Meta(ge=1, le=1_000, description="How many instants.")]
From = Annotated[Instant, msgspec.Meta(description="The instants later than this; default now.")]


class Window(msgspec.Struct, forbid_unknown_fields=True):
    count: Count = 20
    start: From | None = msgspec.field(default=None, name="from")


class Imagined(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    schedule: Annotated[str, SCHEDULE]
    timezone: Annotated[str, ZONE] = "UTC"
    dst_gap: Literal["after", "skip"] = "after"
    dst_fold: Literal["first", "second", "both"] = "first"
    count: Count = 20
    start: From | None = msgspec.field(default=None, name="from")


class Instants(msgspec.Struct):
    instants: list[rows.Instant]


class Trigger(msgspec.Struct, forbid_unknown_fields=True):
    """`spec` is laid over the job's own: environments and arguments are merged, commands joined."""

    spec: dict[str, Any] | None = None


class NewRun(msgspec.Struct):
    """A run that was made. It is at `/api/v1/apps/{app}/runs/{id}`."""

    id: int


async def pause_job(ask: Ask) -> Changed:
    async with ask.data.changing(ask.caller) as conn:
        return Changed(await define.pause(conn, ask.path["app"], ask.path["job"]))


async def resume_job(ask: Ask) -> Changed:
    async with ask.data.changing(ask.caller) as conn:
        return Changed(await define.resume(conn, ask.path["app"], ask.path["job"]))


async def trigger_job(ask: Ask) -> Response:
    laid = ask.body.spec if ask.body is not None else None
    spec = None if laid is None else encode_spec(laid)
    async with ask.data.changing(ask.caller) as conn:
        run = await define.trigger(conn, ask.path["app"], ask.path["job"], spec)
    return made(ask, run)


def made(ask: Ask, run: int) -> Response:
    """201, with the run's address."""
    location = f"/api/v1/apps/{quote(ask.path['app'], safe='')}/runs/{run}"
    body = msgspec.json.encode(NewRun(run))
    return Response(body, status_code=201, headers={"Location": location}, media_type=JSON)


async def preview_job(ask: Ask) -> Instants:
    async with ask.data.reading() as conn:
        row = await the_job(ask, conn)
    if row["schedule"] is None:
        raise Problem(409, f"job {ask.path['job']} of app {ask.path['app']} has no schedule: it runs on demand")
    return await _instants(row, ask.query)


async def preview_schedule(ask: Ask) -> Instants:
    query: Imagined = ask.query
    async with ask.data.reading() as conn:
        now = await watch.clock(conn)
    row = foresight.imagined(query.schedule, query.timezone, query.dst_gap, query.dst_fold, now=now)
    row["anchor_at"] = query.start or now
    return await _instants(row, query)


async def _instants(row: dict[str, Any], query: Window | Imagined) -> Instants:
    try:  # in a thread: a thousand take 150 ms, which the heartbeat should not wait for
        found = await asyncio.to_thread(foresight.instants, row, count=query.count, after=query.start)
    except SchedulerError as error:  # a schedule that came by plain SQL
        raise Problem(409, str(error.args[0]), hint=error.hint) from error
    return Instants([at.isoformat().replace("+00:00", "Z") for at in found])


OPERATIONS = (
    Operation(
        method="POST",
        path="/api/v1/apps/{app}/jobs/{job}/pause",
        handle=pause_job,
        scope="write",
        summary="Pause a job: nothing more of it starts; what runs goes on to its end.",
        tag="jobs",
        answer=Changed,
    ),
    Operation(
        method="POST",
        path="/api/v1/apps/{app}/jobs/{job}/resume",
        handle=resume_job,
        scope="write",
        summary="End a job's pause. Instants that passed meanwhile are not made up for.",
        tag="jobs",
        answer=Changed,
    ),
    Operation(
        method="POST",
        path="/api/v1/apps/{app}/jobs/{job}/trigger",
        handle=trigger_job,
        scope="write",
        summary="Run a job now, whatever its schedule says.",
        tag="jobs",
        body=Trigger,
        body_may_lack=True,
        answer=NewRun,
        status=201,
        example={"spec": {"headers": {"X-Reason": "by hand"}}},
    ),
    Operation(
        method="GET",
        path="/api/v1/apps/{app}/jobs/{job}/preview",
        handle=preview_job,
        scope="read",
        summary="The coming instants of a job. 409 for one that has no schedule that can be followed.",
        tag="jobs",
        query=Window,
        answer=Instants,
        errors=(409,),
    ),
    Operation(
        method="GET",
        path="/api/v1/preview",
        handle=preview_schedule,
        scope="read",
        summary="The coming instants of any schedule.",
        tag="jobs",
        query=Imagined,
        answer=Instants,
    ),
)
