"""Enqueueing from Python, on the caller's own connection and inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, overload

import psycopg
from psycopg import AsyncConnection, AsyncCursor, Connection, Cursor
from psycopg.rows import tuple_row

from scheduler.errors import InvalidError
from scheduler.model import NewRun, encode_spec, seconds
from scheduler.store.define import ENQUEUE, enqueue_parameters
from scheduler.store.refusal import explained
from scheduler.tracing import Enqueuing, enqueuing

_MOST_CHARACTERS = 200  # of a task's name


@overload
def enqueue(
    conn: Connection[Any],
    app: str,
    task: str,
    args: dict[str, Any] | None = None,
    *,
    run_at: datetime | None = None,
    queue: str = "default",
    priority: int = 0,
    unique_key: str | None = None,
    max_attempts: int = 3,
    timeout: float | timedelta | None = None,
    tags: Sequence[str] | None = None,
    concurrency_key: str | None = None,
    concurrency_limit: int | None = None,
    traceparent: str | None = None,
) -> int: ...
@overload
def enqueue(
    conn: AsyncConnection[Any],
    app: str,
    task: str,
    args: dict[str, Any] | None = None,
    *,
    run_at: datetime | None = None,
    queue: str = "default",
    priority: int = 0,
    unique_key: str | None = None,
    max_attempts: int = 3,
    timeout: float | timedelta | None = None,
    tags: Sequence[str] | None = None,
    concurrency_key: str | None = None,
    concurrency_limit: int | None = None,
    traceparent: str | None = None,
) -> Awaitable[int]: ...
def enqueue(
    conn: Connection[Any] | AsyncConnection[Any],
    app: str,
    task: str,
    args: dict[str, Any] | None = None,
    *,
    run_at: datetime | None = None,
    queue: str = "default",
    priority: int = 0,
    unique_key: str | None = None,
    max_attempts: int = 3,
    timeout: float | timedelta | None = None,
    tags: Sequence[str] | None = None,
    concurrency_key: str | None = None,
    concurrency_limit: int | None = None,
    traceparent: str | None = None,
) -> int | Awaitable[int]:
    """Write a run of a Python task and return its id; with an AsyncConnection, an awaitable of it.

    It is one statement in the caller's transaction, which it neither commits nor rolls back: the run exists when and
    if the caller commits. With a `unique_key` that a pending or running run of the app has, that run's id comes back
    and nothing is written. `run_at` must be aware, None is now; `timeout` is in seconds or a timedelta, None is the
    task's own, else one hour; a lower `priority` goes first; `args` are the task's keyword arguments. Of the app's runs
    with one `concurrency_key` no more than `concurrency_limit` (None: one) are held by workers at a time.

    The run carries the OpenTelemetry span that is active here, or the `traceparent` that is given, to each attempt;
    where the caller has set OpenTelemetry up, a producer span is in between.

    InvalidError for a value that cannot be stored (a NUL, infinity, a naive datetime, more than 1 MiB) is raised
    before anything is sent, so the transaction is unharmed. An error of the database ends the transaction, as always.
    """
    run = NewRun(
        app=app,
        executor="python",
        spec=_spec(task, args),
        queue=queue,
        run_at=run_at,
        priority=priority,
        unique_key=unique_key,
        max_attempts=max_attempts,
        timeout=seconds(timeout, "timeout"),
        tags=tags,
        concurrency_key=concurrency_key,
        concurrency_limit=concurrency_limit,
        traceparent=traceparent,
    )
    if isinstance(conn, AsyncConnection):
        return _enqueue_async(conn, run)
    # The caller's own row and cursor factories are about the caller's statements, not ours.
    with _tracing(run) as sending, _refusals(), Cursor(conn, row_factory=tuple_row) as cursor:
        return _id(cursor.execute(ENQUEUE, _parameters(run, sending)).fetchone(), sending)


async def _enqueue_async(conn: AsyncConnection[Any], run: NewRun) -> int:
    with _tracing(run) as sending, _refusals():
        async with AsyncCursor(conn, row_factory=tuple_row) as cursor:
            await cursor.execute(ENQUEUE, _parameters(run, sending))
            return _id(await cursor.fetchone(), sending)


def _tracing(run: NewRun) -> Enqueuing:
    return enqueuing(run.app, run.queue, run.executor, run.traceparent)


def _parameters(run: NewRun, sending: Enqueuing) -> dict[str, Any]:
    return {**enqueue_parameters(run), "traceparent": sending.traceparent}


def _spec(task: str, args: dict[str, Any] | None) -> str:
    if not isinstance(task, str) or not 1 <= len(task) <= _MOST_CHARACTERS:
        raise InvalidError("task must be the name of a task", hint=f"1 to {_MOST_CHARACTERS} characters")
    if args is not None and not isinstance(args, dict):
        raise InvalidError(f"args must be a JSON object (a dict), not {type(args).__name__}")
    return encode_spec({"task": task, "args": args or {}}, "args")


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        known = explained(error)
        if known is None:
            raise
        raise known from error


def _id(row: tuple[Any, ...] | None, sending: Enqueuing) -> int:
    run = int(row[0]) if row else 0  # a select of one function always has a row
    sending.wrote(run)
    return run
