"""Channels: events and jobs that publish events, as clients of Distribuerad expect them.

A channel is an app, and there once somebody says its name; an event is a run of the executor `event`, which waits for a
client; a channel's job is a job with that executor.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from starlette.responses import Response

from scheduler.api.kinds import SCHEDULE, LongName
from scheduler.api.operation import Ask, Operation
from scheduler.api.problem import Problem
from scheduler.cron import parse_duration
from scheduler.errors import ScheduleError
from scheduler.model import NewJob, encode_spec
from scheduler.store import channel, define

TTL = timedelta(minutes=10)
LOCK_TTL = timedelta(minutes=1)
LISTED = 10_000
_MOST_NAME = 100
_NOTHING = re.compile(r"[+-]?0|[+-]?(0+(\.0+)?(us|ms|s|m|h))+")  # Go's zero, which stands for the default
_ID = re.compile(r"[0-9]{1,18}", re.ASCII)

Limit = Annotated[int, msgspec.Meta(ge=1, le=LISTED, description="How many at most.")]
After = Annotated[str, msgspec.Meta(description="Behind this place, the `next` of a list.")]
Ttl = Annotated[str, msgspec.Meta(description="Like 1h30m10s.", extra_json_schema={"format": "go-duration"})]
_Instant = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]


class NewEvent(msgspec.Struct, rename="camel"):
    """`publishAt` in ISO 8601 (absent: now), `ttl` like 1h30m10s (absent: 10m)."""

    data: str | None = None
    publish_at: _Instant | None = None
    ttl: Ttl | None = None


class Event(msgspec.Struct, rename="camel"):
    event_id: str = msgspec.field(name="eventID")
    published_at: str
    data: str
    lives_until: str
    is_locked: bool


class Events(msgspec.Struct, rename="camel", omit_defaults=True):
    """`next`: there may be more, behind this value of `after`."""

    channel_name: str
    count: int
    events: list[Event]
    next: str | None = None


class Page(msgspec.Struct):
    limit: Limit = LISTED
    after: After | None = None


class Act(msgspec.Struct):
    """`ttl`: how long the lock lasts, like 30s (absent: 1m)."""

    action: Literal["LOCK", "UNLOCK"] | None = "LOCK"
    ttl: Ttl | None = None


class NewChannelJob(msgspec.Struct, rename="camel"):
    """`cronDef`: five cron fields, @daily and the like, or @every 1h30m10s; with CRON_TZ=Zone before it if need be."""

    name: LongName
    cron_def: Annotated[str, SCHEDULE]
    data: str | None = None
    ttl: Ttl | None = None


class ChannelJob(msgspec.Struct, rename="camel"):
    """`ttl` in nanoseconds, as Go writes a duration."""

    job_id: str = msgspec.field(name="jobID")
    cron: str
    data: str
    ttl: int
    created_at: str


class ChannelJobs(msgspec.Struct, rename="camel", omit_defaults=True):
    channel_name: str
    jobs: list[ChannelJob]
    next: str | None = None


async def publish_event(ask: Ask) -> Event:
    body: NewEvent = ask.body
    name, publish_at, ttl = _channel(ask), _instant(body.publish_at, "publishAt"), _duration(body.ttl)
    encode_spec({"data": body.data or "", "ttl": _text(ttl)}, "data")
    async with ask.data.inserting() as conn:
        found = await channel.publish_event(conn, name, body.data or "", ttl=_text(ttl), publish_at=publish_at)
    return _event(found)


async def list_events(ask: Ask) -> Events:
    name = _channel(ask)
    async with ask.data.reading() as conn:
        found = await channel.list_events(conn, name, limit=ask.query.limit, after=_place(ask.query.after))
    last = f"{found[-1].published_at},{found[-1].id}" if found and found[-1].has_more else None
    return Events(name, len(found), [_event(one) for one in found], last)


async def lock_event(ask: Ask) -> Response:
    name, event, ttl = _channel(ask), _id(ask), _duration(ask.body.ttl, LOCK_TTL)
    headers = {}
    async with ask.data.inserting() as conn:
        if ask.body.action == "UNLOCK":
            is_done = event is not None and await channel.unlock_event(conn, name, event)
        else:
            fence = None if event is None else await channel.lock_event(conn, name, event, ttl)
            is_done = fence is not None
            headers = {"Scheduler-Fence": str(fence)}
    if not is_done:
        raise Problem(410, f"event {ask.path['event'][:60]} is locked, or gone")
    return Response(status_code=202, headers=headers)


async def patch_event(ask: Ask) -> Response:
    return await lock_event(ask)


async def delete_event(ask: Ask) -> Response:
    name, event = _channel(ask), _id(ask)
    async with ask.data.inserting() as conn:
        if event is None or not await channel.end_event(conn, name, event):
            raise Problem(404, f"there is no event {ask.path['event'][:60]}; maybe it has been picked up already")
    return Response(status_code=202)


async def add_channel_job(ask: Ask) -> ChannelJob:
    body: NewChannelJob = ask.body
    ttl = _duration(body.ttl)
    data = body.data or ""
    job = NewJob(
        app=_channel(ask),
        name=body.name,
        executor="event",
        spec=encode_spec({"data": data, "ttl": _text(ttl)}, "data"),
        schedule=body.cron_def,
        overlap="allow",  # the event before may wait for its client, or lie there until it expires
        misfire_grace=ttl,  # what would have expired is not published any more
    )
    async with ask.data.changing(ask.caller) as conn:
        if not await define.add_job(conn, job):
            raise Problem(409, f"the job {body.name[:60]} is there already")
        found = await channel.list_jobs(conn, job.app, limit=1, name=job.name)
    return _job(found[0])


async def list_channel_jobs(ask: Ask) -> ChannelJobs:
    name = _channel(ask)
    async with ask.data.reading() as conn:
        found = await channel.list_jobs(conn, name, limit=ask.query.limit, after=ask.query.after or "")
    return ChannelJobs(name, [_job(one) for one in found], found[-1].name if len(found) == ask.query.limit else None)


async def remove_channel_job(ask: Ask) -> Response:
    async with ask.data.changing(ask.caller) as conn:
        if not await channel.remove_job(conn, _channel(ask), ask.path["job"]):
            raise Problem(404, f"there is no job {ask.path['job'][:60]}")
    return Response(status_code=202)


def _channel(ask: Ask) -> str:
    name = ask.path["app"]
    if len(name) > _MOST_NAME:
        raise Problem(400, f"the channel's name has {len(name)} characters, at most {_MOST_NAME}")
    return name


def _id(ask: Ask) -> int | None:
    """None for what is no event's id."""
    text = ask.path["event"]
    return int(text) if _ID.fullmatch(text) else None


