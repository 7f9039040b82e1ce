"""Definitions: lists of them, and one at a time, with the version that edits go by."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from starlette.responses import Response

from scheduler import foresight
from scheduler.api import etag, rows
from scheduler.api.definition import JobBody, NamedJobBody, defined
from scheduler.api.operation import JSON, Ask, Operation
from scheduler.api.paging import MORE, Limit, Next, page
from scheduler.api.problem import Problem
from scheduler.errors import ConflictError
from scheduler.store import define, watch

Row = dict[str, Any]


class AfterJob(msgspec.Struct, forbid_unknown_fields=True):
    after: Annotated[str, msgspec.Meta(description="Only jobs that sort after this one.")] = ""
    limit: Limit = 100


class AfterAppAndJob(msgspec.Struct, forbid_unknown_fields=True):
    after_app: Annotated[str, msgspec.Meta(description="Only jobs that sort after this app's …")] = ""
    after: Annotated[str, msgspec.Meta(description="… job of this name.")] = ""
    limit: Limit = 100


class Jobs(msgspec.Struct):
    jobs: list[rows.JobRow]
    next: Next


async def list_jobs(ask: Ask) -> Jobs:
    after = (ask.query.after_app, ask.query.after)
    async with ask.data.reading() as conn:
        found = await watch.jobs(conn, among=ask.caller.among, after=after, limit=ask.query.limit + MORE)
    shown, following = page(ask, await _foreseen(found), after_app="app", after="name")
    return Jobs(shown, following)


async def list_jobs_of_app(ask: Ask) -> Jobs:
    app = ask.path["app"]
    async with ask.data.reading() as conn:
        found = await watch.jobs(conn, app=app, after=(app, ask.query.after), limit=ask.query.limit + MORE)
    shown, following = page(ask, await _foreseen(found), after="name")
    return Jobs(shown, following)


async def show_job(ask: Ask) -> Response:
    async with ask.data.reading() as conn:
        row = await the_job(ask, conn)
    version = etag.of_row(row)
    if etag.is_known(ask.request.headers, version):
        return Response(status_code=304, headers={"ETag": version})
    return _answer(row, 200)


async def add_job(ask: Ask) -> Response:
    app, body = ask.path["app"], ask.body
    job = defined(app, body.name, body)
    async with ask.data.changing(ask.caller) as conn:
        if not await define.add_job(conn, job):
            raise ConflictError(f"app {app} has a job {body.name} already", hint="PUT to its address replaces it")
        row = await watch.job(conn, app, body.name)
    return _answer(row or {}, 201)


async def put_job(ask: Ask) -> Response:
    app, name = ask.path["app"], ask.path["job"]
    job = defined(app, name, ask.body)
    async with ask.data.changing(ask.caller) as conn:
        is_there = await _ensure_expected(ask, conn)
        if not await define.add_job(conn, job, replace=is_there):
            is_there = await _ensure_expected(ask, conn)  # somebody else added it in this moment
            await define.add_job(conn, job, replace=True)
        row = await watch.job(conn, app, name)
    return _answer(row or {}, 200 if is_there else 201)


async def remove_job(ask: Ask) -> Response:
    async with ask.data.changing(ask.caller) as conn:
        if await _ensure_expected(ask, conn):
            await define.remove_job(conn, ask.path["app"], ask.path["job"])
        else:
            raise unknown_job(ask)
    return Response(status_code=204)


async def the_job(ask: Ask, conn: watch.Connection) -> Row:
    """The row of the job in the path. Problem 404."""
    row = await watch.job(conn, ask.path["app"], ask.path["job"])
    if row is None:
        raise unknown_job(ask)
    return row


def unknown_job(ask: Ask) -> Problem:
    return Problem(404, f"there is no job {ask.path['job']} of app {ask.path['app']}")


async def _foreseen(found: list[Row]) -> list[Row]:
    """In a thread: a thousand expressions take 150 ms, which the heartbeat should not wait for.

    Without specs, as in the command line's list: they may hold what is not everybody's business.
    """
    return await asyncio.to_thread(
        lambda: [foresight.foreseen({key: value for key, value in row.items() if key != "spec"}) for row in found]
    )


async def _ensure_expected(ask: Ask, conn: watch.Connection) -> bool:
    """Whether it is there, which nobody changes from here on. Problem 412 when the caller expects something else."""
    app, name = ask.path["app"], ask.path["job"]
    row = await watch.job(conn, app, name) if await define.lock_job(conn, app, name) else None
    etag.ensure(ask.request.headers, etag.of_row(row) if row else None)
    return row is not None


def _answer(row: Row, status: int) -> Response:
    headers = {"ETag": etag.of_row(row)}
    if status == 201:  # noqa: PLR2004  Created
        app, name = quote(row["app"], safe=""), quote(row["name"], safe="")
        headers["Location"] = f"/api/v1/apps/{app}/jobs/{name}"
    return Response(msgspec.json.encode(foresight.foreseen(row)), status_code=status, headers=headers, media_type=JSON)


_EXAMPLE = {
    "executor": "http",
    "spec": {"url": "https://billing.example/close"},
    "schedule": "0 3 * * *",
    "timezone": "Europe/Berlin",
}

OPERATIONS = (
    Operation(
        method="GET",
        path="/api/v1/jobs",
        handle=list_jobs,
        scope="read",
        summary="The jobs of all apps, when each is due next, and how its last run ended.",
        tag="jobs",
        query=AfterAppAndJob,
        answer=Jobs,
    ),
    Operation(
        method="GET",
        path="/api/v1/apps/{app}/jobs",
        handle=list_jobs_of_app,
        scope="read",
        summary="The jobs of an app.",
        tag="jobs",
        query=AfterJob,
        answer=Jobs,
    ),
    Operation(
        method="POST",
        path="/api/v1/apps/{app}/jobs",
        handle=add_job,
        scope="write",
        summary="Add a job.",
        tag="jobs",
        body=NamedJobBody,
        answer=rows.Job,
        status=201,
        errors=(409,),
        example={"name": "nightly", **_EXAMPLE},
    ),
    Operation(
        method="GET",
        path="/api/v1/apps/{app}/jobs/{job}",
        handle=show_job,
        scope="read",
        summary="A job in full. Its ETag is the version of its definition; what moves by itself does not change it.",
        tag="jobs",
        answer=rows.Job,
        also=(304,),
        conditions=("If-None-Match",),
    ),
    Operation(
        method="PUT",
        path="/api/v1/apps/{app}/jobs/{job}",
        handle=put_job,
        scope="write",
        summary="Replace a job, or add it (201). With If-None-Match: * only add, with If-Match only that version.",
        tag="jobs",
        body=JobBody,
        answer=rows.Job,
        also=(201,),
        errors=(412,),
        conditions=("If-Match", "If-None-Match"),
        example=_EXAMPLE,
    ),
    Operation(
        method="DELETE",
        path="/api/v1/apps/{app}/jobs/{job}",
        handle=remove_job,
        scope="write",
        summary="Remove a job and what was planned for it. What runs goes on, and its history stays.",
        tag="jobs",
        status=204,
        errors=(412,),
        conditions=("If-Match",),
    ),
)
