"""The servers and workers: a place for each, in which another process is started when one has died."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from pathlib import Path

from scheduler.errors import SchedulerError
from scheduler.process import COMMAND, Process
from scheduler.verify import skewed
from scheduler.verify.programme import APPS, Programme
from scheduler.verify.recorder import VARIABLE
from scheduler.verify.scratch import Scratch, statement

_PATIENCE = 60.0  # seconds to start
_REST = 0.5  # seconds between two starts in one place: one that cannot start must not take the machine


@dataclass(frozen=True, slots=True)
class Exit:
    """A process that ended while it should not have."""

    kind: str
    label: str
    pid: int
    status: int
    started: float
    at: float
    said: str


class Fleet:
    def __init__(self, programme: Programme, scratch: Scratch, folder: Path, record: Path) -> None:
        self.exits: list[Exit] = []
        self._options = programme.options
        self._programme = programme
        self._scratch = scratch
        self._folder = folder
        self._env = {"SCHEDULER_DSN": scratch.dsn, "SCHEDULER_GRACE": "1", VARIABLE: str(record)}
        self._processes: dict[int, Process] = {}
        self._started: dict[int, float] = {}
        self._starts = [0] * (self._options.servers + self._options.workers)

    def start(self) -> None:
        """All of them; returns when they are registered."""
        for place in range(len(self._starts)):
            self._start(place)
        late = time.monotonic() + _PATIENCE
        wanted = (self._options.servers, self._options.workers)
        with self._scratch.connect("fleet") as conn:
            while conn.execute(statement("alive")).fetchone() != wanted:
                for process in self._processes.values():
                    process.check()
                if time.monotonic() > late:
                    raise SchedulerError(f"the processes did not start within {_PATIENCE:g} s")
                time.sleep(0.05)

    def watch(self) -> None:
        """Start another process where one has ended."""
        for place, process in list(self._processes.items()):
            status = process.status
            if status is None or time.monotonic() < self._started[place] + _REST:
                continue
            self.exits.append(
                Exit(
                    process.kind,
                    process.label,
                    process.pid,
                    status,
                    self._started[place],
                    time.monotonic(),
                    process.last_words(),
                )
            )
            self._start(place)

    def kill(self, place: int) -> int:
        """The pid of the dead; `watch` replaces it."""
        self._processes[place].kill()
        return self._processes[place].pid

    def suspend(self, place: int) -> int:
        self._processes[place].signal(signal.SIGSTOP)
        return self._processes[place].pid

    def resume(self, place: int) -> None:
        """Whatever runs in the place now; one that does not stand still is not moved by it."""
        self._processes[place].signal(signal.SIGCONT)

    def step(self, place: int, seconds: float) -> int:
        """Set the wall clock of a process."""
        skewed.write(self._clock(place), seconds)
        return self._processes[place].pid

    def end(self) -> None:
        for process in self._processes.values():
            process.kill()

    def _start(self, place: int) -> None:
        self._starts[place] += 1
        number = self._starts[place]
        is_server = place < self._options.servers
        words = ["run", "--no-worker"]
        if not is_server:
            words = ["worker", *(word for app in APPS for word in ("--app", app)), "--import", "worker.verify"]
            words += ["--executors", "python", "--concurrency", str(self._options.concurrency)]
        label = f"verify_{place}_{number}"
        program: tuple[str, ...] = COMMAND
        if "clock" in self._options.faults:
            skewed.write(self._clock(place), self._programme.skew(place, number))
            program = ("-m", "scheduler.verify.skewed", str(self._clock(place)))
        self._started[place] = time.monotonic()
        self._processes[place] = Process(
            words,
            kind="server" if is_server else "worker",
            label=label,
            log=self._folder / f"{label}.log",
            env=self._env,
            program=program,
        )

    def _clock(self, place: int) -> Path:
        return self._folder / f"clock_{place}"
