"""The process that starts a worker's child processes and ends them when the worker is gone, even by `kill -9`.

    worker ──(socket)── guard ──┬── command, leader of its own process group
                                └── …

It is run by path with `python -I -S`, imports only the standard library and takes some 9 MB. A worker has one.
Because the guard is the parent, there is no instant at which a child exists that it does not know: a worker killed
between starting a command and writing down its process group leaves nothing behind.

From the worker: records of 9 bytes, `S00000000` with four descriptors (request, stdin, stdout, stderr) to start what
the request, a JSON file, says: {"argv", "env", "cwd"}; `D` and a pid in hex when that group is done with.
To the worker: JSON lines. {"started": pid} or {"error": errno, "file": name} answers each start, in order;
{"ended": pid, "status": n} follows when a leader ends, n as in subprocess: negative for a signal.
When the socket closes, every group that is not done with gets SIGKILL, and the guard ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

RECORD = 9
OOM_ADJUSTMENT = "500"  # when memory runs out, a command goes before the worker that would report it


class Guard:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._leaders: dict[int, subprocess.Popen[bytes]] = {}
        self._groups: set[int] = set()
        self._wake, wake = socket.socketpair()
        for end in (self._wake, wake):
            end.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        self._wake_end = wake

    def serve(self) -> None:
        """Until the worker's end of the socket closes."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ)
            selector.register(self._control, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._wake in ready:
                    self._wake.recv(4096)
                    self._reap()
                if self._control in ready and not self._obey():
                    return

    def end_all(self) -> None:
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)

    def _obey(self) -> bool:
        record, descriptors, _, _ = socket.recv_fds(self._control, RECORD, 4)
        while record and len(record) < RECORD:
            record += self._control.recv(RECORD - len(record))
        if not record:
            return False
        if record[:1] == b"D":
            self._groups.discard(int(record[1:], 16))
        else:
            self._answer(self._started(descriptors))
        return True

    def _started(self, descriptors: list[int]) -> dict[str, Any]:
        try:
            request, stdin, stdout, stderr = descriptors
            with os.fdopen(os.dup(request), "rb") as file:
                file.seek(0)
                asked = json.loads(file.read())
            with _first_to_go():
                leader = subprocess.Popen(  # noqa: S603  starting what it is told is its purpose
                    asked["argv"],
                    env=asked["env"],
                    cwd=asked["cwd"],
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    start_new_session=True,
                )
        except OSError as error:
            return {"error": error.errno, "file": str(error.filename or "")}
        except ValueError as error:  # fewer descriptors than sent: the guard has no more of them; or a NUL byte
            return {"error": 0, "file": str(error)}
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        self._leaders[leader.pid] = leader
        self._groups.add(leader.pid)
        return {"started": leader.pid}

    def _reap(self) -> None:
        for pid, leader in list(self._leaders.items()):
            status = leader.poll()
            if status is not None:
                del self._leaders[pid]
                self._answer({"ended": pid, "status": status})

    def _answer(self, message: dict[str, Any]) -> None:
        self._control.sendall(json.dumps(message).encode() + b"\n")


@contextlib.contextmanager
def _first_to_go() -> Any:
    """A child inherits the OOM score at the fork; set afterwards, its own children could have missed it."""
    score = Path("/proc/self/oom_score_adj")
    try:
        before = score.read_text()
        score.write_text(OOM_ADJUSTMENT)
    except OSError:  # not Linux, or a worker with a higher score already
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            score.write_text(before)


def main() -> None:
    # The worker decides when to stop: a TERM for the whole service must not end commands that it still drains.
    # Handlers and not SIG_IGN, which commands would inherit.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    os.umask(os.umask(0o077) | 0o002)  # a worker that was started with umask 0 gives nobody files that all can write
    control = socket.socket(fileno=os.dup(0))
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    guard = Guard(control)
    try:
        guard.serve()
    except ConnectionError:
        pass  # the worker went away between two bytes
    finally:
        guard.end_all()


if __name__ == "__main__":
    main()
    sys.exit(0)
