"""Runs that are posted: one, several as an array, or many as NDJSON."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
import psycopg
from psycopg import AsyncConnection

from scheduler.api.gate import MOST_BYTES, chunks, media_of, read
from scheduler.api.lines import Lines
from scheduler.api.operation import JSON, NDJSON, Ask, Operation, Reply
from scheduler.api.posted import PostedRun, is_list, row_of, run_in, runs_in
from scheduler.api.problem import Problem
from scheduler.api.unpack import unpacked
from scheduler.errors import InvalidError
from scheduler.store import insert, request, watch
from scheduler.store.refusal import explained
from scheduler.store.request import Answered
from scheduler.tracing import Enqueuing, enqueuing

PIECE = 1024 * 1024
"""Bytes of COPY data in one statement. The transaction begins with the first, so that a small body that comes slowly
keeps none open."""
LULL = 3.0
"""Seconds after which a piece is sent however small it is: PostgreSQL ends a transaction that stays idle."""
PATIENCE = 5.0
"""Seconds without a byte after which a body is given up …"""
LONGEST = 600.0
"""… and those in which all of it must have come: for as long as its transaction is open nothing is vacuumed."""
_MOST_CHARACTERS = 255
_AS_LINES = f"send them as {NDJSON}, a run in each line: of those any number is taken"
_PLACE = re.compile(r"COPY run, line (\d+)")


class Piece(NamedTuple):
    """COPY data, and how many lines of the body came before."""

    data: bytes
    before: int


class Added(msgspec.Struct, omit_defaults=True):
    """`id` of the one that was posted, or with status 200 of the pending or running run that has its unique_key; `ids`
    of an array, in its order; of NDJSON how many were `created`.
    """

    id: int | None = None
    ids: list[int] | None = None
    created: int | None = None


async def post_runs(ask: Ask) -> Reply:
    media = media_of(ask, (JSON, NDJSON))
    key = _key(ask)
    if media == NDJSON:
        with _tracing(ask) as sending:
            return await _many(ask, key, sending)
    body = await _body(ask)
    app = ask.path["app"]
    name = msgspec.json.encode(app)
    if is_list(body):
        runs = runs_in(body)
        with _tracing(ask) as sending:
            sending.wrote(count=len(runs))
            return await _several(ask, key, body, [row_of(name, run, sending.traceparent) for run in runs])
    run = run_in(body)
    with _tracing(ask, run.queue, run.executor) as sending:
        row = row_of(name, run, sending.traceparent)
        if key is None and run.unique_key is None:
            (number,) = await ask.data.runs.add([row], len(row))
            sending.wrote(number)
            return Reply(201, Added(id=number))
        return await _one(ask, key, body, row, sending)


def _tracing(ask: Ask, queue: str | None = None, executor: str | None = None) -> Enqueuing:
    return enqueuing(ask.path["app"], queue, executor, ask.headers.get("traceparent"))


async def _one(ask: Ask, key: str | None, body: bytes, row: bytes, sending: Enqueuing) -> Reply:
    """By itself: it may have to wait for somebody's transaction, and nobody else should with it."""

    async def enqueue(conn: AsyncConnection[Any]) -> Reply:
        run, is_new = await insert.enqueue_row(conn, row)
        sending.wrote(run)
        return Reply(201 if is_new else 200, Added(id=run))

    async with ask.data.inserting() as conn:
        return await _once(ask, conn, key, hashlib.sha256(body).digest(), enqueue)


async def _several(ask: Ask, key: str | None, body: bytes, rows: list[bytes]) -> Reply:
    async def add(conn: AsyncConnection[Any]) -> Reply:
        return Reply(201, Added(ids=await insert.insert_runs(conn, rows) if rows else []))

    async with ask.data.inserting() as conn:
        return await _once(ask, conn, key, hashlib.sha256(body).digest(), add)


async def _once(
    ask: Ask,
    conn: AsyncConnection[Any],
    key: str | None,
    digest: bytes,
    work: Callable[[AsyncConnection[Any]], Awaitable[Reply]],
) -> Reply:
    """What the work, a statement, answers; or what it answered to an equal request before."""
    if key is None:
        return await work(conn)
    async with conn.transaction():
        before = await request.open_request(conn, ask.path["app"], ask.caller.name, key)
        if before is not None:
            return _again(before, digest)
        reply = await work(conn)
        await _keep(ask, conn, key, digest, reply)
        return reply


async def _keep(ask: Ask, conn: AsyncConnection[Any], key: str, digest: bytes, reply: Reply) -> None:
    answered = Answered(digest, reply.status, msgspec.json.encode(reply.content).decode())
    await request.close_request(conn, ask.path["app"], ask.caller.name, key, answered)


