"""One run, as a list of verbs: prepare, call, classify, report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from scheduler.clock import DatabaseClock
from scheduler.tracing import well_formed
from worker.context import Call
from worker.executors import Executor
from worker.journal import Journal
from worker.lease import Held
from worker.outcome import Cancelled, Crashed, ExecutionFailed, Failed, Outcome, Succeeded, classify, shorten, storable
from worker.registry import REGISTRY, Task
from worker.secrets import MARK, Hidden
from worker.store import Report
from worker.tracing import Spans

TIMEOUT = 3600.0  # seconds, where neither the run nor its task says
LONGEST = 10 * 365 * 86_400.0  # seconds: an interval may be longer than a datetime can hold
POISON = 3  # attempts lost in a row: `scheduler.finish` ends the run then
MAX_ATTEMPTS = 3  # the column's default: a run that has it takes the task's own number, if it has one


class Runner:
    def __init__(
        self,
        executors: Mapping[str, Executor],
        clock: DatabaseClock,
        journal: Journal,
        spans: Spans | None = None,
    ) -> None:
        self._executors = executors
        self._clock = clock
        self._journal = journal
        self._spans = spans

    def prepare(self, held: Held, now: float) -> None:
        """Read what it is to do, and note that it starts `now`, by the database's clock."""
        held.parse()
        row = held.row
        task = _task(held)
        held.timeout = min(row.timeout or (task and task.timeout) or TIMEOUT, LONGEST)
        held.started_at = now

    async def run(self, held: Held) -> Report | None:
        """Execute one attempt; never raises. None: it was given up on purpose, and nothing is to be reported."""
        outcome: Outcome | None
        hidden: Hidden | None = None
        if self._spans is not None:
            held.span = self._spans.begin(held)
        try:
            executor, call = self._executor(held), self._call(held)
            if MARK in held.row.spec:
                hidden = Hidden()
                call = hidden.filled(call, getattr(executor, "secret_places", None))
            outcome = Succeeded(await executor.execute(call))
        except BaseException as error:  # noqa: BLE001  whatever user code raises, the run has to end
            outcome = classify(error) if held.ending is None else self._broken_off(held)
        if hidden is not None:
            hidden.close()
        self._journal.close(held.lease.app, held.row.id, held.row.attempt)
        report = None if outcome is None else self._report(held, outcome)
        if hidden is not None and report is not None:
            report = hidden.report(report)
        if held.span is not None:
            held.span.leave()
            held.span.end(report, held.ending)
        return report

    def max_attempts(self, held: Held) -> int:
        """How often the run may be tried in all."""
        task = _task(held)
        if task is None or task.max_attempts is None or held.row.max_attempts != MAX_ATTEMPTS:
            return held.row.max_attempts
        return task.max_attempts

    def forsake(self, held: Held) -> Report | None:
        """The report of a run that was told to stop and does not: it ends here whatever it goes on to do."""
        outcome = self._broken_off(held)
        self._journal.close(held.lease.app, held.row.id, held.row.attempt)
        report = None if outcome is None else self._report(held, outcome)
        if held.span is not None:
            held.span.end(report, held.ending)
        return report

    def _broken_off(self, held: Held) -> Outcome | None:
        """What became of a run that was told to stop, whatever it raised on its way out."""
        match held.ending:
            case "timeout":
                return Failed(f"timed out after {held.timeout:g} s")
            case "cancel":
                return Cancelled("cancelled while it ran")
            case _:
                return None

    def _executor(self, held: Held) -> Executor:
        executor = self._executors.get(held.row.executor)
        if executor is None:
            raise ExecutionFailed(f"this worker has no executor {held.row.executor!r}")
        return executor

    def _call(self, held: Held) -> Call:
        row, lease = held.row, held.lease
        if held.spec is None:
            raise ExecutionFailed(
                "spec cannot be read: a number in it is too long, or it is nested too deep", final=True
            )
        return Call(
            lease.app,
            row.id,
            row.attempt,
            row.scheduled_at,
            row.run_at,
            (held.started_at or 0.0) + held.timeout,
            lease.id,
            held.timeout,
            held.spec,
            lease.queue,
            row.job,
            self._is_suspect(held),
            self._journal.write,
            self._traceparent(held),
        )

    def _traceparent(self, held: Held) -> str | None:
        if held.span is not None:
            return held.span.traceparent
        return None if held.row.traceparent is None else well_formed(held.row.traceparent)

    def _is_suspect(self, held: Held) -> bool:
        """Whether it took two workers with it, or one and this is its last attempt: it is then isolated.

        Not from the first loss on: most of what was lost with a worker is innocent, and children are few. While one of
        four workers was killed every 2 s, with some 40 runs, those ran again after 14 s, at worst after 36.
        """
        return held.row.lost > 1 or (held.row.lost == 1 and held.row.attempt >= self.max_attempts(held))

    def _report(self, held: Held, outcome: Outcome) -> Report:
        row = held.row
        report = Report(row.id, "succeeded", held.started_at, self._clock.now(), row.run_at, row.executor)
        if isinstance(outcome, Succeeded):
            if outcome.result is None:
                return report
            try:
                report.result = storable(outcome.result)
            except Exception as error:  # noqa: BLE001  a result is made of user code: its properties, its `__str__`
                outcome = classify(error)
        match outcome:
            case Succeeded():
                pass
            case Failed():
                report.outcome = "failed"
                report.error = outcome.error
                report.retry_after = outcome.retry_after
                report.result = _kept(outcome)
                attempts = 0 if outcome.final else self.max_attempts(held)
                report.max_attempts = None if attempts == held.row.max_attempts else attempts
            case Cancelled():
                report.outcome = "cancelled"
                report.error = outcome.reason
            case Crashed():
                report.outcome = "lost"
                report.error = outcome.error
                report.is_poison = row.lost >= POISON - 1
            case _:
                assert_never(outcome)
        return report


def _task(held: Held) -> Task | None:
    if held.row.executor != "python" or held.spec is None:
        return None
    name = held.spec.get("task")
    return REGISTRY.get(name) if isinstance(name, str) else None


def _kept(outcome: Failed) -> bytes | None:
    """What is known of a failed attempt's result; one that cannot be stored is left out, the error says enough."""
    try:
        return storable(outcome.result)
    except Exception:  # noqa: BLE001  as above
        return storable({"result": shorten(f"a {type(outcome.result).__name__} that is not JSON")})
