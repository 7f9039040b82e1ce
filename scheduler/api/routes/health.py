"""Whether the process lives (`/healthz`, `/healthy`) and whether it can work (`/readyz`). Open to everybody."""

from __future__ import annotations

import msgspec

from scheduler import install
from scheduler.api.operation import Ask, Operation
from scheduler.api.problem import RETRY_AFTER, Problem


class Health(msgspec.Struct):
    status: str


async def get_healthz(_: Ask) -> Health:
    return Health("ok")


async def get_healthy(_: Ask) -> Health:
    return Health("ok")


async def get_readyz(ask: Ask) -> Health:
    if (complaint := ask.complaint()) is not None:
        raise Problem(503, complaint, headers={"Retry-After": RETRY_AFTER})
    async with ask.data.reading() as conn:
        await install.ensure_known(conn)
    return Health("ready")


OPERATIONS = (
    Operation(
        method="GET",
        path="/healthz",
        handle=get_healthz,
        scope=None,
        summary="Whether the process lives.",
        tag="health",
        answer=Health,
    ),
    Operation(
        method="GET",
        path="/healthy",
        handle=get_healthy,
        scope=None,
        summary="As /healthz, under the name that distributed-scheduler has.",
        tag="health",
        answer=Health,
    ),
    Operation(
        method="GET",
        path="/readyz",
        handle=get_readyz,
        scope=None,
        summary="Whether the database answers, has the schema of this program, and the server does its work.",
        tag="health",
        answer=Health,
        errors=(503,),
    ),
)