def _again(before: Answered, digest: bytes) -> Reply:
    if before.digest != digest:
        raise Problem(422, "this Idempotency-Key was used with another body", hint="use a key once, for one request")
    return Reply(before.status, msgspec.Raw(before.answer.encode()))


async def _many(ask: Ask, key: str | None, sending: Enqueuing) -> Reply:
    body = unpacked(_prompt(chunks(ask.request)), _encoding(ask))
    async with ask.data.reading() as conn:
        lines = Lines(ask.path["app"], await watch.clock(conn), sending.traceparent)
    digest = hashlib.sha256()
    pieces = _pieces(lines, body, digest.update if key is not None else _nothing)
    try:
        async with asyncio.timeout(LONGEST) as limit:
            first = await anext(pieces)
            async with ask.data.copying() as conn:
                if key is not None:
                    before = await request.open_request(conn, ask.path["app"], ask.caller.name, key)
                    if before is not None:
                        async for _ in pieces:
                            pass
                        return _again(before, digest.digest())
                await _copy(conn, first, pieces, traced=sending.traceparent is not None)
                sending.wrote(count=lines.read)
                reply = Reply(201, Added(created=lines.read))
                if key is not None:
                    await _keep(ask, conn, key, digest.digest(), reply)
                return reply
    except TimeoutError:
        if limit.expired():
            raise Problem(408, f"the body did not come within {LONGEST:g} s") from None
        raise


async def _copy(conn: AsyncConnection[Any], first: Piece, others: AsyncIterator[Piece], *, traced: bool) -> None:
    """While the database works on one piece, the next is read."""
    copying = asyncio.create_task(_copy_piece(conn, first, traced=traced))
    try:
        async for piece in others:
            await copying
            copying = asyncio.create_task(_copy_piece(conn, piece, traced=traced))
    finally:
        await asyncio.wait([copying])  # before the transaction ends, whatever becomes of it
    await copying


async def _copy_piece(conn: AsyncConnection[Any], piece: Piece, *, traced: bool) -> None:
    try:
        await insert.copy_runs(conn, piece.data, traced=traced)
    except psycopg.Error as error:
        place = _PLACE.match(error.diag.context or "")
        refused = explained(error)
        if place is None or not isinstance(refused, InvalidError):
            raise
        raise Problem(400, f"line {piece.before + int(place[1])}: {refused.args[0]}", hint=refused.hint) from None


async def _pieces(lines: Lines, body: AsyncIterator[bytes], see: Callable[[bytes], None]) -> AsyncIterator[Piece]:
    """At least one. `see` is called with all of the body."""
    clock = asyncio.get_running_loop().time
    made: list[bytes] = []
    size, before, since, is_open = 0, 0, 0.0, False
    async for chunk in body:
        see(chunk)
        made.append(lines.take(chunk))
        size += len(made[-1])
        if size >= PIECE or (is_open and clock() - since > LULL):
            yield Piece(b"".join(made), before)
            made.clear()
            size, before, since, is_open = 0, lines.read, clock(), True
        await asyncio.sleep(0)  # others have their turn: a fast client would leave them none
    made.append(lines.end())
    yield Piece(b"".join(made), before)


async def _prompt(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Problem 408 for a body that stops coming."""
    while True:
        try:
            async with asyncio.timeout(PATIENCE):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Problem(408, f"nothing of the body came for {PATIENCE:g} s") from None
        yield chunk


async def _body(ask: Ask) -> bytes:
    encoding = _encoding(ask)
    if not encoding:
        return await read(ask)
    kept = bytearray()
    async for piece in unpacked(chunks(ask.request), encoding):
        kept += piece
        if len(kept) > MOST_BYTES:
            raise Problem(413, f"the body has more than the {MOST_BYTES:,} bytes that are taken", hint=_AS_LINES)
    return bytes(kept)


def _encoding(ask: Ask) -> str:
    return ask.headers.get("content-encoding", "").strip().lower()


def _key(ask: Ask) -> str | None:
    key = ask.headers.get("idempotency-key")
    if key is not None and not (1 <= len(key) <= _MOST_CHARACTERS and key.isascii() and key.isprintable()):
        raise Problem(400, f"the Idempotency-Key must have 1 to {_MOST_CHARACTERS} printable ASCII characters")
    return key


def _nothing(_: bytes) -> None:
    pass


OPERATIONS = (
    Operation(
        method="POST",
        path="/api/v1/apps/{app}/runs",
        handle=post_runs,
        scope="write",
        summary="Enqueue one run, several as an array, or any number as NDJSON, all or none of them.",
        tag="runs",
        reads=PostedRun | list[PostedRun],
        media=(JSON, NDJSON),
        answer=Added,
        status=201,
        also=(200,),
        errors=(408, 409, 422),
        example={"executor": "python", "spec": {"task": "send_email", "args": {"to": "a@example.org"}}},
        conditions=("Idempotency-Key", "traceparent"),
    ),
)
