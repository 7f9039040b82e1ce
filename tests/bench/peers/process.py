"""A peer's script as a process: told what to do, read, measured with all its children, and ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.bench.peers import cache

_TICKS = os.sysconf("SC_CLK_TCK")
_SHOWN = 2000  # characters of what a failed script wrote
PATIENCE = 60.0  # seconds until a worker is loaded
LONGEST = 300  # seconds for one command of a script


def say(command: Sequence[str | Path], environment: Mapping[str, str]) -> dict[str, Any]:
    """Run a script to its end and return the one object it printed; RuntimeError with its last words if it failed."""
    done = subprocess.run(
        command, env=environment, cwd=cache.ROOT, capture_output=True, text=True, timeout=LONGEST, check=False
    )
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            found: dict[str, Any] = json.loads(line)
            return found
    if done.returncode:
        raise RuntimeError(f"{command[-2:]} ended with {done.returncode}: {(done.stdout + done.stderr)[-_SHOWN:]}")
    return {}


class Worker:
    """A worker process, from its start to its kill. Loaded on entry; looks for work from `go` on."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> None:
        self._command = command
        self._environment = environment
        self._log = log
        self._ready = threading.Event()
        self._over = threading.Event()
        self.count = self.first = self.last = 0
        self.times: dict[int, int] = {}
        self._processes: list[int] = []

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=cache.ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(PATIENCE) or not self.is_alive:
            self.__exit__(None, None, None)
            raise RuntimeError(f"a worker did not come up: {self._log.read_text()[-_SHOWN:]}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(3)
        for pid in self._processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def go(self) -> None:
        self._tell("GO")

    def stop(self) -> None:
        """Ask for the times of all starts, and wait for them; it ends the worker."""
        if self._processes:
            return
        self._processes = tree(self.pid)  # before it is gone, and its children are somebody else's
        self._tell("STOP")
        self._over.wait(10)

    def _tell(self, word: str) -> None:
        with suppress(OSError, ValueError):
            print(word, file=self._process.stdin, flush=True)

    def _read(self) -> None:
        for line in self._process.stdout or ():
            if line.startswith("READY"):
                self._ready.set()
            elif line.startswith('{"times"'):
                self.times = dict(json.loads(line)["times"])
                self._over.set()
            elif line.startswith('{"count"'):
                self.count, self.first, self.last = json.loads(line).values()
        self._ready.set()
        self._over.set()


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        if found := _stat(int(path.name)):
            children.setdefault(int(found[1]), []).append(int(path.name))
    found_pids = [pid]
    for parent in found_pids:
        found_pids += children.get(parent, [])
    return found_pids


def cpu(pids: Iterable[int]) -> float:
    """CPU seconds of processes and their children so far, the ended ones included."""
    stats = [stat for pid in pids for one in tree(pid) if (stat := _stat(one))]
    return sum(int(ticks) for stat in stats for ticks in stat[11:15]) / _TICKS


def resident(pid: int) -> float:
    """The most MiB that a process and its children ever held, summed."""
    total = 0
    for one in tree(pid):
        with suppress(OSError):
            lines = Path(f"/proc/{one}/status").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return total / 1024


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name, which may hold anything: state, parent, …"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
