"""What a worker counts for /metrics: once for each batch of reports, and not once for each run.

An attempt is counted when its report is chosen for sending, some hundredths of a second after its end, whatever the
database says to it. How many were started is what ended, what ended and was not chosen yet, and what runs now: so
nothing is counted when a run starts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from scheduler.metrics import catalogue
from scheduler.metrics.numbers import OTHER, Folded, Histogram, Sample, Tally
from worker.lease import Held
from worker.store import Report

LANES = 16
"""Queues, each with an executor, that have series of their own, of which it takes up to 38. What is beyond has one for
each executor."""
EXECUTORS = 8
_OUTCOMES = {"fires": "fired", "skipped": "skipped", "missed": "missed"}

Lane = tuple[str, str, str]  # app, queue, executor


class _Count:
    __slots__ = ("duration", "lateness", "outcomes", "started")

    def __init__(self) -> None:
        self.started = 0
        self.outcomes: Counter[str] = Counter()
        self.lateness = Histogram(catalogue.LATENESS)
        self.duration = Histogram(catalogue.DURATION)


class Meter:
    def __init__(self) -> None:
        self._lanes: Folded[Lane] = Folded(LANES)
        self._executors: Folded[str] = Folded(EXECUTORS)
        self._counts: dict[Lane, _Count] = {}
        self._tally = Tally(LANES)
        self._tally.count(catalogue.LOST, number=0)

    def ended(self, app: str, queue: str, reports: Sequence[Report]) -> None:
        """A batch, of one lease. 2,000 reports of runs that did nothing take 0.18 us each; labelled counters and
        histograms that are looked up for each run took 4.
        """
        executors = {report.executor for report in reports}
        if len(executors) == 1:
            self._ended(app, self._count((app, queue, executors.pop())), reports)
            return
        for executor in executors:
            some = [report for report in reports if report.executor == executor]
            self._ended(app, self._count((app, queue, executor)), some)

    def broken_off(self, held: Held) -> None:
        """An attempt that started here and has no report: others have the run, or will."""
        self._count((held.lease.app, held.lease.queue, held.row.executor)).started += 1

    def lost(self, runs: int) -> None:
        """The leases were, to others, with so many runs in hand."""
        self._tally.count(catalogue.LOST, number=runs)

    def fired(self, app: str, span: Mapping[str, Any]) -> None:
        """What was reported of a job of a short period, in the words of `scheduler.report_pulses`."""
        for name, outcome in _OUTCOMES.items():
            if number := span["result"][name]:
                self._tally.count(catalogue.FIRES, app, outcome, number=number)

    def samples(self, executed: Sequence[Lane], uncounted: Iterable[Lane]) -> Iterator[Sample]:
        """`executed`: the lane of each attempt that runs; `uncounted`: of those that ended and were not counted yet."""
        running = Counter(map(self._lane, executed))
        started = running + Counter(map(self._lane, uncounted))
        by_queue: Counter[tuple[str, str]] = Counter()
        for lane in started:
            self._count(lane)
        for lane, count in self._counts.items():
            yield Sample(catalogue.STARTED, lane, count.started + started[lane])
            for outcome, number in count.outcomes.items():
                yield Sample(catalogue.FINISHED, (*lane, outcome), number)
            yield Sample(catalogue.RUN_LATENESS, lane, count.lateness.buckets)
            yield Sample(catalogue.RUN_DURATION, lane, count.duration.buckets)
            by_queue[lane[:2]] += running[lane]
        for of_queue, number in by_queue.items():
            yield Sample(catalogue.RUNNING, of_queue, number)
        yield from self._tally.samples()

    def slots(self, there: int, used: int) -> Iterator[Sample]:
        yield Sample(catalogue.SLOTS, (), there)
        yield Sample(catalogue.SLOTS_USED, (), used)

    def _lane(self, lane: Lane) -> Lane:
        if self._lanes.has(lane):
            return lane
        return OTHER, OTHER, lane[2] if self._executors.has(lane[2]) else OTHER

    def _count(self, lane: Lane) -> _Count:
        lane = self._lane(lane)
        count = self._counts.get(lane)
        if count is None:
            count = self._counts[lane] = _Count()
        return count

    def _ended(self, app: str, count: _Count, reports: Sequence[Report]) -> None:
        outcomes = {report.outcome for report in reports}
        if outcomes == {"succeeded"}:
            count.outcomes["succeeded"] += len(reports)
            ran = reports
        else:
            count.outcomes.update(report.outcome for report in reports)
            ran = [report for report in reports if report.run_at is not None]
            if poisonous := sum(report.is_poison for report in reports):
                self._tally.count(catalogue.POISONED, app, number=poisonous)
        if ran:
            count.started += len(ran)
            # What ran has both instants; to ask each report for them costs 15 ns.
            count.lateness.add_all([report.started_at - report.run_at for report in ran])  # type: ignore[operator]
            count.duration.add_all([report.finished_at - report.started_at for report in ran])  # type: ignore[operator]
