"""The process in which tasks run that must be killable: one at a time, one JSON line in, lines out.

In: {"task", "args"}, "traceparent", and "about", what a Context shows, for a task that takes one. Out, the first byte
saying what: `H` ready, `X` modules that cannot be imported, `L` [stream, text] for the log, `R` the result, empty for
None, `E` the outcome of a task that raised.
What a task prints goes to the log as well, as its stdout and stderr; what a program that it starts prints does not.
It ends when the worker closes the socket, and by PR_SET_PDEATHSIG when the guard that started it dies.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import ctypes
import inspect
import io
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any

from msgspec.structs import asdict

from scheduler import telemetry
from scheduler.errors import ConfigError
from scheduler.tracing import activate
from worker.context import Call, Context
from worker.executors.python import exited, invoke, resolve
from worker.outcome import ExecutionFailed, classify, storable
from worker.registry import import_modules

PR_SET_PDEATHSIG = 1


class Child:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()  # a task may log from threads of its own
        self._runner = asyncio.Runner()
        self._pid = os.getpid()
        self._is_asked = False
        self._printed = [self._stream("stdout", 1), self._stream("stderr", 2)]

    def serve(self, modules: Sequence[str]) -> None:
        sys.stdout, sys.stderr = self._printed
        try:
            import_modules(modules)
        except ConfigError as error:
            self._send(b"X", json.dumps(str(error)).encode())
            return
        self._send(b"H", b"")
        with self._runner, open(self._connection.fileno(), "rb", closefd=False) as lines:
            for line in lines:
                copy_context().run(self._answer, json.loads(line))  # what a task sets, the next one does not see

    def _answer(self, request: dict[str, Any]) -> None:
        self._is_asked = True
        try:
            kind, data = b"R", storable(self._result(request)) or b""
        except BaseException as error:  # noqa: BLE001  whatever a task raises is its outcome
            kind, data = b"E", _outcome(error)
        for stream in self._printed:
            with contextlib.suppress(ValueError, OSError):  # the task closed it
                stream.flush()
        self._is_asked = False
        if os.getpid() != self._pid:
            os._exit(0)  # a copy made by os.fork() in the task, which has no business answering for it
        self._send(kind, data)

    def _result(self, request: dict[str, Any]) -> Any:
        task = resolve(request)
        context = Context(self._call(request)) if task.wants_context else None
        activate(request.get("traceparent"))
        try:
            result = invoke(task, request, context)
            # Not Runner.run, which takes over SIGINT for each call, though nobody presses Ctrl-C in this session:
            # 44 µs a call in the child instead of 98, together with the shorter request.
            return self._runner.get_loop().run_until_complete(result) if inspect.iscoroutine(result) else result
        except (SystemExit, KeyboardInterrupt) as error:
            raise ExecutionFailed(exited(error)) from error

    def _call(self, request: dict[str, Any]) -> Call:
        if "about" not in request:
            raise ExecutionFailed(
                f"task {request['task']!r} takes a context in the child process, and none in the worker: "
                "its module was changed since the worker started, which has to be started anew"
            )
        return Call(
            spec=request,
            isolate=True,
            write=self._write,
            traceparent=request.get("traceparent"),
            **request["about"],
        )

    def _write(self, _app: str, _run_id: int, _attempt: int, stream: str, text: str) -> None:
        self._send(b"L", json.dumps([stream, text]).encode())

    def _stream(self, name: str, file: int) -> io.TextIOWrapper:
        """What `sys.stdout` is from here on: sends lines, and while no task runs writes where they went before."""
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode

        def write(data: bytes) -> None:
            if self._is_asked and os.getpid() == self._pid:
                self._send(b"L", json.dumps([name, decode(data)]).encode())
            else:
                os.write(file, data)

        return io.TextIOWrapper(
            io.BufferedWriter(_Printed(write, file)), encoding="utf-8", errors="backslashreplace", line_buffering=True
        )

    def _send(self, kind: bytes, data: bytes) -> None:
        with self._sending:
            self._connection.sendall(kind + data + b"\n")


class _Printed(io.RawIOBase):
    def __init__(self, write: Callable[[bytes], None], file: int) -> None:
        super().__init__()
        self._write = write
        self._file = file

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file

    def write(self, data: Any) -> int:
        self._write(bytes(data))
        return len(data)


def _outcome(error: BaseException) -> bytes:
    outcome = classify(error)
    return json.dumps([type(outcome).__name__, asdict(outcome)]).encode()


def _die_with_parent() -> None:
    """The guard kills this process when the worker dies; the kernel does when the guard dies too."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(path: Sequence[str], modules: Sequence[str]) -> None:
    """Serve on the socket that is standard input, which tasks see as /dev/null."""
    _die_with_parent()
    sys.path[:] = path
    os.environ.setdefault("OTEL_BSP_SCHEDULE_DELAY", "500")  # ms: it is killed when it is not needed any more
    telemetry.start()
    connection = socket.socket(fileno=os.dup(0))
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    with connection, contextlib.suppress(ConnectionError):
        Child(connection).serve(modules)
