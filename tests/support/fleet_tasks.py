"""What the workers of a fleet execute. An effect is a line in a file outside the database: no rollback undoes it."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextvars import ContextVar
from typing import Any, NoReturn

from worker import Context, task

_EFFECTS = os.open(os.environ["FLEET_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_counted: Counter[str] = Counter()
_trace: ContextVar[str] = ContextVar("_trace")
_earlier: list[asyncio.Task[Any]] = []


def effect(ctx: Context, what: str, value: object = 0) -> None:
    """One write of one line: what several processes append does not mix."""
    line = f"{what} {ctx.run_id} {ctx.attempt} {ctx.fence} {os.getpid()} {time.time():.6f} {value}\n"
    os.write(_EFFECTS, line.encode())


@task
async def note(ctx: Context) -> None:
    effect(ctx, "ran")


@task
async def say(ctx: Context, name: str) -> None:
    """Says for which instant it was started, in microseconds."""
    scheduled = ctx.scheduled_at
    effect(ctx, f"at-{name}", 0 if scheduled is None else round(scheduled.timestamp() * 1e6))


@task
async def nap(ctx: Context, seconds: float) -> str:
    effect(ctx, "began")
    await asyncio.sleep(seconds)
    effect(ctx, "ended")
    return "rested"


@task(max_attempts=1)
async def nap_once(ctx: Context, seconds: float) -> str:
    return await nap(ctx, seconds)


@task
def thread_nap(ctx: Context, seconds: float) -> None:
    effect(ctx, "began")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if ctx.cancelled:
            effect(ctx, "noticed")
            return
        time.sleep(0.02)
    effect(ctx, "ended")


@task(process=True)
def process_nap(ctx: Context, seconds: float) -> None:
    """Has a child of its own, and hears no TERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["/bin/sleep", str(seconds)])
    effect(ctx, "began", child.pid)
    child.wait()
    effect(ctx, "ended")


@task
async def tick(ctx: Context, seconds: float) -> None:
    """Works in small steps that can be seen from outside: when it last did says when it stopped."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        effect(ctx, "tick")
        await asyncio.sleep(0.05)
    effect(ctx, "ended")


@task
async def deaf(ctx: Context) -> NoReturn:
    """Does not let itself be cancelled."""
    effect(ctx, "began")
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            effect(ctx, "cancelled")


@task
async def block(ctx: Context, seconds: float) -> None:
    """Blocks the worker's event loop, as code does that should have been in a thread."""
    effect(ctx, "began")
    time.sleep(seconds)  # noqa: ASYNC251  blocking is the point
    effect(ctx, "ended")


@task
async def poison(ctx: Context) -> NoReturn:
    effect(ctx, "poison")
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@task
async def count(ctx: Context, kind: str, seconds: float) -> None:
    """Says how many of its kind are running."""
    _counted[kind] += 1
    effect(ctx, kind, _counted[kind])
    await asyncio.sleep(seconds)
    _counted[kind] -= 1


@task
async def talk(ctx: Context, lines: int) -> None:
    for number in range(lines):
        ctx.log(f"line {number}")
        if number % 50 == 0:
            await asyncio.sleep(0)


@task
async def talk_slowly(ctx: Context, lines: int, seconds: float) -> None:
    for number in range(lines):
        ctx.log(f"line {number}")
        await asyncio.sleep(seconds)


@task
async def returns(how: str) -> Any:
    return {
        "nan": math.nan,
        "huge": "x" * 2_000_000,
        "nul": "a\0b",
        "surrogate": "a\ud800b",
        "object": object(),
    }[how]


@task
async def raises(how: str) -> NoReturn:
    if how == "nul":
        raise ValueError("a\0b \ud800 c")
    if how == "text":
        raise _WithoutTextError
    if how == "exit":
        raise SystemExit(3)
    raise ValueError("é" * 100_000)


class _WithoutTextError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@task
async def leave_a_trace() -> str:
    """What the context holds of other runs."""
    found = _trace.get("nothing")
    _trace.set("a trace")
    return found


@task
async def cancel_who_was_here_before() -> None:
    """Cancels the tasks of all runs before it: they have ended, so it must hit nobody."""
    for earlier in _earlier:
        earlier.cancel()
    await asyncio.sleep(0.001)
    mine = asyncio.current_task()
    if mine is not None:
        _earlier.append(mine)


@task
async def stamp(ctx: Context) -> None:
    ctx.log(time.time())


@task(process=True)
def prints(text: str) -> None:
    """Writes into its log in all the ways that a program has, but for its context."""
    print(text)  # noqa: T201
    print("by", "itself", end="")  # noqa: T201
    logging.getLogger("task").warning("careful")
    print("aside", file=sys.stderr)  # noqa: T201
    sys.stdout.flush()
    sys.stdout.buffer.write(b"\nbytes \xff")


def _spoken(ctx: Context) -> None:
    log = logging.getLogger("shop.orders")
    log.warning("of run %s", ctx.run_id, extra={"order": 17})
    try:
        json.loads("{}")["nothing"]
    except KeyError:
        log.exception("run %s failed\nin two lines", ctx.run_id)


@task
async def speak(ctx: Context, seconds: float = 0) -> None:
    """Logs as any program does, before and after it waits."""
    _spoken(ctx)
    if seconds:
        await asyncio.sleep(seconds)
        await asyncio.gather(asyncio.to_thread(_spoken, ctx))


@task
def speak_in_thread(ctx: Context) -> None:
    _spoken(ctx)


@task
async def tell(text: str) -> None:
    """Logs what it was given, a secret as well."""
    logging.getLogger("shop").warning("it is %s", text)


def _inside(ctx: Context) -> str | None:
    """A span of the task's own, as a library in it would make one."""
    from opentelemetry import trace  # noqa: PLC0415  only where it is asked for

    with trace.get_tracer("task").start_as_current_span("inside", attributes={"walclock.run_id": ctx.run_id}):
        return ctx.traceparent


@task
async def traced(ctx: Context) -> str | None:
    await asyncio.sleep(0)
    return _inside(ctx)


@task
def traced_thread(ctx: Context) -> str | None:
    return _inside(ctx)


@task(process=True)
def traced_process(ctx: Context) -> str | None:
    return _inside(ctx)


@task
async def trace_handed_on(ctx: Context) -> str | None:
    return ctx.traceparent


@task
async def refuse(text: str) -> NoReturn:
    raise ValueError(text)
