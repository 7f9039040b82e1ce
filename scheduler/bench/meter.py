"""What a measurement costs the database: bytes of WAL, and CPU when PostgreSQL runs on this machine.

The CPU is that of all of PostgreSQL's processes, whichever database they work for: the backends of several sessions,
the WAL writer and the checkpointer do part of the work, and a backend that has ended is in its postmaster's account.
"""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.bench import proc
from scheduler.bench.connection import Connection, value
from scheduler.bench.statements import statement

_NEAR = 3.0  # seconds; a backend's start as PostgreSQL and as the kernel tell it are apart by the boot time's rounding


@dataclass(frozen=True, slots=True)
class Costs:
    """Bytes of WAL and microseconds of CPU; None where it cannot be known."""

    wal: float | None = None
    cpu: float | None = None

    def __add__(self, more: Costs) -> Costs:
        return Costs(_sum(self.wal, more.wal), _sum(self.cpu, more.cpu))

    def per(self, runs: int) -> Costs:
        """Of each of so many runs, on average."""
        share = 1 / max(1, runs)
        return Costs(self.wal and self.wal * share, self.cpu and self.cpu * share)


@dataclass(frozen=True, slots=True)
class Reading:
    wal: int
    cpu: float | None


class Meter:
    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._postmaster = _postmaster(conn)

    @property
    def is_local(self) -> bool:
        """Whether PostgreSQL's processes are seen from here."""
        return self._postmaster is not None

    def read(self) -> Reading:
        wal = int(value(self._conn, "wal_position"))
        return Reading(wal, None if self._postmaster is None else proc.cpu_of_tree(self._postmaster))

    def since(self, before: Reading) -> Costs:
        """What was spent since that reading."""
        now = self.read()
        cpu = None if now.cpu is None or before.cpu is None else (now.cpu - before.cpu) * 1e6
        return Costs(now.wal - before.wal, cpu)


def _postmaster(conn: Connection) -> int | None:
    """The pid of the server, or None when its backend is not the process of that pid on this machine.

    An address proves nothing: a tunnel ends on the loopback, and a container has pids of its own. The pid together with
    the start of the backend does.
    """
    row = conn.execute(statement("backend")).fetchone()
    assert row is not None  # noqa: S101  a session sees itself
    pid, started = int(row[0]), float(row[1])
    seen = proc.started_at(pid)
    return proc.parent(pid) if seen is not None and abs(seen - started) < _NEAR else None


def _sum(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second
