"""Servers and workers, which serve all apps: for tokens that reach all of them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from scheduler.api import rows
from scheduler.api.operation import Ask, Operation
from scheduler.api.paging import MORE, BeforeId, Limit, Next, page
from scheduler.store import watch


class Processes(msgspec.Struct, forbid_unknown_fields=True):
    gone: Annotated[bool, msgspec.Meta(description="Those that stopped or died too.")] = msgspec.field(
        default=False, name="all"
    )
    before_id: BeforeId | None = None
    limit: Limit = 100


class Servers(msgspec.Struct):
    servers: list[rows.Server]
    next: Next


class Workers(msgspec.Struct):
    workers: list[rows.Worker]
    next: Next


async def list_servers(ask: Ask) -> Servers:
    async with ask.data.reading() as conn:
        found = await watch.servers(conn, **_asked(ask))
    return Servers(*page(ask, found, before_id="id"))


async def list_workers(ask: Ask) -> Workers:
    async with ask.data.reading() as conn:
        found = await watch.workers(conn, **_asked(ask))
    return Workers(*page(ask, found, before_id="id"))


def _asked(ask: Ask) -> dict[str, Any]:
    query: Processes = ask.query
    return {
        "gone": query.gone,
        "before": query.before_id,
        "dead_after": ask.settings.dead_after,
        "limit": query.limit + MORE,
    }


OPERATIONS = (
    Operation(
        method="GET",
        path="/api/v1/servers",
        handle=list_servers,
        scope="read",
        everywhere=True,
        summary="The servers, the latest first, and how many apps each owns.",
        tag="processes",
        query=Processes,
        answer=Servers,
    ),
    Operation(
        method="GET",
        path="/api/v1/workers",
        handle=list_workers,
        scope="read",
        everywhere=True,
        summary="The workers, the latest first, and what each may run.",
        tag="processes",
        query=Processes,
        answer=Workers,
    ),
)
