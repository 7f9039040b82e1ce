"""Alarms: who is told when something goes wrong, how each stands, its silence and its test."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, TypedDict
from urllib.parse import quote

import msgspec
from starlette.responses import Response

from scheduler.api import etag, rows
from scheduler.api.alarm import AlarmBody, defined
from scheduler.api.kinds import CENTURY, Instant
from scheduler.api.operation import JSON, Ask, Operation
from scheduler.api.paging import MORE, Limit, Next, page
from scheduler.api.problem import Problem
from scheduler.errors import InvalidError
from scheduler.store import alarm as store
from scheduler.store import watch

Row = dict[str, Any]
Firing = Annotated[bool, msgspec.Meta(description="Only those that fire.")]


class Alarm(TypedDict):
    """A rule, and how it stands. `since_at`: it fires since then. `told_at`: a notice said so first. `hits`: what has
    happened since, but for what is not settled yet; `latest`: the last of it.
    """

    app: str
    name: str
    kind: str
    job: str | None
    times: int
    within: rows.Seconds | None
    channels: list[dict[str, Any]]
    gather: rows.Seconds | None
    pause: rows.Seconds | None
    repeat: rows.Seconds | None
    silence_ends_at: rows.Instant | None
    created_at: rows.Instant
    state: str
    since_at: rows.Instant | None
    told_at: rows.Instant | None
    last_told_at: rows.Instant | None
    hits: int | None
    latest: Any


class AfterAlarm(msgspec.Struct, forbid_unknown_fields=True):
    firing: Firing = False
    after: Annotated[str, msgspec.Meta(description="Only alarms that sort after this one.")] = ""
    limit: Limit = 100


class AfterAppAndAlarm(msgspec.Struct, forbid_unknown_fields=True):
    firing: Firing = False
    after_app: Annotated[str, msgspec.Meta(description="Only alarms that sort after this app's …")] = ""
    after: Annotated[str, msgspec.Meta(description="… alarm of this name.")] = ""
    limit: Limit = 100


class Alarms(msgspec.Struct):
    alarms: list[Alarm]
    next: Next


class Silence(msgspec.Struct, forbid_unknown_fields=True):
    """One of the two."""

    seconds: Annotated[float, msgspec.Meta(ge=1, le=CENTURY, description="For so long, from now.")] | None = None
    until: Instant | None = None


class Notice(TypedDict):
    """`run` is one of the app `_alarms`, and says what became of it."""

    channel: str
    run: int


class Notices(msgspec.Struct):
    notices: list[Notice]


async def list_alarms(ask: Ask) -> Alarms:
    after = (ask.query.after_app, ask.query.after)
    return await _list(ask, {"after_app": "app", "after": "name"}, among=ask.caller.among, after=after)


async def list_alarms_of_app(ask: Ask) -> Alarms:
    app = ask.path["app"]
    return await _list(ask, {"after": "name"}, app=app, after=(app, ask.query.after))


async def _list(ask: Ask, key: dict[str, str], **which: Any) -> Alarms:
    async with ask.data.reading() as conn:
        found = await store.alarms(conn, **which, firing=ask.query.firing, limit=ask.query.limit + MORE)
    return Alarms(*page(ask, found, **key))


async def show_alarm(ask: Ask) -> Response:
    async with ask.data.reading() as conn:
        row = await _the_alarm(ask, conn)
    version = etag.of_row(row)
    if etag.is_known(ask.request.headers, version):
        return Response(status_code=304, headers={"ETag": version})
    return _answer(row, 200)


async def put_alarm(ask: Ask) -> Response:
    alarm = defined(ask.path["app"], ask.path["alarm"], ask.body)
    async with ask.data.changing(ask.caller) as conn:
        is_there = await _ensure_expected(ask, conn)
        if not await store.add_alarm(conn, alarm, replace=is_there):
            is_there = await _ensure_expected(ask, conn)  # somebody else added it in this moment
            await store.add_alarm(conn, alarm, replace=True)
        row = await _the_alarm(ask, conn)
    return _answer(row, 200 if is_there else 201)


async def remove_alarm(ask: Ask) -> Response:
    async with ask.data.changing(ask.caller) as conn:
        if not await _ensure_expected(ask, conn):
            raise _unknown(ask)
        await store.remove_alarm(conn, ask.path["app"], ask.path["alarm"])
    return Response(status_code=204)


async def silence_alarm(ask: Ask) -> Response:
    body: Silence = ask.body
    if (body.seconds is None) == (body.until is None):
        raise InvalidError("one of seconds and until is needed", hint="DELETE ends the silence")
    async with ask.data.changing(ask.caller) as conn:
        until = body.until
        if body.seconds is not None:  # by the database's clock, which is the one that ends it
            until = await watch.clock(conn) + timedelta(seconds=body.seconds)
        await store.silence_alarm(conn, ask.path["app"], ask.path["alarm"], until)
        return _answer(await _the_alarm(ask, conn), 200)


async def end_silence(ask: Ask) -> Response:
    async with ask.data.changing(ask.caller) as conn:
        await store.silence_alarm(conn, ask.path["app"], ask.path["alarm"], None)
        return _answer(await _the_alarm(ask, conn), 200)


async def test_alarm(ask: Ask) -> Notices:
    async with ask.data.changing(ask.caller) as conn:
        sent: list[Any] = await store.test_alarm(conn, ask.path["app"], ask.path["alarm"])
    return Notices(sent)


async def _the_alarm(ask: Ask, conn: store.Connection) -> Row:
    row = await store.alarm(conn, ask.path["app"], ask.path["alarm"])
    if row is None:
        raise _unknown(ask)
    return row


async def _ensure_expected(ask: Ask, conn: store.Connection) -> bool:
    """Whether it is there, which nobody changes from here on. Problem 412 when the caller expects something else."""
    app, name = ask.path["app"], ask.path["alarm"]
    row = await store.alarm(conn, app, name) if await store.lock_alarm(conn, app, name) else None
    etag.ensure(ask.request.headers, etag.of_row(row) if row else None)
    return row is not None


def _unknown(ask: Ask) -> Problem:
    return Problem(404, f"there is no alarm {ask.path['alarm']} in app {ask.path['app']}")


def _answer(row: Row, status: int) -> Response:
    headers = {"ETag": etag.of_row(row)}
    if status == 201:  # noqa: PLR2004  Created
        app, name = quote(row["app"], safe=""), quote(row["name"], safe="")
        headers["Location"] = f"/api/v1/apps/{app}/alarms/{name}"
    return Response(msgspec.json.encode(row), status_code=status, headers=headers, media_type=JSON)


_ALARM = "/api/v1/apps/{app}/alarms/{alarm}"

OPERATIONS = (
    Operation(
        method="GET",
        path="/api/v1/alarms",
        handle=list_alarms,
        scope="read",
        summary="The alarms of all apps, and how each stands: `quiet`, `firing` or `silenced`.",
        tag="alarms",
        query=AfterAppAndAlarm,
        answer=Alarms,
    ),
    Operation(
        method="GET",
        path="/api/v1/apps/{app}/alarms",
        handle=list_alarms_of_app,
        scope="read",
        summary="The alarms of an app.",
        tag="alarms",
        query=AfterAlarm,
        answer=Alarms,
    ),
    Operation(
        method="GET",
        path=_ALARM,
        handle=show_alarm,
        scope="read",
        summary="An alarm in full. Its ETag is the version of its rule, and of its silence.",
        tag="alarms",
        answer=Alarm,
        also=(304,),
        conditions=("If-None-Match",),
    ),
    Operation(
        method="PUT",
        path=_ALARM,
        handle=put_alarm,
        scope="write",
        summary="Replace an alarm, or add it (201). With If-None-Match: * only add, with If-Match only that version.",
        tag="alarms",
        body=AlarmBody,
        answer=Alarm,
        also=(201,),
        errors=(412,),
        conditions=("If-Match", "If-None-Match"),
        example={
            "kind": "failed",
            "job": "nightly",
            "channels": [
                {"channel": "slack", "url": "${secret:slack-url}"},
                {"channel": "email", "to": ["ops@example.com"]},
            ],
        },
    ),
    Operation(
        method="DELETE",
        path=_ALARM,
        handle=remove_alarm,
        scope="write",
        summary="Remove an alarm. Nobody is told that it is over.",
        tag="alarms",
        status=204,
        errors=(412,),
        conditions=("If-Match",),
    ),
    Operation(
        method="PUT",
        path=f"{_ALARM}/silence",
        handle=silence_alarm,
        scope="write",
        summary="Have an alarm say nothing for a while. If it fires at the end of it, it is told then.",
        tag="alarms",
        body=Silence,
        answer=Alarm,
        example={"seconds": 7200},
    ),
    Operation(
        method="DELETE",
        path=f"{_ALARM}/silence",
        handle=end_silence,
        scope="write",
        summary="Have an alarm speak again.",
        tag="alarms",
        answer=Alarm,
    ),
    Operation(
        method="POST",
        path=f"{_ALARM}/test",
        handle=test_alarm,
        scope="write",
        summary="Send a test over each channel. The runs that carry it, of the app `_alarms`, say what becomes of it.",
        tag="alarms",
        answer=Notices,
        status=201,
    ),
)
