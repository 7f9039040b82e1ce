"""When something started, written to a file by another process on this machine and read here."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from scheduler.errors import SchedulerError

_PATIENCE = 30.0  # seconds without another start
_LOOK = 0.05


class Stamps:
    """A file to which each start appends `number monotonic wall`, both clocks in nanoseconds."""

    def __init__(self, path: Path) -> None:
        """The file is made anew."""
        self.path = path
        path.write_bytes(b"")

    def read(self) -> dict[int, tuple[int, int]]:
        """(monotonic, wall) of each number; of one that started twice, the later."""
        whole, _, _ = self.path.read_bytes().decode().rpartition("\n")  # the last line may be on its way
        words = [line.split() for line in whole.splitlines()]
        return {int(number): (int(monotonic), int(wall)) for number, monotonic, wall in words}

    def wait(self, count: int, check: Callable[[], None] = lambda: None) -> dict[int, tuple[int, int]]:
        """All of them, once there are so many. SchedulerError when they do not come."""
        before, since = 0, time.monotonic()
        while len(found := self.read()) < count:
            check()
            if len(found) > before:
                before, since = len(found), time.monotonic()
            elif time.monotonic() - since > _PATIENCE:
                raise SchedulerError(f"{len(found)} of {count} have started, and no more came for {_PATIENCE:g} s")
            time.sleep(_LOOK)
        return found
