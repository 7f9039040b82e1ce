"""Real processes around an embedded server, and what is left of it."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scheduler.embedded import Embedded
from scheduler.embedded.supervise import START_LOCK, describe_process, living_postmaster, open_lock, try_lock

ROOT = Path(__file__).parents[2]
_USER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from scheduler.embedded import Embedded
with ExitStack() as stack, ThreadPoolExecutor(int(sys.argv[2])) as pool:
    servers = [Embedded(Path(sys.argv[1])) for _ in range(int(sys.argv[2]))]
    for server in servers:
        stack.callback(server.stop)
    print(*set(pool.map(Embedded.start, servers)), flush=True)
    sys.stdin.read()
"""


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(0.02)


def start_python(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A process in a process group of its own, like one that a terminal started."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )


class UserProcess:
    """A process that uses the server, once or several times over, until it is told to leave, interrupted or killed."""

    def __init__(self, data_dir: Path, times: int = 1) -> None:
        self.process = start_python(_USER, data_dir, times)

    def dsn(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def begin_to_leave(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.stdin = None

    def leave(self) -> None:
        self.process.communicate()
        assert self.process.returncode == 0

    def interrupt(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.communicate()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def postmaster(data_dir: Path) -> int | None:
    pgdata = data_dir / "pgdata"
    return living_postmaster(pgdata, pgdata.stat().st_uid) if pgdata.exists() else None


def supervisor(data_dir: Path) -> int:
    lock = data_dir / "supervisor.lock"
    wait_until(lambda: lock.read_text().strip())  # empty while it starts
    return int(lock.read_text())


def is_starting(data_dir: Path) -> bool:
    lock = open_lock(data_dir / START_LOCK)
    try:
        return not try_lock(lock, fcntl.LOCK_SH)
    finally:
        os.close(lock)


def has_ended(pid: int | None) -> bool:
    """A zombie counts as ended: in a container its new parent may never reap it."""
    assert pid is not None
    return not describe_process(pid)[1]


@contextmanager
def data_directory() -> Iterator[Path]:
    """A directory in which root's server, another user, can work: pytest's own are closed to others."""
    data_dir = Path(tempfile.mkdtemp(prefix="walclock-test-"))
    try:
        yield data_dir
    finally:
        end_server(data_dir)
        shutil.rmtree(data_dir)


@contextmanager
def initialised_directory() -> Iterator[Path]:
    """For tests that use it one after another, and so spare each its initdb (1 to 4 s on a slow disk)."""
    with data_directory() as data_dir:
        with Embedded(data_dir):
            pass
        yield data_dir


def end_server(data_dir: Path) -> None:
    """What a failed test left."""
    pid = postmaster(data_dir)
    if pid is not None:
        for victim in (supervisor(data_dir), pid):
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        wait_until(lambda: has_ended(pid))
