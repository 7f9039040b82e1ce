"""Threads for tasks that are plain functions, made so that one which never ends harms nobody else.

concurrent.futures is not enough: its threads are joined when the interpreter exits, so one stuck task would keep a
worker from stopping, and a stuck task would hold its place in the pool for ever. These threads are daemons, and one
that is no longer waited for gives its place to a new one and ends when its task does.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Literal


class _Work:
    __slots__ = ("function", "future", "loop", "state")

    def __init__(self, function: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.function = function
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.state: Literal["waiting", "running", "over", "abandoned"] = "waiting"

    def settle(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


class Threads:
    """At most `limit` functions at a time; the rest wait in order."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[_Work] = deque()
        self._ready = threading.Condition()
        self._threads = 0  # abandoned ones not counted
        self._idle = 0
        self._closed = False

    async def call(self, function: Callable[[], Any]) -> Any:
        """The function's result. When cancelled, the function is not waited for; if it had not begun, it never does."""
        work = _Work(function, asyncio.get_running_loop())
        with self._ready:
            self._waiting.append(work)
            if self._idle >= len(self._waiting):
                self._ready.notify()
            elif self._threads < self._limit:
                self._add()
        try:
            return await work.future
        except asyncio.CancelledError:
            self._abandon(work)
            raise

    def close(self) -> None:
        """Idle threads end now; a busy one ends with its task."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()

    def _add(self) -> None:
        self._threads += 1
        threading.Thread(target=self._serve, name="task", daemon=True).start()

    def _abandon(self, work: _Work) -> None:
        with self._ready:
            if work.state == "waiting":
                self._waiting.remove(work)
            elif work.state == "running":
                work.state = "abandoned"
                self._threads -= 1
                if self._waiting and self._threads < self._limit:
                    self._add()

    def _serve(self) -> None:
        while (work := self._next()) is not None:
            result, error = _ended(work.function)
            with self._ready:
                if work.state == "abandoned":
                    return
                work.state = "over"
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any longer
                work.loop.call_soon_threadsafe(work.settle, result, error)
            del work, result, error  # an idle thread must not keep the last result alive

    def _next(self) -> _Work | None:
        with self._ready:
            while not self._waiting:
                if self._closed:
                    self._threads -= 1
                    return None
                self._idle += 1
                self._ready.wait()
                self._idle -= 1
            work = self._waiting.popleft()
            work.state = "running"
            return work


def _ended(function: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return function(), None
    except StopIteration as error:  # a future refuses it, and whoever awaits would wait for ever
        wrapped = RuntimeError("the task raised StopIteration")
        wrapped.__cause__ = error
        return None, wrapped
    except BaseException as error:  # noqa: BLE001  whatever it is, the run has to end
        return None, error
