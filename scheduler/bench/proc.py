"""What /proc knows of a process: CPU, memory, children. None, or nothing, where there is no /proc."""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")
_TICK = os.sysconf("SC_CLK_TCK")
# Places in /proc/<pid>/stat, counted behind the command's closing bracket.
_PARENT, _USER, _SYSTEM, _DEAD_USER, _DEAD_SYSTEM, _STARTED = 1, 11, 12, 13, 14, 19


def cpu(pid: int) -> float | None:
    """Seconds of CPU of a process and of the children that it waited for."""
    stat = _stat(pid)
    if stat is None:
        return None
    return sum(int(stat[place]) for place in (_USER, _SYSTEM, _DEAD_USER, _DEAD_SYSTEM)) / _TICK


def cpu_exactly(pid: int) -> float | None:
    """Seconds of CPU of the threads that a process has now, to the nanosecond: what `cpu` counts in 10 ms."""
    try:
        threads = list((_PROC / str(pid) / "task").iterdir())
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
    except (OSError, ValueError, IndexError):
        return None


def cpu_of_tree(pid: int) -> float | None:
    """Seconds of CPU of a process and of all that descend from it, the dead ones that were waited for included."""
    if cpu(pid) is None:
        return None
    return sum(cpu(one) or 0.0 for one in tree(pid))


def peak_memory_of_tree(pid: int) -> int | None:
    """Bytes that the process and its descendants had resident at most, each at its own worst moment."""
    peaks = [peak for one in tree(pid) if (peak := _peak_memory(one)) is not None]
    return sum(peaks) if peaks else None


def parent(pid: int) -> int | None:
    stat = _stat(pid)
    return None if stat is None else int(stat[_PARENT])


def started_at(pid: int) -> float | None:
    """When a process started, in seconds since the epoch, to a hundredth or so."""
    stat = _stat(pid)
    try:
        lines = (_PROC / "stat").read_text().splitlines()
    except OSError:
        return None
    booted = next((int(line.split()[1]) for line in lines if line.startswith("btime ")), None)
    return None if stat is None or booted is None else booted + int(stat[_STARTED]) / _TICK


def tree(pid: int) -> list[int]:
    """The process and all that descend from it, as far as they are there now."""
    children: dict[int, list[int]] = {}
    for path in _PROC.iterdir() if _PROC.is_dir() else []:
        if path.name.isdigit() and (above := parent(int(path.name))) is not None:
            children.setdefault(above, []).append(int(path.name))
    found = [pid]
    for one in found:  # it grows while it is read
        found += children.get(one, [])
    return found


def _peak_memory(pid: int) -> int | None:
    try:
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def _stat(pid: int) -> list[str] | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()
