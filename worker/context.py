"""What an attempt knows: `Call` for executors, and `Context`, the part of it that a user's task sees."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from worker.outcome import clean


class Call(Struct, eq=False):
    """Everything an executor may know about one attempt. Times are seconds since the epoch by the database's clock, and
    datetimes under the names that rows have; few executors look at those, so they are made when asked for.
    """

    app: str
    run_id: int
    attempt: int
    scheduled: float | None
    run: float
    ends: float
    fence: int
    timeout: float  # seconds
    spec: dict[str, Any]
    queue: str
    job: str | None
    isolate: (
        bool  # this run was lost with a worker before: a python task then runs in a child process, whatever its kind
    )
    write: Callable[[str, int, int, str, str], None]  # (app, run, attempt, stream, text): where log lines go
    traceparent: str | None = None  # what its effects belong to: its own span, or what enqueued it

    @property
    def scheduled_at(self) -> datetime | None:
        """The nominal instant; None for a run without a schedule."""
        return None if self.scheduled is None else datetime.fromtimestamp(self.scheduled, UTC)

    @property
    def run_at(self) -> datetime:
        """When it was to start."""
        return datetime.fromtimestamp(self.run, UTC)

    @property
    def deadline(self) -> datetime:
        """When it is ended, if it has not ended by itself."""
        return datetime.fromtimestamp(self.ends, UTC)

    def log(self, stream: str, text: str) -> None:
        """Append to the run's log; never blocks."""
        self.write(self.app, self.run_id, self.attempt, stream, text)

    def instant(self) -> str:
        """The nominal instant, ISO 8601 in UTC; a run without a schedule was meant for its `run_at`."""
        return (self.scheduled_at or self.run_at).isoformat().replace("+00:00", "Z")


class Context:
    """What a task may ask about its own attempt. Made by the executor; a task only reads it.

    `fence` only grows from one attempt to the next: a store that remembers the highest one it saw can refuse a
    straggler. `deadline` is the instant at which the attempt is ended. Threads cannot be interrupted, so a long task
    in a thread looks at `cancelled` now and then and returns; what it returns then is discarded.
    """

    __slots__ = ("_call", "_cancelled", "app", "attempt", "fence", "run_id")

    def __init__(self, call: Call) -> None:
        self.run_id = call.run_id
        self.app = call.app
        self.attempt = call.attempt
        self.fence = call.fence
        self._call = call
        self._cancelled = False

    @property
    def scheduled_at(self) -> datetime | None:
        """The nominal instant of the schedule; None for a run that has none."""
        return self._call.scheduled_at

    @property
    def deadline(self) -> datetime:
        """When the attempt is ended, if it has not ended by itself."""
        return self._call.deadline

    @property
    def traceparent(self) -> str | None:
        """What its effects belong to, as W3C writes it: the attempt's own span, else what enqueued the run; or None."""
        return self._call.traceparent

    @property
    def cancelled(self) -> bool:
        """True once the attempt was cancelled or ran out of time."""
        return self._cancelled

    def cancel(self) -> None:
        """Called by the executor when it stops waiting for the task."""
        self._cancelled = True

    def log(self, message: object) -> None:
        """Append a line to the run's log, seen with `scheduler logs RUN`."""
        self._call.log("task", clean(str(message)))

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far the task is, from 0 to 1; what lies outside is brought to the nearer end."""
        self._call.log("progress", f"{min(max(fraction, 0.0), 1.0):.4f} {clean(message)}".rstrip())
