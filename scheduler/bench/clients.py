"""Client processes: they are apart from the benchmark, so that its own work is not part of what they measure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from scheduler import db
from scheduler.bench.bench import Bench
from scheduler.errors import SchedulerError


class Inserters:
    """So many connections that insert, spread over as many processes as there are CPUs."""

    def __init__(self, bench: Bench, count: int, inserts: Mapping[str, list[str]]) -> None:
        processes = min(count, os.cpu_count() or 1)
        self._processes = [
            _Process(
                bench,
                "inserter",
                schema=bench.schema,
                inserts=inserts,
                count=count // processes + (number < count % processes),
            )
            for number in range(processes)
        ]
        for one in self._processes:
            one.hear()

    def insert(self, name: str, seconds: float) -> tuple[int, float]:
        """Commits, and how long the slowest process took."""
        for one in self._processes:
            one.say(f"{name} {seconds}")
        answers = [one.hear().split() for one in self._processes]
        return sum(int(commits) for commits, _ in answers), max(float(took) for _, took in answers)

    def close(self) -> None:
        for one in self._processes:
            one.kill()


@contextmanager
def inserters(bench: Bench, count: int, **inserts: list[str]) -> Iterator[Inserters]:
    """Connected clients that have statements prepared; a statement's name with its parameters, all of them texts."""
    clients = Inserters(bench, count, inserts)
    yield clients
    clients.close()


@contextmanager
def listener(bench: Bench, stamps: str) -> Iterator[None]:
    """A connection that listens, in a process that writes a stamp for each notification."""
    process = _Process(bench, "listener", stamps=stamps)
    process.hear()
    yield
    process.kill()


class _Process:
    """A module of this package as a process: a line in, a line out."""

    def __init__(self, bench: Bench, module: str, **told: Any) -> None:
        self._popen = subprocess.Popen(  # noqa: S603  a module of ours
            [sys.executable, "-m", f"scheduler.bench.{module}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        bench.processes.callback(self.kill)
        self.say(json.dumps({"conninfo": db.read_dsn(bench.dsn, name=bench.mark), **told}))

    def say(self, line: str) -> None:
        assert self._popen.stdin is not None  # noqa: S101  it is a pipe
        self._popen.stdin.write(f"{line}\n")
        self._popen.stdin.flush()

    def hear(self) -> str:
        assert self._popen.stdout is not None  # noqa: S101
        line = self._popen.stdout.readline()
        if not line:
            _, said = self._popen.communicate()
            raise SchedulerError(f"a client process ended: {' '.join(said.split()[-40:])}")
        return line

    def kill(self) -> None:
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.communicate()
