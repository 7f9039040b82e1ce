"""Runs the parts of a process under one pair of signals: the first TERM or INT drains, a second one ends that."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from importlib.util import find_spec
from typing import Any

from scheduler import db, telemetry
from scheduler.cli.composition import Part
from scheduler.cli.session import Connection, Place, prepare
from scheduler.config import Settings

log = logging.getLogger(__name__)


def run_parts(
    place: Place, parts: Sequence[Part], ready: Callable[[Connection], Awaitable[None]], *, upgrade: bool = False
) -> None:
    """Run the parts until the first signal, or until one of them ends; then all of them end in good order.

    `ready` is called before, once the database is known to be usable.
    """
    factory = None
    if find_spec("uvloop") is not None:
        import uvloop  # noqa: PLC0415  an extra

        factory = uvloop.new_event_loop
    # What is there now stays, and of the rest thousands are alive at a time: with the usual threshold of 700 new
    # objects the search for cycles took a fifth of a busy worker's time, 14 us of CPU a run instead of 11.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    with asyncio.Runner(loop_factory=factory) as runner:
        _traced(runner, _all(place, parts, ready, upgrade=upgrade))


async def _all(
    place: Place, parts: Sequence[Part], ready: Callable[[Connection], Awaitable[None]], *, upgrade: bool
) -> None:
    stopping, forced = asyncio.Event(), asyncio.Event()
    _obey_signals(stopping, forced)
    # An upgrade may take longer than any statement of daily work.
    timeout = 0 if upgrade and place.is_embedded else Settings.from_env().statement_timeout
    async with await db.connect(place.dsn, name="run", statement_timeout=timeout) as conn:
        await prepare(conn, place, upgrade=upgrade)
        await ready(conn)

    async def one(part: Part) -> None:
        try:
            await part(stopping, forced)
        finally:
            stopping.set()

    for ended in await asyncio.gather(*(one(part) for part in parts), return_exceptions=True):
        if isinstance(ended, BaseException):
            raise ended
    log.info("stopped")


def _obey_signals(stopping: asyncio.Event, forced: asyncio.Event) -> None:
    def obey(number: signal.Signals) -> None:
        if stopping.is_set():
            log.info("%s again: what still runs is given up", number.name)
            forced.set()
        else:
            log.info("%s: stopping; what runs may end", number.name)
            stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, obey, number)


def _traced(runner: asyncio.Runner, work: Coroutine[Any, Any, None]) -> None:
    if (complaint := telemetry.start()) is not None:
        log.warning("%s", complaint)
    try:
        runner.run(work)
    finally:
        telemetry.close()
