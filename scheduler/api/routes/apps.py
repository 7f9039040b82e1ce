"""Apps: which there are, who owns one, and pauses."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from scheduler.api.operation import Ask, Operation
from scheduler.store import define, watch

Limit = Annotated[int, msgspec.Meta(ge=1, le=10_000, description="Rows at most.")]


class Page(msgspec.Struct, forbid_unknown_fields=True):
    after: str = ""
    limit: Limit = 100


class Apps(msgspec.Struct):
    apps: list[dict[str, Any]]


class Changed(msgspec.Struct):
    """`changed` is false when it was so already."""

    changed: bool


async def list_apps(ask: Ask) -> Apps:
    async with ask.data.reading() as conn:
        rows = await watch.apps(conn, after=ask.query.after, limit=ask.query.limit)
    return Apps([row for row in rows if ask.caller.reaches(row["app"])])


async def pause_app(ask: Ask) -> Changed:
    async with ask.data.changing(ask.caller) as conn:
        return Changed(await define.pause(conn, ask.path["app"]))


OPERATIONS = (
    Operation(
        method="GET",
        path="/api/v1/apps",
        handle=list_apps,
        scope="read",
        summary="The apps, by name.",
        tag="apps",
        query=Page,
        answer=Apps,
    ),
    Operation(
        method="POST",
        path="/api/v1/apps/{app}/pause",
        handle=pause_app,
        scope="write",
        summary="Pause an app: nothing more of it starts.",
        tag="apps",
        answer=Changed,
    ),
)
