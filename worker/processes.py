"""Child processes that can be ended with everything they started, and that do not survive their worker.

`Processes` asks a guard (see worker/guard.py) to start them, so the worker never forks: no copy of a large process,
no event-loop child watcher, no window in which a killed worker leaves a child behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

STARTS_AT_ONCE = 64  # answers awaited from the guard: the socket takes some 250 records before a send would block
LOOK_AGAIN = 0.02  # seconds between looks at a group that was told to end
# What an interpreter needs to start and to read names of files as the worker does. The guard outlives the worker by a
# moment and starts other people's programs, so it holds no password.
GUARD_ENV = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR")
UNKILLABLE = 5.0  # seconds after KILL: what is still there is stuck in the kernel, and the guard keeps it in mind


class Process:
    """A running child process, leader of its own process group and session."""

    def __init__(self, pid: int, forget: Callable[[int], None]) -> None:
        self.pid = pid
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._forget: Callable[[int], None] | None = forget

    async def wait(self) -> int:
        """The exit status of the leader: negative for the signal that ended it."""
        return await asyncio.shield(self.exited)

    def signal(self, number: signal.Signals) -> bool:
        """Signal the whole group; False when nothing is left of it."""
        if self._forget is None:  # the number may be somebody else's by now
            return False
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:  # a setuid program in the group: there, but not ours to signal
            return True
        return True

    async def end(self, grace: float) -> None:
        """TERM to the whole group; KILL to what is left of it after `grace` seconds, or at once when cancelled."""
        if self._forget is None:
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + grace
        try:
            there = self.signal(signal.SIGTERM)
            while there and loop.time() < until:
                await asyncio.sleep(LOOK_AGAIN)
                there = _exists(self.pid)
        finally:
            self.signal(signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.wait(), UNKILLABLE)
            self.release()

    def release(self) -> None:
        """Done with the group: what it left in the background, if anything, may outlive the worker."""
        forget, self._forget = self._forget, None
        if forget is not None:
            forget(self.pid)


class Processes:
    """The worker's side of its guard, which is started with the first child process."""

    def __init__(self) -> None:
        self._guard: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._asked: deque[asyncio.Future[Process]] = deque()
        self._alive: dict[int, Process] = {}
        self._partial = b""
        self._places = asyncio.Semaphore(STARTS_AT_ONCE)

    async def start(
        self,
        argv: Sequence[str],
        *,
        stdin: int,
        stdout: int,
        stderr: int,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> Process:
        """Start a program with these descriptors, which the caller still has to close.

        Raises OSError as the operating system says it, its filename being the program or the folder it is about.
        """
        request = {"argv": list(argv), "env": dict(os.environ if env is None else env), "cwd": cwd}
        async with self._places:
            answer = asyncio.get_running_loop().create_future()
            with scratch(json.dumps(request).encode()) as file:
                self._tell(b"S00000000", [file.fileno(), stdin, stdout, stderr])
            self._asked.append(answer)
            try:
                return await asyncio.shield(answer)
            except asyncio.CancelledError:
                answer.add_done_callback(_end_unwanted)
                raise

    async def close(self) -> None:
        """End the guard, and with it whatever still runs."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        self._disconnect()
        await asyncio.to_thread(guard.wait)

    def _tell(self, record: bytes, descriptors: Sequence[int] = ()) -> None:
        control = self._control or self._connect()
        try:
            sent = socket.send_fds(control, [record], descriptors)
            control.sendall(record[sent:])
        except ConnectionError as error:
            self._disconnect()
            raise OSError(0, "the process that starts commands has ended", "guard") from error

    def _connect(self) -> socket.socket:
        if self._guard is not None:
            # It was killed, and is replaced. Its socket closes an instant before it can be reaped: a look without a
            # wait left a zombie, now and then.
            self._guard.wait()
        ours, theirs = socket.socketpair()
        program = str(Path(__file__).with_name("guard.py"))
        with theirs:
            self._guard = subprocess.Popen(  # noqa: S603  our own file, our own interpreter
                [sys.executable, "-I", "-S", program],
                stdin=theirs.fileno(),
                env={name: os.environ[name] for name in GUARD_ENV if name in os.environ},
                start_new_session=True,
            )
        asyncio.get_running_loop().add_reader(ours.fileno(), self._read)
        self._control = ours
        return ours

    def _disconnect(self) -> None:
        control, self._control = self._control, None
        if control is None:
            return
        asyncio.get_running_loop().remove_reader(control.fileno())
        control.close()
        self._partial = b""
        for process in self._alive.values():  # the guard does it as well, unless it was killed itself
            process.signal(signal.SIGKILL)
            _settle(process.exited, -signal.SIGKILL)
        self._alive.clear()
        while self._asked:
            _refuse(self._asked.popleft(), OSError(0, "the process that starts commands has ended", "guard"))

    def _read(self) -> None:
        control = self._control
        if control is None:
            return
        try:
            data = control.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._disconnect()
            return
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._heard(json.loads(line))

    def _heard(self, message: dict[str, Any]) -> None:
        if "ended" in message:
            process = self._alive.pop(message["ended"], None)
            if process is not None:
                _settle(process.exited, message["status"])
            return
        answer = self._asked.popleft()
        if "started" in message:
            process = self._alive[message["started"]] = Process(message["started"], self._done)
            answer.set_result(process)
        else:
            number = message["error"]
            _refuse(answer, OSError(number, os.strerror(number) if number else message["file"], message["file"]))

    def _done(self, pid: int) -> None:
        if self._control is not None:
            with contextlib.suppress(OSError):
                self._tell(b"D%08x" % pid)


def scratch(data: bytes) -> BinaryIO:
    """A nameless file that holds these bytes, read from its start. In memory where it can be: a container's file
    system may well be read-only.
    """
    file: BinaryIO
    if sys.platform == "linux":
        file = os.fdopen(os.memfd_create("walclock"), "w+b")
    else:
        file = TemporaryFile()  # noqa: SIM115  the caller closes it
    file.write(data)
    file.seek(0)
    return file


def ending(status: int) -> str:
    """`ended by signal 11 (SIGSEGV)`, or `ended with exit code 3`."""
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"ended by signal {-status} ({signal.Signals(-status).name})"
    except ValueError:  # a real-time signal has no name
        return f"ended by signal {-status}"


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _end_unwanted(answer: asyncio.Future[Process]) -> None:
    """Whoever asked for the process was cancelled before it had started."""
    if not answer.cancelled() and answer.exception() is None:
        answer.result().signal(signal.SIGKILL)
        answer.result().release()


def _settle(future: asyncio.Future[int], status: int) -> None:
    if not future.done():
        future.set_result(status)


def _refuse(future: asyncio.Future[Process], error: OSError) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # seen: whoever asked may be gone
