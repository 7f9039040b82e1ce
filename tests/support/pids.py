"""Looks at processes from outside: who is alive, and waiting for what they do."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PATIENCE = 20.0  # seconds: a loaded machine is slow, not wrong


def alive(pid: int) -> bool:
    """Whether it runs. One that was killed but not yet fetched by its new parent counts as dead."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = written(Path(f"/proc/{pid}/stat"))
    return stat.rpartition(")")[2].split()[0] != "Z" if stat else not Path("/proc/self").exists()


def pids_in(text: str) -> list[int]:
    """Process ids that a command wrote, none before the full stop that says it is done."""
    return [int(word) for word in text.split()[:-1]] if text.rstrip().endswith(" .") else []


def written(path: Path) -> str:
    """What a file holds; nothing if it is not there, or of a process that has just ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return path.read_text()
    return ""


async def until(condition: Callable[[], object]) -> None:
    """Return once the condition holds."""
    late = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < late, f"it did not happen within {PATIENCE:g} s"
        await asyncio.sleep(0.01)