def _duration(text: str | None, otherwise: timedelta = TTL) -> timedelta:
    """Of a ttl as Go writes it; nothing is the default."""
    if not text or _NOTHING.fullmatch(text):
        return otherwise
    try:
        return parse_duration(text.removeprefix("+").replace("µs", "us").replace("μs", "us"))
    except ScheduleError as error:
        raise Problem(400, f"ttl: {error.args[0]}", hint=error.hint) from None


def _text(ttl: timedelta) -> str:
    """As `scheduler.event_ttl` reads it."""
    whole, rest = divmod(ttl, timedelta(seconds=1))
    return f"{whole}.{rest.microseconds:06}".rstrip("0").rstrip(".") + "s" if rest else f"{whole}s"


def _instant(text: str | None, what: str) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        hint = "ISO 8601, like 2026-03-01T12:00:00Z"
        raise Problem(400, f"{what} {text[:60]!r} is no instant", hint=hint) from None
    if found.year == 1:  # Go's zero, which its clients send for no instant
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _place(after: str | None) -> tuple[datetime, int] | None:
    if after is None:
        return None
    at, _, number = after.rpartition(",")
    instant = _instant(at, "after")
    if instant is None or not _ID.fullmatch(number):
        raise Problem(400, "after is not the `next` of a list")
    return instant, int(number)


def _event(one: channel.Event) -> Event:
    return Event(str(one.id), one.published_at, one.data, one.lives_until, one.is_locked)


def _job(one: channel.ChannelJob) -> ChannelJob:
    return ChannelJob(one.name, one.schedule, one.data, one.ttl * 1_000, one.created_at)


def _operation(method: str, path: str, handle: Any, summary: str, **more: Any) -> Operation:
    return Operation(
        method=method,
        path=f"/{{app}}/{path}",
        handle=handle,
        scope="read" if method == "GET" else "write",
        summary=summary,
        tag="channels",
        media=(),  # its clients say what they like
        **more,
    )


_LOCK: dict[str, Any] = {"body": Act, "example": {"action": "LOCK", "ttl": "1m"}, "status": 202, "errors": (410,)}
_DELETE: dict[str, Any] = {"status": 202}
OPERATIONS: Sequence[Operation] = (
    _operation(
        "POST",
        "events",
        publish_event,
        "Publish an event.",
        body=NewEvent,
        answer=Event,
        status=201,
        example={"data": "order 42 was paid", "ttl": "10m"},
    ),
    _operation("GET", "events", list_events, "The channel's events.", query=Page, answer=Events),
    _operation("PUT", "events/{event}", lock_event, "Lock or unlock an event.", **_LOCK),
    _operation("PATCH", "events/{event}", patch_event, "Lock or unlock an event.", **_LOCK),
    _operation("DELETE", "events/{event}", delete_event, "End an event: it is done.", **_DELETE),
    _operation(
        "POST",
        "jobs",
        add_channel_job,
        "Publish an event again and again.",
        body=NewChannelJob,
        example={"name": "nightly", "cronDef": "0 3 * * *", "data": "close the books"},
        answer=ChannelJob,
        status=201,
        errors=(409,),
    ),
    _operation("GET", "jobs", list_channel_jobs, "The channel's jobs.", query=Page, answer=ChannelJobs),
    _operation("DELETE", "jobs/{job}", remove_channel_job, "Remove a job; its events stay.", **_DELETE),
)
