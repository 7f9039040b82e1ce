"""A job of a short period in this worker's hands: which instant is next, and what was fired since the last report.

Pure arithmetic, in whole microseconds of the database's clock, so that fire k lies at anchor + k * period after any
number of fires: nothing accumulates. (Floats are exact to a quarter of a microsecond today, and come out right.)

    every   an instant that comes while the fire before it runs is skipped; one that comes while this process was busy
            elsewhere is fired late, and not at all (missed) once it is later than LATE, or a period if that is longer;
            of those that passed before this worker took the job, the last is fired
    after   so long after the end of the fire before; nothing is skipped or missed
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from worker.outcome import shorten
from worker.store import Report, TakenPulse

LATE = 1_000_000
"""Microseconds. A pause of the process is made up for, so that the number of fires is right; an outage is not."""
ERROR_LIMIT = 2_048  # bytes: one of a span's errors stands for all, and a span ends every few seconds
_QUANTILES = (("p50", 0.5), ("p99", 0.99), ("max", 1.0))


class Passed:
    """Instants of which none was fired: the first, the last, and how many."""

    __slots__ = ("count", "first", "last")

    def __init__(self) -> None:
        self.count = 0
        self.first = self.last = 0

    def add(self, first: int, count: int, period: int) -> int:
        """So many instants from `first` on; the one after them."""
        if count > 0:
            self.first = self.first if self.count else first
            self.last = first + (count - 1) * period
            self.count += count
        return first + max(count, 0) * period

    def as_json(self) -> dict[str, Any] | None:
        if not self.count:
            return None
        return {"first": self.first / 1e6, "last": self.last / 1e6, "count": self.count}


class Span:
    """What was fired from one report to the next."""

    __slots__ = ("error", "failures", "finished", "first", "last", "lateness", "missed", "skipped", "started")

    def __init__(self) -> None:
        self.first = self.last = 0
        self.started = self.finished = 0.0
        self.failures = 0
        self.error: str | None = None
        self.lateness: list[float] = []  # of each fire, in seconds
        self.skipped = Passed()
        self.missed = Passed()

    def __bool__(self) -> bool:
        return bool(self.lateness or self.skipped.count or self.missed.count)

    def add(self, at: int, report: Report) -> None:
        """A fire that ended."""
        started = at / 1e6 if report.started_at is None else report.started_at
        if not self.lateness:
            self.first, self.started = at, started
        self.last, self.finished = at, report.finished_at
        self.lateness.append(started - at / 1e6)
        if report.outcome != "succeeded":
            self.failures += 1
            self.error = shorten(report.error or report.outcome, ERROR_LIMIT)

    def as_json(self) -> dict[str, Any]:
        """In the words of `scheduler.report_pulses`, but for what the lease knows."""
        late = sorted(self.lateness)
        result = {
            "first": _text(self.first),
            "last": _text(self.last),
            "fires": len(late),
            "failures": self.failures,
            "skipped": self.skipped.count,
            "missed": self.missed.count,
            "lateness": {name: round(late[math.ceil(part * len(late)) - 1], 6) for name, part in _QUANTILES if late},
        }
        return {
            "first": self.first / 1e6,
            "last": self.last / 1e6,
            "fires": len(self.lateness),
            "failures": self.failures,
            "started": self.started,
            "finished": self.finished,
            "error": self.error,
            "result": result,
            "skipped": self.skipped.as_json(),
            "missed": self.missed.as_json(),
        }


class Pulse:
    """One leased job. `next` is the instant to be fired next, in microseconds since the epoch; None: the last passed.

    `span` gathers; `sent` is on its way to the database, in the form in which it is sent again if the answer is lost.
    """

    def __init__(self, taken: TakenPulse, now: float) -> None:
        """`now`: seconds since the epoch, by the database's clock."""
        self.taken = taken
        self.lease = taken.lease
        self.run_id = taken.run_id
        self.former_id = 0  # a fire that waited or ran during the report goes on under it
        self.span = Span()
        self.sent: dict[str, Any] | None = None
        self.reported_at = now
        self.lost = taken.lost  # a fire that may have killed its worker is isolated, until one has come through
        self.is_leaving = False  # nothing more of it is to be fired
        self._period = taken.period
        self._after = taken.after_at
        self._ends_at = taken.ends_at
        self.next: int | None = self._first(round(now * 1e6))

    @property
    def after(self) -> float | None:
        """Dealt with up to here, as `after_at` of the next holder; None: nothing was."""
        return None if self._after is None else self._after / 1e6

    def to_send(self) -> dict[str, Any] | None:
        """The report that waits for its answer, else one of what has gathered, if anything has."""
        if self.sent is None and self.span:
            self.sent = {
                "job": self.taken.job,
                "lease": self.lease,
                "run_id": self.run_id,
                "after": self.after,
                **self.span.as_json(),
            }
            self.span = Span()
        return self.sent

    def answered(self, run_id: int) -> None:
        """What was sent is in history; what is fired from now on will stand there under this id."""
        self.sent = None
        self.former_id, self.run_id = self.run_id, run_id

    def ended(self, at: int, report: Report) -> None:
        """The fire of the instant `at` ended: count it, and find the next one."""
        self.span.add(at, report)
        if report.outcome != "lost":
            self.lost = 0
        finished = round(report.finished_at * 1e6)
        if self.taken.from_end:
            self._after = max(finished, at)
            self._go_on(self._after + self._period)
            return
        following = at + self._period
        started = at if report.started_at is None else round(report.started_at * 1e6)
        if following > started:  # else it was due before this fire began, which kept nothing from being fired
            following = self.span.skipped.add(following, (finished - following) // self._period + 1, self._period)
        self._after = following - self._period
        self._go_on(following)

    def catch_up(self, now: float) -> None:
        """Leave out what is too late by now. Called when the next instant is about to be waited for."""
        if self.next is None or self.taken.from_end:
            return
        oldest = round(now * 1e6) - max(LATE, self._period)
        following = self.span.missed.add(self.next, -((self.next - oldest) // self._period), self._period)
        if following != self.next:
            self._after = following - self._period
            self._go_on(following)

    def _first(self, now: int) -> int | None:
        taken = self.taken
        if taken.from_end:
            first = taken.anchor_at if self._after is None else max(taken.anchor_at, self._after + self._period)
            return self._within(max(first, now) if taken.is_gap else first)
        first = taken.anchor_at
        if self._after is not None:
            first += max(0, (self._after - first) // self._period + 1) * self._period
        # Of what passed while nobody held it the last is made up for: a hundred at once would be no rate. None after a
        # worker was lost that fired some of these, nobody knows which: nothing is fired a second time.
        passed = (now - first) // self._period + (1 if taken.is_gap else 0)
        following = self.span.missed.add(first, passed, self._period)
        if following != first:
            self._after, first = following - self._period, following
        return self._within(first)

    def _go_on(self, at: int) -> None:
        self.next = self._within(at)

    def _within(self, at: int) -> int | None:
        return None if self._ends_at is not None and at > self._ends_at else at


def _text(instant: int) -> str:
    return datetime.fromtimestamp(instant / 1e6, UTC).isoformat().replace("+00:00", "Z")
