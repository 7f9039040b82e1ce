"""Threads for tasks that are plain functions, made so that one which never ends harms nobody else.

concurrent.futures is not enough: its threads are joined when the interpreter exits, so one stuck task would keep a
worker from stopping, and a stuck task would hold its place in the pool for ever. These threads are daemons, and one
that is no longer waited for gives its place to a new one and ends when its task does.

What short functions cost is not their calls but threads that wake each other up only to queue for the interpreter's
lock. When every call woke a thread and every result the loop, 46,000 no-op functions/s got through, 200 at a time on as
many threads, and 178,000/s on 4 threads; by these two rules it is 241,000/s, whatever the limit (uvloop, two cores):

- One thread at a time is being woken, and it wakes the next if it still finds something waiting. While functions are
  shorter than a wake-up, one or two threads do everything; when they block, there are soon as many as the limit.
- The first result that has gathered wakes the loop, and the loop takes all there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Literal


class _Work:
    __slots__ = ("context", "error", "function", "future", "result", "state")

    def __init__(self, function: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self.function = function
        self.context = copy_context()  # what one function sets, the next one on its thread does not see
        self.future = future
        self.state: Literal["waiting", "running", "over", "abandoned"] = "waiting"
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self.context.run(self.function)
        except StopIteration as error:  # a future refuses it, and whoever awaits would wait for ever
            self.error = RuntimeError("the task raised StopIteration")
            self.error.__cause__ = error
        except BaseException as error:  # noqa: BLE001  whatever it is, the run has to end
            self.error = error

    def settle(self) -> None:
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class Threads:
    """At most `limit` functions at a time; the rest wait in order. All calls come from one event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()  # held for everything below
        self._waiting: deque[_Work] = deque()
        self._threads = 0  # abandoned ones not counted
        self._idle: list[threading.Lock] = []  # gates at which threads sleep; who came last goes first, still warm
        self._waking = False  # a thread was woken or started, and has not looked for work yet
        self._over: list[_Work] = []
        self._told = False  # the loop is going to look at what is over
        self._closed = False

    async def call(self, function: Callable[[], Any]) -> Any:
        """The function's result. When cancelled, the function is not waited for; if it had not begun, it never does."""
        work = _Work(function, asyncio.get_running_loop().create_future())
        with self._lock:
            self._waiting.append(work)
            self._wake()
        try:
            return await work.future
        except asyncio.CancelledError:
            self._abandon(work)
            raise

    def close(self) -> None:
        """Idle threads end now; a busy one ends with its task."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().release()

    def _abandon(self, work: _Work) -> None:
        with self._lock:
            if work.state == "waiting":
                self._waiting.remove(work)
            elif work.state == "running":
                work.state = "abandoned"
                self._threads -= 1
                self._wake()

    def _wake(self) -> None:
        """See to it that one more thread looks for work, if there is any."""
        if self._waking or not self._waiting:
            return
        if self._idle:
            self._waking = True
            self._idle.pop().release()
        elif self._threads < self._limit:
            self._waking = True
            self._threads += 1
            try:
                threading.Thread(target=self._serve, name="task", daemon=True).start()
            except RuntimeError as error:  # no more are to be had: those there are go on
                self._waking = False
                self._threads -= 1
                if not self._threads:
                    self._refuse(error)

    def _refuse(self, error: RuntimeError) -> None:
        """There is no thread to serve what waits: it fails, or it would wait for ever. On the loop: no thread asked."""
        while self._waiting:
            work = self._waiting.popleft()
            work.state = "over"
            work.error = error
            work.future.get_loop().call_soon(work.settle)

    def _serve(self) -> None:
        gate = threading.Lock()
        gate.acquire()
        woken = True
        while (work := self._next(gate, woken=woken)) is not None:
            work.run()
            if not self._report(work):
                return
            woken = False
            del work  # an idle thread must not keep the last result alive

    def _next(self, gate: threading.Lock, *, woken: bool) -> _Work | None:
        while True:
            with self._lock:
                if woken:
                    self._waking = False
                if self._waiting:
                    work = self._waiting.popleft()
                    work.state = "running"
                    self._wake()
                    return work
                if self._closed:
                    self._threads -= 1
                    return None
                self._idle.append(gate)
            gate.acquire()
            woken = True

    def _report(self, work: _Work) -> bool:
        """False when nobody waits for it any longer, and the thread has lost its place."""
        with self._lock:
            if work.state == "abandoned":
                return False
            work.state = "over"
            self._over.append(work)
            told, self._told = self._told, True
        if not told:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any longer
                work.future.get_loop().call_soon_threadsafe(self._settle)
        return True

    def _settle(self) -> None:
        with self._lock:
            over, self._over = self._over, []
            self._told = False
        for work in over:
            work.settle()
