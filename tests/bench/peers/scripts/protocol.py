"""The script's side of a measurement: the same timing loops around every peer that has a Python client.

A script is started with one of these, and answers on stdout with one JSON object per line:

    setup                       makes the schema and the queue
    enqueue N                   N calls, one after the other           {"seconds": s}
    bulk N                      N jobs by the fastest way there is      {"seconds": s}
    pick-up N GAP               one call each GAP seconds               {"sent": [[number, ns], …]}
    delayed N SPAN              N jobs due over SPAN seconds            {"due": [[number, unix seconds], …]}
    work drain|trickle N        READY, waits for GO; {"count", "first", "last"} as it goes; on STOP {"times": …}

Times are CLOCK_MONOTONIC in nanoseconds, the same clock in every process and in Node's `process.hrtime`.
Standard library only: this runs in the environment of each peer.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from importlib import import_module
from typing import Any, Protocol

LEAD = 3.0  # seconds between the insert of delayed jobs and the first instant: time enough to insert them all
REPORT_EVERY = 0.01  # seconds: the error of a drain's end
_SLOTS, _CELLS = 64, 3  # per process: count, first, last
_PAD = "x" * 31


def payload(number: int) -> dict[str, Any]:
    """What every job carries: about 50 bytes of JSON."""
    return {"i": number, "k": _PAD}


class Recorder:
    """When handlers started: shared by the processes that fork after it was made."""

    def __init__(self, size: int, *, each: bool) -> None:
        """`each`: remember the start of every number below `size`, not only how many there were."""
        self._each = each
        self._size = size
        self._cells = memoryview(mmap.mmap(-1, 8 * (_SLOTS * _CELLS + size))).cast("q")
        self._take_slot()
        os.register_at_fork(after_in_child=self._take_slot)

    def _take_slot(self) -> None:
        self._slot = os.getpid() % _SLOTS * _CELLS

    def hit(self, number: int) -> None:
        """The first line of every handler."""
        at = time.monotonic_ns()
        cells, slot = self._cells, self._slot
        if not cells[slot]:
            cells[slot + 1] = at
        cells[slot] += 1
        cells[slot + 2] = at
        if self._each:
            cells[_SLOTS * _CELLS + number] = at

    def summary(self) -> dict[str, int]:
        used = [slot for slot in range(0, _SLOTS * _CELLS, _CELLS) if self._cells[slot]]
        return {
            "count": sum(self._cells[slot] for slot in used),
            "first": min((self._cells[slot + 1] for slot in used), default=0),
            "last": max((self._cells[slot + 2] for slot in used), default=0),
        }

    def times(self) -> list[tuple[int, int]]:
        starts = self._cells[_SLOTS * _CELLS :]
        return [(number, starts[number]) for number in range(self._size) if starts[number]]


def ready(mode: str, size: int) -> Recorder:
    """Say that this worker process is loaded, and wait until it may start to look for work."""
    recorder = Recorder(size, each=mode == "trickle")
    go = threading.Event()
    threading.Thread(target=_obey, args=(recorder, go), daemon=True).start()
    _say("READY")
    go.wait()
    threading.Thread(target=_report, args=(recorder,), daemon=True).start()
    return recorder


def _obey(recorder: Recorder, go: threading.Event) -> None:
    while True:
        words = os.read(0, 100)  # not sys.stdin: its lock would be held across a fork
        if b"GO" in words:
            go.set()
        if b"STOP" in words:
            _say(json.dumps({"times": recorder.times()}))
        if b"STOP" in words or not words:
            os._exit(0)


def _report(recorder: Recorder) -> None:
    seen = 0
    while True:
        time.sleep(REPORT_EVERY)
        summary = recorder.summary()
        if summary["count"] != seen:
            seen = summary["count"]
            _say(json.dumps(summary))


def _say(line: str) -> None:
    rest = line.encode() + b"\n"
    while rest:
        rest = rest[os.write(1, rest) :]


class Peer(Protocol):
    """What a script says about its peer."""

    batch: int
    """Jobs per call of `many`."""

    async def setup(self) -> None: ...

    async def open(self) -> None:
        """Connect as a producer."""

    async def one(self, number: int) -> None:
        """Enqueue one job; it is committed on return."""

    async def many(self, numbers: range) -> None:
        """Enqueue a batch; it is committed on return."""

    async def later(self, dues: list[tuple[int, float]]) -> None:
        """Enqueue jobs for instants to come, in unix seconds."""

    def work(self, mode: str, size: int) -> Coroutine[Any, Any, None] | None:
        """Be a worker, from `ready(mode, size)` on, until stopped; a coroutine is run on a loop."""


def drive(peer: Peer, *, blocking: bool = False) -> None:
    """Do what the command line says, and end the process. `blocking`: the client refuses to be called on a loop."""
    command, *words = sys.argv[1:]
    if command == "work":
        working = peer.work(words[0], int(words[1]))
        if inspect.iscoroutine(working):
            _run(working)
    else:
        doing = _COMMANDS[command](peer, *map(float, words))
        if blocking:
            with suppress(StopIteration):  # it never waits for anything, so one step is all of it
                doing.send(None)
        else:
            _run(doing)
    sys.stdout.flush()
    os._exit(0)  # whatever threads and pools a client has started


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    try:
        import_module("uvloop").run(coroutine)
    except ModuleNotFoundError:
        asyncio.run(coroutine)


async def _setup(peer: Peer) -> None:
    await peer.setup()


async def _enqueue(peer: Peer, count: float) -> None:
    await peer.open()
    await peer.one(0)
    began = time.monotonic()
    for number in range(int(count)):
        await peer.one(number)
    _say(json.dumps({"seconds": time.monotonic() - began}))


async def _bulk(peer: Peer, count: float) -> None:
    await peer.open()
    began = time.monotonic()
    for first in range(0, int(count), peer.batch):
        await peer.many(range(first, min(first + peer.batch, int(count))))
    _say(json.dumps({"seconds": time.monotonic() - began}))


async def _pick_up(peer: Peer, count: float, gap: float) -> None:
    await peer.open()
    sent: list[tuple[int, int]] = []
    began = time.monotonic()
    for number in range(int(count)):
        time.sleep(max(0.0, began + number * gap - time.monotonic()))  # noqa: ASYNC251  nothing else runs
        await peer.one(number)
        sent.append((number, time.monotonic_ns()))
    _say(json.dumps({"sent": sent}))


async def _delayed(peer: Peer, count: float, span: float) -> None:
    await peer.open()
    first = time.time() + LEAD
    dues = [(number, first + number * span / count) for number in range(int(count))]
    await peer.later(dues)
    _say(json.dumps({"due": dues}))


_COMMANDS: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
    "setup": _setup,
    "enqueue": _enqueue,
    "bulk": _bulk,
    "pick-up": _pick_up,
    "delayed": _delayed,
}
