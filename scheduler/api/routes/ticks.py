"""Ticks: `POST /ticks {"item", "at"}`; at that instant the same structure is sent to the Kafka topic `ticks`.

Each is a run of the executor `kafka` in the app `ticks`. An item has one tick that waits; posting it again moves that.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from scheduler.api.gate import read
from scheduler.api.operation import Ask, Operation
from scheduler.api.problem import Problem
from scheduler.store import tick

TOGETHER = 2_000
"""Ticks of a request that are written in one transaction."""
MOST_BYTES = 16 * 1024 * 1024
_MOST_ITEM = 500  # characters: it is the run's unique key
_MOST_VALUE = 1_000_000  # bytes: a spec has 1 MiB
_MILLISECONDS_FROM = 100_000_000_000  # as seconds this is the year 5138


class Tick(msgspec.Struct):
    """`at` in ISO 8601, or as seconds or milliseconds since 1970. Whatever else it has is sent along."""

    item: str
    at: str | int | float


class Accepted(msgspec.Struct):
    ticks: int


async def post_ticks(ask: Ask) -> Accepted:
    body = await read(ask, MOST_BYTES)
    entries = [_entry(raw, line) for line, raw in enumerate(_parts(body), 1)]
    for start in range(0, len(entries), TOGETHER):
        part = entries[start : start + TOGETHER]
        await ask.data.ticks.add(part, sum(len(one.value) for one in part))
    return Accepted(len(entries))


async def post_tick(ask: Ask) -> Accepted:
    return await post_ticks(ask)


_decode_one = msgspec.json.Decoder(msgspec.Raw).decode
_decode_many = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_lines = msgspec.json.Decoder(msgspec.Raw).decode_lines
_decode_tick = msgspec.json.Decoder(Tick).decode


def _parts(body: bytes) -> Sequence[msgspec.Raw]:
    """Of one tick, an array of them, or one on each line."""
    try:
        if body.lstrip()[:1] == b"[":
            return _decode_many(body)
        try:
            return [_decode_one(body)]
        except msgspec.DecodeError:
            if b"\n" not in body.strip():
                raise
            return _decode_lines(body)
    except RecursionError:
        raise Problem(400, "the body is nested too deeply") from None


def _entry(raw: msgspec.Raw, nr: int) -> tick.Tick:
    try:
        one = _decode_tick(raw)
        value = bytes(raw).decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"tick {nr}: {error}") from None
    if not 1 <= len(one.item) <= _MOST_ITEM or "\0" in one.item:
        raise Problem(400, f"tick {nr}: item has {len(one.item)} characters: 1 to {_MOST_ITEM}, and no NUL")
    if len(value) > _MOST_VALUE:
        raise Problem(400, f"tick {nr} has {len(value):,} bytes, at most {_MOST_VALUE:,} are taken")
    try:
        return tick.Tick(one.item, _instant(one.at), value)
    except (ValueError, OverflowError, OSError):
        hint = "ISO 8601 like 2023-02-28T14:16:00Z, or seconds or milliseconds since 1970"
        raise Problem(400, f"tick {nr}: at {str(one.at)[:60]!r} is no instant", hint=hint) from None


def _instant(at: str | float) -> float:
    """In seconds since 1970. ValueError, OverflowError."""
    if isinstance(at, str):
        found = datetime.fromisoformat(at)
    else:
        found = datetime.fromtimestamp(at / 1_000 if abs(at) >= _MILLISECONDS_FROM else at, UTC)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


OPERATIONS = tuple(
    Operation(
        method="POST",
        path=path,
        handle=handle,
        scope="write",
        summary=summary,
        tag="ticks",
        app=tick.APP,
        reads=Tick | list[Tick],
        example={"item": "invoice 42", "at": "2026-11-01T05:30:00Z"},
        answer=Accepted,
        media=(),
        errors=(404, 409, 413),
    )
    for path, handle, summary in (
        ("/ticks", post_ticks, "Send ticks to Kafka at their instants: one, an array, or one on each line."),
        ("/tick", post_tick, "As /ticks, where distributed-scheduler's own clients post."),
    )
)
