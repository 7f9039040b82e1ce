"""What a run wrote, as a stream of lines that may go on until the run has ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
import psycopg
from psycopg_pool import PoolTimeout
from starlette.responses import Response, StreamingResponse

from scheduler.api import rows
from scheduler.api.operation import NDJSON, Ask, Operation
from scheduler.api.routes.run_lists import the_run
from scheduler.loop import describe
from scheduler.store import watch

log = logging.getLogger(__name__)

_encode_lines = msgspec.json.Encoder().encode_lines


class Log(msgspec.Struct, forbid_unknown_fields=True):
    follow: Annotated[bool, msgspec.Meta(description="Go on with new lines until the run has ended.")] = False
    after_attempt: Annotated[int, msgspec.Meta(ge=0, le=32_767, description="Only lines after this attempt's …")] = 0
    after_line: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1, description="… line.")] = 0


async def read_log(ask: Ask) -> Response:
    async with ask.data.reading() as conn:
        run = await the_run(ask, conn)
    if ask.request.method == "HEAD":
        return Response(media_type=NDJSON)
    after = (ask.query.after_attempt, ask.query.after_line)
    following = watch.Following(run["app"], run["id"], follow=ask.query.follow, after=after)
    return StreamingResponse(_lines(ask, following), media_type=NDJSON)


async def _lines(ask: Ask, following: watch.Following) -> AsyncIterator[bytes]:
    while not following.is_over:
        try:
            async with ask.data.reading() as conn:
                found = await following.look(conn)
        except (psycopg.OperationalError, PoolTimeout) as error:
            if not ask.query.follow:
                raise
            log.warning("a log's reader waits: %s", describe(error))
            found = []
        if found:
            yield _encode_lines(found)
        if not following.has_more and not following.is_over and await _is_ending(ask):
            return


async def _is_ending(ask: Ask) -> bool:
    """Waits until the next look, or until the server stops, which is True."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(watch.EVERY):
            await ask.data.ending.wait()
    return ask.data.ending.is_set()


OPERATIONS = (
    Operation(
        method="GET",
        path="/api/v1/apps/{app}/runs/{run}/logs",
        handle=read_log,
        scope="read",
        summary="What a run wrote, of all its attempts, a JSON object per line.",
        tag="runs",
        query=Log,
        answer=rows.LogLine,
        sends=NDJSON,
    ),
)
