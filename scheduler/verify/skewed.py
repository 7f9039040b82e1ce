"""`python -m scheduler.verify.skewed FILE …`: the command line, in a process whose wall clock is off.

FILE holds how far, in seconds, as a double; whoever writes another one there lets the clock step. All that a service
reads of the wall clock it reads by `time.time`; files and child processes keep the machine's.
"""

from __future__ import annotations

import mmap
import runpy
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

_DOUBLE = struct.Struct("d")


def write(file: Path, seconds: float) -> None:
    """Set how far a clock is off, also of a process that is running."""
    with file.open("r+b" if file.exists() else "wb") as out:
        out.write(_DOUBLE.pack(seconds))


def clock(file: Path, real: Callable[[], float]) -> Callable[[], float]:
    """A wall clock that is off by what the file says."""
    with file.open("rb") as opened:
        seconds = mmap.mmap(opened.fileno(), _DOUBLE.size, access=mmap.ACCESS_READ)
    return lambda: real() + float(_DOUBLE.unpack(seconds[: _DOUBLE.size])[0])


def main() -> None:
    time.time = clock(Path(sys.argv[1]), time.time)
    sys.argv[1:] = sys.argv[2:]
    runpy.run_module("scheduler.cli", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
