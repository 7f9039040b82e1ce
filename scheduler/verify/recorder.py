"""What was executed, as the tasks themselves wrote it down (see worker/verify.py), outside the database."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

VARIABLE = "WALCLOCK_VERIFY_RECORD"


@dataclass(slots=True)
class Execution:
    """One attempt as it was seen. Instants are seconds of the machine's monotonic clock."""

    key: str
    run: int
    attempt: int
    fence: int
    pid: int
    scheduled: float | None
    began: float
    ended: float | None = None
    """None: it was broken off."""


@dataclass(slots=True)
class Record:
    executions: list[Execution] = field(default_factory=list)
    twice: list[Execution] = field(default_factory=list)
    """Begun although the same run had begun under the same fence: these are in `executions` only once."""
    poisoned: list[tuple[int, float]] = field(default_factory=list)
    """Processes that a poisonous run was about to kill, and when."""


class Recorder:
    """The file. The straggler, which is no worker process, writes into it as the tasks do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, what: str, key: str, run: int, attempt: int, fence: int) -> None:
        line = f"{what} {key} {run} {attempt} {fence} {os.getpid()} {time.monotonic_ns()} -\n"
        os.write(self._file, line.encode())

    def close(self) -> None:
        os.close(self._file)


def read(path: Path) -> Record:
    """All that is in the file. A last line that was cut off by a kill is no line; there is none in between."""
    record = Record()
    begun: dict[tuple[int, int], Execution] = {}
    with path.open() as lines:
        for line in lines:
            if line.endswith("\n"):
                _take(record, begun, line.split())
    return record


def _take(record: Record, begun: dict[tuple[int, int], Execution], words: list[str]) -> None:
    what, key, *numbers, scheduled = words
    run, attempt, fence, pid, nanoseconds = (int(number) for number in numbers)
    at = nanoseconds / 1e9
    if what == "P":
        record.poisoned.append((pid, at))
        return
    known = begun.get((run, fence))
    if what == "E":
        if known is not None:
            known.ended = at
        return
    instant = None if scheduled == "-" else float(scheduled)
    execution = Execution(key, run, attempt, fence, pid, instant, at)
    if known is not None:
        record.twice.append(execution)
        return
    begun[run, fence] = execution
    record.executions.append(execution)
