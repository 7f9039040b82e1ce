"""Queues: which there are, how late each is, and what each is allowed."""

from __future__ import annotations

from typing import Annotated

import msgspec

from scheduler.api import rows
from scheduler.api.kinds import CENTURY, INTEGER
from scheduler.api.operation import Ask, Operation
from scheduler.api.paging import MORE, Limit, Next, page
from scheduler.errors import InvalidError
from scheduler.model import seconds
from scheduler.store import define, watch


class AfterQueue(msgspec.Struct, forbid_unknown_fields=True):
    after: Annotated[str, msgspec.Meta(description="Only queues that sort after this one.")] = ""
    limit: Limit = 100


class AfterAppAndQueue(msgspec.Struct, forbid_unknown_fields=True):
    after_app: Annotated[str, msgspec.Meta(description="Only queues that sort after this app's …")] = ""
    after: Annotated[str, msgspec.Meta(description="… queue of this name.")] = ""
    limit: Limit = 100


class Queues(msgspec.Struct):
    queues: list[rows.Queue]
    next: Next


class Limits(msgspec.Struct, forbid_unknown_fields=True):
    """What a queue is allowed from now on, as its whole: what is not given has no limit any more."""

    concurrency_limit: (
        Annotated[int, msgspec.Meta(ge=0, le=INTEGER, description="Runs held by workers at a time; 0 stops the queue.")]
        | None
    ) = None
    rate_limit: Annotated[int, msgspec.Meta(ge=1, le=INTEGER, description="Runs that may start …")] | None = None
    rate_interval: Annotated[float, msgspec.Meta(ge=0.001, le=CENTURY, description="… in so many seconds.")] = 1.0


async def list_queues(ask: Ask) -> Queues:
    after = (ask.query.after_app, ask.query.after)
    async with ask.data.reading() as conn:
        found = await watch.queues(conn, among=ask.caller.among, after=after, limit=ask.query.limit + MORE)
    shown, following = page(ask, [watch.counted(row) for row in found], after_app="app", after="queue")
    return Queues(shown, following)


async def list_queues_of_app(ask: Ask) -> Queues:
    app = ask.path["app"]
    async with ask.data.reading() as conn:
        found = await watch.queues(conn, app=app, after=(app, ask.query.after), limit=ask.query.limit + MORE)
    shown, following = page(ask, [watch.counted(row) for row in found], after="queue")
    return Queues(shown, following)


async def limit_queue(ask: Ask) -> Limits:
    limits: Limits = ask.body
    if limits.concurrency_limit is None and limits.rate_limit is None:
        raise InvalidError("a concurrency_limit, a rate_limit or both are needed", hint="DELETE takes all limits away")
    async with ask.data.changing(ask.caller) as conn:
        await define.limit_queue(
            conn,
            ask.path["app"],
            ask.path["queue"],
            concurrency_limit=limits.concurrency_limit,
            rate_limit=limits.rate_limit,
            rate_interval=seconds(limits.rate_interval, "rate_interval"),
        )
    return limits


async def free_queue(ask: Ask) -> Limits:
    async with ask.data.changing(ask.caller) as conn:
        await define.limit_queue(
            conn, ask.path["app"], ask.path["queue"], concurrency_limit=None, rate_limit=None, rate_interval=None
        )
    return Limits()


OPERATIONS = (
    Operation(
        method="GET",
        path="/api/v1/queues",
        handle=list_queues,
        scope="read",
        summary="The queues of all apps, their limits, how late each is, and how many workers serve it.",
        tag="queues",
        query=AfterAppAndQueue,
        answer=Queues,
    ),
    Operation(
        method="GET",
        path="/api/v1/apps/{app}/queues",
        handle=list_queues_of_app,
        scope="read",
        summary="The queues of an app.",
        tag="queues",
        query=AfterQueue,
        answer=Queues,
    ),
    Operation(
        method="PUT",
        path="/api/v1/apps/{app}/queues/{queue}/limits",
        handle=limit_queue,
        scope="write",
        summary="Limit a queue, whatever its workers.",
        tag="queues",
        body=Limits,
        answer=Limits,
        example={"concurrency_limit": 3, "rate_limit": 100, "rate_interval": 60},
    ),
    Operation(
        method="DELETE",
        path="/api/v1/apps/{app}/queues/{queue}/limits",
        handle=free_queue,
        scope="write",
        summary="Take all limits of a queue away.",
        tag="queues",
        answer=Limits,
    ),
)
