"""The pool of Python child processes for tasks that must be killable, or that already took a worker with them."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from worker.context import Call
from worker.outcome import Cancelled, Crashed, Ended, ExecutionFailed, Failed
from worker.processes import Process, Processes, ending

LAST_WORDS = (
    1.0  # seconds for what a dead child wrote and is still in the socket, when a child of its own keeps it open
)
READ = 65_536  # bytes a child's buffer takes at a time: asyncio would allocate 256 KiB anew for every answer
OUTCOMES = {"Failed": Failed, "Cancelled": Cancelled, "Crashed": Crashed}
# Our own packages are imported before the worker's path is taken over: "" is first on it, and a user's folder may
# well hold a worker.py or a scheduler/.
PROGRAM = """\
import json, sys
root, path, *modules = sys.argv[1:]
sys.path.insert(0, root)
from worker.child import main
main(json.loads(path), modules)
"""


class Children:
    """At most `limit` of them, started when needed and kept; one that dies is replaced by the next call."""

    def __init__(self, processes: Processes, modules: Sequence[str], limit: int, grace: float) -> None:
        self._processes = processes
        self._modules = modules
        self._grace = grace
        self._places = asyncio.Semaphore(limit)
        self._idle: list[_Child] = []

    async def call(self, call: Call, *, context: bool) -> Any:
        """The result of the call's task. Raises Ended as the child classified it, or as Crashed when the child died.

        `context`: the task takes one, so what it shows goes along.
        """
        async with self._places:
            child = self._fresh() or await self._started()
            try:
                return await child.ask(_request(call, context=context), call.log)
            except asyncio.CancelledError:
                await child.end(self._grace)
                raise
            finally:
                if child.usable:
                    self._idle.append(child)

    async def close(self) -> None:
        """End the children, and the guard that started them."""
        while self._idle:
            await self._idle.pop().end(0)
        await self._processes.close()

    def _fresh(self) -> _Child | None:
        while self._idle:
            child = self._idle.pop()
            if child.usable:  # it may have died since, such as for want of memory
                return child
        return None

    async def _started(self) -> _Child:
        root = str(Path(__file__).parent.parent)
        argv = [sys.executable, "-c", PROGRAM, root, json.dumps(sys.path), *self._modules]
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await self._processes.start(argv, stdin=theirs.fileno(), stdout=2, stderr=2)
        except OSError as error:
            ours.close()
            raise ExecutionFailed(f"cannot start a child process: {error}") from error
        except BaseException:
            ours.close()
            raise
        child = _Child(process)
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: child, sock=ours)
            await child.ready()
        except BaseException:
            await child.end(0)
            raise
        return child


class _Child(asyncio.BufferedProtocol):
    """One child process, with at most one question open."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray(READ)
        self._partial = bytearray()
        self._answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._log: Callable[[str, str], None] | None = None
        self._lost = False
        process.exited.add_done_callback(self._exited)

    @property
    def usable(self) -> bool:
        return (
            self._answer.done() and not self._answer.cancelled() and not self._lost and not self._process.exited.done()
        )

    async def ready(self) -> None:
        """Its modules are imported."""
        await self._answer

    async def ask(self, request: bytes, log: Callable[[str, str], None]) -> Any:
        self._answer = asyncio.get_running_loop().create_future()
        self._log = log
        assert self._transport is not None  # noqa: S101  `ready` has been awaited
        self._transport.write(request)
        return await self._answer

    async def end(self, grace: float) -> None:
        """End it with everything it started."""
        await self._process.end(grace)
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002  as asyncio calls it
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        *lines, rest = self._buffer[:nbytes].split(b"\n")
        for line in lines:
            whole = self._partial + line
            self._partial.clear()
            self._heard(whole[:1], whole[1:])
        self._partial += rest

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  as asyncio calls it
        self._lost = True
        if self._process.exited.done():
            self._crashed()
        else:
            self._process.signal(signal.SIGKILL)  # a task closed the descriptor under us: there is no talking to it

    def _exited(self, _: asyncio.Future[int]) -> None:
        self._process.signal(signal.SIGKILL)  # whatever the task had started in turn
        self._process.release()
        if self._lost:
            self._crashed()
        else:
            asyncio.get_running_loop().call_later(LAST_WORDS, self._crashed)

    def _crashed(self) -> None:
        if not self._answer.done():
            self._answer.set_exception(Ended(Crashed(f"child process {ending(self._process.exited.result())}")))
        if self._transport is not None:
            self._transport.close()

    def _heard(self, kind: bytearray, data: bytearray) -> None:
        if kind == b"L":
            if self._log is not None:
                self._log(*json.loads(data))
        elif self._answer.done():
            return
        elif kind == b"R":
            self._answer.set_result(json.loads(data) if data else None)
        elif kind == b"H":
            self._answer.set_result(None)
        elif kind == b"X":
            self._answer.set_exception(ExecutionFailed(f"in a child process: {json.loads(data)}"))
        else:
            name, fields = json.loads(data)
            self._answer.set_exception(Ended(OUTCOMES[name](**fields)))


def _request(call: Call, *, context: bool) -> bytes:
    request: dict[str, Any] = {"task": call.spec.get("task"), "args": call.spec.get("args")}
    # Without what no task asked for, and with a buffer of our own, no-op tasks went from 17,400/s to 23,300/s on uvloop
    # and from 12,300/s to 21,700/s on asyncio, two children. marshal instead of JSON added 9 and 17 %, and would need a
    # framing that nobody can read. The kernel took two fifths of the time before (perf stat), mostly for switching.
    if context:
        request["about"] = {
            "app": call.app,
            "run_id": call.run_id,
            "attempt": call.attempt,
            "scheduled": call.scheduled,
            "run": call.run,
            "ends": call.ends,
            "fence": call.fence,
            "timeout": call.timeout,
            "queue": call.queue,
            "job": call.job,
        }
    if call.traceparent is not None:
        request["traceparent"] = call.traceparent
    return json.dumps(request).encode() + b"\n"
