"""What a worker has in its hands: leases, and the runs in them that have not ended."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

from worker.store import Report, Row

Ending = Literal["timeout", "cancel", "release", "abandon"]

_scan: Callable[[str, int], tuple[dict[str, Any], int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


class Held:
    """One claimed run. `ending` says why its task is being stopped, if it is: by whom the CancelledError was meant."""

    __slots__ = (
        "alarm",
        "deadline",
        "due_since",
        "ending",
        "forsaken",
        "lease",
        "row",
        "spec",
        "started_at",
        "task",
        "timeout",
    )

    def __init__(self, lease: Lease, row: Row) -> None:
        self.lease = lease
        self.row = row
        self.spec: dict[str, Any] | None = None  # parsed when it starts; None afterwards: it cannot be
        self.task: asyncio.Task[None] | None = None
        self.alarm: asyncio.TimerHandle | None = None  # what follows when it does not stop
        self.due_since: float | None = None  # it could have started since then, had a slot been free
        self.started_at: float | None = None
        self.timeout = 0.0  # seconds, known once it starts
        self.deadline = math.inf  # on the monotonic clock
        self.ending: Ending | None = None
        self.forsaken = False  # it did not let itself be stopped, and is no longer waited for

    def parse(self) -> None:
        """Read the spec. It stays None for JSON that PostgreSQL takes and Python does not: an integer of 5,000 digits,
        nesting beyond the stack.

        The standard library's scanner and not orjson, which makes floats of integers over 64 bits without a word.
        Called as jsonb's text allows, without a search for white space around it, it takes 0.5 us and not 1.4.
        """
        try:
            self.spec, _ = _scan(self.row.spec, 0)
        except (ValueError, RecursionError, StopIteration):
            self.spec = None


class Lease:
    """A claimed batch. Its id is the fence of each of its runs."""

    __slots__ = ("app", "beginning", "begun", "dirty_since", "id", "open", "order", "queue", "reports", "unanswered")

    def __init__(self, app: str, queue: str, number: int, rows: Iterable[Row], *, begun: bool) -> None:
        self.app = app
        self.queue = queue
        self.id = number
        self.begun = begun  # the database knows that its runs are being started
        self.beginning = False
        self.open = {row.id: Held(self, row) for row in rows}
        self.order = list(self.open)  # all its runs, as they were claimed
        self.reports: list[Report] = []  # ended, not yet on their way to the database
        self.dirty_since = 0.0  # when the first of these reports was added, on the event loop's clock
        self.unanswered = 0  # reports that the database has not answered yet, on their way or not

    @property
    def is_over(self) -> bool:
        """Nothing of it is in this worker's hands any more, and the database knows."""
        return not self.open and not self.unanswered

    @property
    def is_tainted(self) -> bool:
        """Something of it was executed and the database does not know its end: it may not count as never started."""
        return self.unanswered > 0 or any(held.forsaken for held in self.open.values())
