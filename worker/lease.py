"""What a worker has in its hands: leases, and the runs in them that have not ended."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Any, Literal

import msgspec

from scheduler.records import PLACE
from worker.store import Report, Row
from worker.tracing import Attempt

Ending = Literal["timeout", "cancel", "release", "abandon"]
Line = tuple[str, str, bool]  # app, queue, limited: runs that are due wait in one, and lines have turns

_read: Callable[[str], dict[str, Any]] = msgspec.json.decode


class Held(msgspec.Struct, eq=False):
    """One claimed run. `ending` says why its task is being stopped, if it is: by whom the CancelledError was meant."""

    lease: Lease
    row: Row
    spec: dict[str, Any] | None = None  # parsed when it starts; None afterwards: it cannot be
    task: asyncio.Task[None] | None = None
    alarm: asyncio.TimerHandle | None = None  # what follows when it does not stop
    due_since: float | None = None  # it could have started since then, had a slot been free
    started_at: float | None = None
    timeout: float = 0.0  # seconds, known once it starts
    deadline: float = math.inf  # on the monotonic clock
    ending: Ending | None = None
    span: Attempt | None = None  # where attempts are traced
    forsaken: bool = False  # it did not let itself be stopped, and is no longer waited for

    def parse(self) -> None:
        """Read the spec. It stays None for JSON that PostgreSQL takes and Python does not: a number of 5,000 digits,
        nesting beyond the stack.

        By msgspec, in 0.39 us where the standard library takes 0.87; orjson would make floats of integers over 64 bits
        without a word.
        """
        try:
            self.spec = _read(self.row.spec)
        except (ValueError, RecursionError):
            self.spec = None

    def about(self) -> dict[str, Any]:
        """What a record of the process's log says of it."""
        row = self.row
        about = {"app": self.lease.app, "run": row.id, "job": row.job, "attempt": row.attempt, "fence": self.lease.id}
        return {name: value for name, value in about.items() if value is not None}


class Slot:
    """Where runs are executed, one after the other. What is logged there is about the one that it has now."""

    __slots__ = ("context", "held")

    def __init__(self, context: Context) -> None:
        """`context`: what every run begins with."""
        self.held: Held | None = None
        self.context = context.copy()
        self.context.run(PLACE.set, self)

    def about(self) -> dict[str, Any]:
        return {} if self.held is None else self.held.about()


class Lease:
    """A claimed batch. Its id is the fence of each of its runs."""

    __slots__ = (
        "app",
        "beginning",
        "begun",
        "dirty_since",
        "id",
        "limited",
        "line",
        "looks",
        "open",
        "order",
        "queue",
        "reports",
        "seen",
        "unanswered",
    )

    def __init__(
        self, app: str, queue: str, number: int, rows: Iterable[Row], *, begun: bool, limited: bool = False
    ) -> None:
        self.app = app
        self.queue = queue
        self.limited = limited  # others may wait for the slots of its runs
        self.line: Line = (app, queue, limited)
        self.id = number
        self.begun = begun  # the database knows that its runs are being started
        self.beginning = False
        self.open = {row.id: Held(self, row) for row in rows}
        self.order = list(self.open)  # all its runs, as they were claimed
        self.reports: list[Report] = []  # ended, not yet on their way to the database
        self.dirty_since = 0.0  # when the first of these reports was added, or looked at last; the event loop's clock
        self.seen = 0  # how many of these reports there were when they were looked at last …
        self.looks = 0  # … and how often they were
        self.unanswered = 0  # reports that the database has not answered yet, on their way or not

    @property
    def is_over(self) -> bool:
        """Nothing of it is in this worker's hands any more, and the database knows."""
        return not self.open and not self.unanswered

    @property
    def is_tainted(self) -> bool:
        """Something of it was executed and the database does not know its end: it may not count as never started."""
        return self.unanswered > 0 or any(held.forsaken for held in self.open.values())
