"""Real `scheduler worker` and `scheduler run` processes, as users start them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from scheduler import process
from scheduler.bench import proc
from scheduler.bench.bench import Bench
from scheduler.bench.connection import value
from scheduler.errors import SchedulerError

_PATIENCE = 60.0  # seconds to start
_LOOK = 0.02
_SETTLED = 0.3  # seconds: a process is registered a moment before it listens
_SHORT_GRACE = {"SCHEDULER_GRACE": "1"}  # runs that were meant to outlast a measurement are not waited for


class Process(process.Process):
    """One of the benchmark's, which ends it at the latest."""

    def __init__(self, bench: Bench, kind: str, words: list[str], env: Mapping[str, str] | None = None) -> None:
        self._bench = bench
        label = bench.label()
        super().__init__(
            words,
            kind=kind,
            label=label,
            log=bench.folder / f"{label}.log",
            env={"SCHEDULER_DSN": bench.dsn, **_SHORT_GRACE, **(env or {})},
        )
        bench.processes.callback(self.kill)

    def wait_until_ready(self) -> None:
        """It is registered and listens."""
        late = time.monotonic() + _PATIENCE
        while not value(self._bench.conn, f"{self.kind}_is_there", self.label):
            self.check()
            if time.monotonic() > late:
                raise SchedulerError(f"a {self.kind} did not start within {_PATIENCE:g} s", hint=self.last_words())
            time.sleep(_LOOK)
        time.sleep(_SETTLED)

    @property
    def peak_memory(self) -> int | None:
        """Bytes, of the process and its children."""
        return proc.peak_memory_of_tree(self.pid)


@contextmanager
def workers(
    bench: Bench,
    app: str,
    count: int,
    *,
    concurrency: int,
    env: Mapping[str, str] | None = None,
    executor: str = "python",
) -> Iterator[list[Process]]:
    """So many worker processes of an app, ready; ended with the block."""
    words = ["worker", "--app", app, "--import", "worker.bench", "--executors", executor]
    words += ["--concurrency", str(concurrency)]
    with _running([Process(bench, "worker", words, env) for _ in range(count)]) as started:
        yield started


@contextmanager
def server(bench: Bench) -> Iterator[Process]:
    """A server process without a worker, ready; ended with the block."""
    env = {"SCHEDULER_PULSE_BELOW": "0"}  # all is planned by rows: that is what is measured
    with _running([Process(bench, "server", ["run", "--no-worker"], env)]) as started:
        yield started[0]


def peak_memory(processes: list[Process]) -> float | None:
    """Bytes that the largest of them had resident."""
    peaks = [peak for one in processes if (peak := one.peak_memory) is not None]
    return max(peaks, default=None)


@contextmanager
def _running(processes: list[Process]) -> Iterator[list[Process]]:
    """They drain when the block ends well; otherwise the benchmark is over, and kills them."""
    for one in processes:
        one.wait_until_ready()
    yield processes
    for one in processes:
        one.stop()
