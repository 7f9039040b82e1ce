"""Apps: which there are, who owns one, and pauses."""

from __future__ import annotations

from typing import Annotated

import msgspec

from scheduler.api import rows
from scheduler.api.operation import Ask, Operation
from scheduler.api.paging import MORE, Limit, Next, page
from scheduler.api.problem import Problem
from scheduler.store import define, watch


class AfterApp(msgspec.Struct, forbid_unknown_fields=True):
    after: Annotated[str, msgspec.Meta(description="Only apps that sort after this one.")] = ""
    limit: Limit = 100


class Apps(msgspec.Struct):
    apps: list[rows.App]
    next: Next


class Changed(msgspec.Struct):
    """`changed` is false when it was so already."""

    changed: bool


async def list_apps(ask: Ask) -> Apps:
    async with ask.data.reading() as conn:
        found = await watch.apps(conn, among=ask.caller.among, after=ask.query.after, limit=ask.query.limit + MORE)
    shown, following = page(ask, [watch.counted(row) for row in found], after="app")
    return Apps(shown, following)


async def show_app(ask: Ask) -> rows.App:
    async with ask.data.reading() as conn:
        found = await watch.apps(conn, among=[ask.path["app"]], limit=1)
    if not found:
        raise _unknown(ask)
    row: rows.App = watch.counted(found[0])  # type: ignore[assignment]
    return row


async def pause_app(ask: Ask) -> Changed:
    async with ask.data.changing(ask.caller) as conn:
        await _ensure_known(ask, conn)
        return Changed(await define.pause(conn, ask.path["app"]))


async def resume_app(ask: Ask) -> Changed:
    async with ask.data.changing(ask.caller) as conn:
        await _ensure_known(ask, conn)
        return Changed(await define.resume(conn, ask.path["app"]))


async def locate_app(ask: Ask) -> rows.Owner:
    async with ask.data.reading() as conn:
        found = await watch.locate(conn, ask.path["app"])
    if found is None:
        hint = "it has no job, or no server is alive"
        raise Problem(404, f"app {ask.path['app']} has no owner", hint=hint)
    row: rows.Owner = found  # type: ignore[assignment]
    return row


async def _ensure_known(ask: Ask, conn: watch.Connection) -> None:
    """Pausing an app that nobody has heard of would be a silent typing error. SQL does it, for apps to come."""
    if not await watch.known_apps(conn, among=[ask.path["app"]]):
        raise _unknown(ask)


def _unknown(ask: Ask) -> Problem:
    return Problem(404, f"there is no app {ask.path['app']}")


OPERATIONS = (
    Operation(
        method="GET",
        path="/api/v1/apps",
        handle=list_apps,
        scope="read",
        summary="The apps, by name, how much waits in each, and which server plans it.",
        tag="apps",
        query=AfterApp,
        answer=Apps,
    ),
    Operation(
        method="GET",
        path="/api/v1/apps/{app}",
        handle=show_app,
        scope="read",
        summary="One app.",
        tag="apps",
        answer=rows.App,
    ),
    Operation(
        method="POST",
        path="/api/v1/apps/{app}/pause",
        handle=pause_app,
        scope="write",
        summary="Pause an app: nothing more of it starts; what runs goes on to its end.",
        tag="apps",
        answer=Changed,
    ),
    Operation(
        method="POST",
        path="/api/v1/apps/{app}/resume",
        handle=resume_app,
        scope="write",
        summary="End an app's pause. Instants that passed meanwhile are not made up for.",
        tag="apps",
        answer=Changed,
    ),
    Operation(
        method="GET",
        path="/api/v1/locate/{app}",
        handle=locate_app,
        scope="read",
        summary="The server that plans an app, and the address it goes by.",
        tag="apps",
        answer=rows.Owner,
    ),
)
