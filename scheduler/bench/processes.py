"""Real `scheduler worker` and `scheduler run` processes, as users start them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from scheduler.bench import proc
from scheduler.bench.bench import Bench
from scheduler.bench.connection import value
from scheduler.errors import SchedulerError

_PATIENCE = 60.0  # seconds to start, or to drain
_LOOK = 0.02
_SETTLED = 0.3  # seconds: a process is registered a moment before it listens
_SHORT_GRACE = {"SCHEDULER_GRACE": "1"}  # runs that were meant to outlast a measurement are not waited for
_SHOWN = 300  # characters of the last words of one that died


class Process:
    """One of ours. It is a session leader, so that Ctrl-C reaches the benchmark alone, which then ends it."""

    def __init__(self, bench: Bench, kind: str, words: list[str], env: Mapping[str, str] | None = None) -> None:
        self._bench = bench
        self._kind = kind
        self._label = bench.label()
        self._log = bench.folder / f"{self._label}.log"
        with self._log.open("wb") as log:
            self._popen = subprocess.Popen(  # noqa: S603  this program
                [sys.executable, "-m", "scheduler.cli", *words, "--name", self._label],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "SCHEDULER_DSN": bench.dsn, **_SHORT_GRACE, **(env or {})},
                start_new_session=True,
            )
        bench.processes.callback(self.kill)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def wait_until_ready(self) -> None:
        """It is registered and listens."""
        late = time.monotonic() + _PATIENCE
        while not value(self._bench.conn, f"{self._kind}_is_there", self._label):
            self.check()
            if time.monotonic() > late:
                raise SchedulerError(f"a {self._kind} did not start within {_PATIENCE:g} s", hint=self._last_words())
            time.sleep(_LOOK)
        time.sleep(_SETTLED)

    def check(self) -> None:
        """SchedulerError when it has died."""
        if self._popen.poll() is not None:
            raise SchedulerError(
                f"a {self._kind} ended by itself with status {self._popen.returncode}", hint=self._last_words()
            )

    @property
    def peak_memory(self) -> int | None:
        """Bytes, of the process and its children."""
        return proc.peak_memory_of_tree(self.pid)

    def stop(self) -> None:
        """TERM, as a deployment would; KILL when that does not help."""
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGTERM)
        try:
            self._popen.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait()

    def _last_words(self) -> str:
        text = " ".join(self._log.read_text(errors="replace").split())
        return text[-_SHOWN:] or "it said nothing"


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
