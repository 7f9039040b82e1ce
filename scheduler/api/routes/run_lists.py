"""Runs that there are: lists of them, one at a time, and what is done with one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from starlette.responses import Response

from scheduler.api import rows
from scheduler.api.kinds import LAST_ID
from scheduler.api.operation import Ask, Operation
from scheduler.api.paging import MORE, BeforeId, Limit, Next, page
from scheduler.api.problem import Problem
from scheduler.api.routes.job_actions import NewRun, made
from scheduler.errors import ConflictError
from scheduler.store import define, watch
from scheduler.why import Sight, explain

State = Literal["pending", "running", "succeeded", "failed", "cancelled"]


class Filters(msgspec.Struct, forbid_unknown_fields=True):
    state: Annotated[State | None, msgspec.Meta(description="Only in this state.")] = None
    job: Annotated[str | None, msgspec.Meta(description="Only of this job.")] = None
    queue: Annotated[str | None, msgspec.Meta(description="Only of this queue.")] = None
    before_id: BeforeId | None = None
    limit: Limit = 100


class Runs(msgspec.Struct):
    runs: list[rows.RunRow]
    next: Next


class Cancelled(msgspec.Struct):
    """`state` is `cancelled`; or `running`: its worker was told to stop it."""

    id: int
    state: Literal["cancelled", "running"]


async def list_runs(ask: Ask) -> Runs:
    return await _list(ask, among=ask.caller.among)


async def list_runs_of_app(ask: Ask) -> Runs:
    return await _list(ask, app=ask.path["app"])


async def _list(ask: Ask, **which: Any) -> Runs:
    query: Filters = ask.query
    async with ask.data.reading() as conn:
        found = await watch.runs(
            conn,
            **which,
            state=query.state,
            job=query.job,
            queue=query.queue,
            before=query.before_id,
            limit=query.limit + MORE,
        )
    shown, following = page(ask, found, before_id="id")
    return Runs(shown, following)


async def show_run(ask: Ask) -> rows.Run:
    async with ask.data.reading() as conn:
        run = await the_run(ask, conn)
        attempts = await watch.attempts(conn, run["app"], run["id"])
    row: rows.Run = {**run, "attempts": attempts}  # type: ignore[typeddict-item]
    return row


async def why_run(ask: Ask) -> rows.Why:
    async with ask.data.reading() as conn:
        sight = Sight(audit="admin" in ask.caller.scopes, others=ask.caller.apps is None)
        answer = await explain(conn, await the_run(ask, conn), dead_after=ask.settings.dead_after, sight=sight)
    row: rows.Why = answer.as_row()  # type: ignore[assignment]
    return row


async def cancel_run(ask: Ask) -> Cancelled:
    app, run = ask.path["app"], run_id(ask)
    async with ask.data.changing(ask.caller) as conn:
        if not await define.cancel(conn, app, run):
            ended = await the_run(ask, conn)
            raise ConflictError(f"run {run} of app {app} has ended: {ended['state']}")
        row = await the_run(ask, conn)
    return Cancelled(run, "cancelled" if row["state"] == "cancelled" else "running")


async def retry_run(ask: Ask) -> Response:
    run = run_id(ask)
    async with ask.data.changing(ask.caller) as conn:
        return made(ask, await define.retry(conn, ask.path["app"], run))


async def the_run(ask: Ask, conn: watch.Connection) -> dict[str, Any]:
    """The row of the run in the path. Problem 404."""
    found = await watch.run(conn, run_id(ask), app=ask.path["app"])
    if not found:
        raise _unknown(ask)
    return found[0]


def run_id(ask: Ask) -> int:
    """Of the path. Problem 404 for what is no number: there is no such run."""
    text = ask.path["run"]
    if not (text.isascii() and text.isdigit() and int(text[:20]) <= LAST_ID):
        raise _unknown(ask)
    return int(text)


def _unknown(ask: Ask) -> Problem:
    return Problem(404, f"there is no run {ask.path['run'][:40]} of app {ask.path['app']}")


OPERATIONS = (
    Operation(
        method="GET",
        path="/api/v1/runs",
        handle=list_runs,
        scope="read",
        summary="The runs of all apps in every state, the latest id first.",
        tag="runs",
        query=Filters,
        answer=Runs,
    ),
    Operation(
        method="GET",
        path="/api/v1/apps/{app}/runs",
        handle=list_runs_of_app,
        scope="read",
        summary="The runs of an app in every state, the latest id first.",
        tag="runs",
        query=Filters,
        answer=Runs,
    ),
    Operation(
        method="GET",
        path="/api/v1/apps/{app}/runs/{run}",
        handle=show_run,
        scope="read",
        summary="A run, its result or error, and every attempt that was made.",
        tag="runs",
        answer=rows.Run,
    ),
    Operation(
        method="GET",
        path="/api/v1/apps/{app}/runs/{run}/why",
        handle=why_run,
        scope="read",
        summary="Why a run has not started yet, or how it went.",
        tag="runs",
        answer=rows.Why,
    ),
    Operation(
        method="POST",
        path="/api/v1/apps/{app}/runs/{run}/cancel",
        handle=cancel_run,
        scope="write",
        summary="Cancel a pending or running run.",
        tag="runs",
        answer=Cancelled,
        errors=(409,),
    ),
    Operation(
        method="POST",
        path="/api/v1/apps/{app}/runs/{run}/retry",
        handle=retry_run,
        scope="write",
        summary="Run a finished run once more, as a new run.",
        tag="runs",
        answer=NewRun,
        status=201,
        errors=(409,),
    ),
)
