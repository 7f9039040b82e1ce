"""Servers and a worker that really run, with their metrics where a Prometheus finds them, as in the compose file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.fleet import QUICK, ROOT, Process
from tests.support.ports import free_port

DEMO = ROOT / "deploy" / "demo"
# What it reads for /metrics of a database that has little in it, it may read more often than of a large one.
SERVER = """
from scheduler import gauger
gauger.EVERY, gauger.RESTS, gauger.JOBS_REST = 0.5, 1.0, 1.0
from scheduler.cli import main
main()
"""


class Cluster:
    """Two servers, a worker and a shop with orders, as in the compose file."""

    def __init__(self, dsn: str, directory: Path) -> None:
        self.dsn = dsn
        self.server_at, self.other_server_at = free_address(), free_address()
        self.worker_at = free_address()
        self._directory = directory
        self._started: list[Process] = []

    def server(self, *words: str) -> Process:
        return self._start(["-c", SERVER, "run", "--no-worker", "--http", self.server_at, "--http-no-auth", *words])

    def other_server(self) -> Process:
        words = ["run", "--no-worker", "--name", "other", "--http", self.other_server_at, "--http-no-auth"]
        return self._start(["-c", SERVER, *words])

    def worker(self, *, skew: Path | None = None) -> Process:
        """`skew`: how far its wall clock is off, a file of `scheduler.verify.skewed`."""
        program = ["scheduler.cli"] if skew is None else ["scheduler.verify.skewed", str(skew)]
        words = ["--app", "shop", "billing", "--import", "shop", "tests.support.fleet_tasks", "--concurrency", "50"]
        return self._start(["-m", *program, "worker", *words, "--executors", "python", "--metrics", self.worker_at])

    def load(self) -> Process:
        return self._start(["-m", "shop", "10"])

    def targets(self) -> dict[str, list[str]]:
        return {"walclock-servers": [self.server_at, self.other_server_at], "walclock-workers": [self.worker_at]}

    def end(self) -> None:
        for process in self._started:
            process.end()
            print(f"--- {process.pid}, status {process.returncode}\n{process.log[-3000:]}")  # noqa: T201

    def _start(self, words: list[str]) -> Process:
        log = self._directory / f"process{len(self._started)}.log"
        # Jobs of a second are planned by rows, so that each instant is in the ledger when it comes, and not 5 s later.
        ours = {"SCHEDULER_DSN": self.dsn, "PYTHONPATH": f"{ROOT}:{DEMO}", "SCHEDULER_PULSE_BELOW": "0"}
        env = {**os.environ, **QUICK, **ours, "FLEET_EFFECTS": str(self._directory / "effects")}
        with log.open("wb") as file:
            popen = subprocess.Popen(
                [sys.executable, *words], stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=env
            )
        self._started.append(Process(popen, log))
        return self._started[-1]


@contextmanager
def cluster(dsn: str, directory: Path) -> Iterator[Cluster]:
    cluster = Cluster(dsn, directory)
    try:
        yield cluster
    finally:
        cluster.end()


def free_address() -> str:
    return f"127.0.0.1:{free_port()}"
