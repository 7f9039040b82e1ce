"""Compares the accounts of a pass with each other, run by run, and says what does not fit.

    target             an acknowledged enqueue (its unique key), or a due instant of a job
    execution          one attempt as it was seen outside the database: (run, fence), begun, perhaps ended
    attempt            one attempt as history has it: (run, fence), and how it ended

Each target has one run, with one end. The end `succeeded` has a complete execution under the fence that reported it.
Any other execution of the run is legitimate only if history has it as lost, and a fault explains why its worker was.
Work is executed at least once, so what was complete and not yet reported when its worker died is executed again: a
re-run, not a double. A run of one attempt has no second execution, whatever happens.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence

from scheduler.verify.evidence import Attempt, Evidence, Fire, Open
from scheduler.verify.findings import Verdict
from scheduler.verify.kinds import EXPLAINS_ANY_LOSS
from scheduler.verify.matching import match
from scheduler.verify.recorder import Execution

POISONED = 3  # losses in a row that end a run
EARLY = 0.05  # seconds before its instant: two clocks were compared
_AFTERMATH = 30.0  # seconds after a fault of the database in which a worker may be found to have been silent
_YOUNG = 15.0  # seconds after its start in which a process may give up because the database is away
_STALLED = 70  # the documented last resort of a worker that was lost and cannot stop what it runs

Target = tuple[str, float | None]
"""A unique key, or a job with an instant."""


class Check:
    def __init__(self, evidence: Evidence) -> None:
        self.verdict = Verdict()
        self.evidence = evidence
        self.executions: dict[int, list[Execution]] = defaultdict(list)
        self.attempts: dict[int, list[Attempt]] = defaultdict(list)
        self.runs: dict[Target, set[int]] = defaultdict(set)
        self.open: dict[int, Open] = {one.run: one for one in evidence.open}
        self.counts: Counter[str] = Counter()
        self._workers = {one.id: one for one in evidence.workers}
        self._faults_of: dict[int, list[float]] = defaultdict(list)
        self._poison = {sent.key for sent in evidence.sent if sent.poison}
        self._once = {sent.key for sent in evidence.sent if sent.once} | evidence.once_jobs
        for execution in sorted(evidence.record.executions, key=lambda one: one.began):
            self.executions[execution.run].append(execution)
            self.runs[execution.key, execution.scheduled].add(execution.run)
        for attempt in evidence.attempts:
            self.attempts[attempt.run].append(attempt)
            if attempt.key is not None:
                self.runs[attempt.key, attempt.scheduled].add(attempt.run)
        for one in evidence.open:
            if one.key is not None:
                self.runs[one.key, one.scheduled].add(one.run)
        for pid, at in evidence.record.poisoned:
            self._faults_of[pid].append(at + evidence.offset)
        for done in evidence.done:
            if done.pid is not None and done.kind in ("kill", "pause", "straggler"):
                self._faults_of[done.pid].append(done.at + evidence.offset)
        self._of_all = sorted(
            (done.at + evidence.offset, done.until + evidence.offset)
            for done in evidence.done
            if done.kind in EXPLAINS_ANY_LOSS
        )

    def run(self) -> Verdict:
        for sent in self.evidence.sent:
            self._target((sent.key, None), needed=sent.acknowledged)
        for job, instants in self.evidence.due.items():
            for instant in instants:
                self._target((job, instant), needed=True)
        self._ledger()
        for run in {*self.executions, *self.attempts, *self.open}:
            self._run(run)
        self._times()
        self._exits()
        for execution in self.evidence.record.twice:
            self.verdict.add("doubled", f"{_named(execution)} began twice under one fence")
        for what in self.evidence.accepted:
            self.verdict.add("stale", what)
        return self.verdict

    def _target(self, target: Target, *, needed: bool) -> None:
        """It has one run, and that one has an end."""
        runs = self.runs.get(target, set())
        named = _target(target)
        if len(runs) > 1:
            self.verdict.add("doubled", f"{named} has the runs {', '.join(map(str, sorted(runs)))}")
        if not runs and needed:
            self.verdict.add("lost", f"{named} has left no trace")
        for run in runs:
            if run in self.open:
                self.verdict.add("lost", f"{named}: run {run} is {self.open[run].where} and does not end")
            elif not any(attempt.is_end for attempt in self.attempts.get(run, ())):
                self.verdict.add("lost", f"{named}: run {run} is gone without an end")

    def _run(self, run: int) -> None:
        attempts = sorted(self.attempts.get(run, ()), key=lambda one: (one.attempt, one.finished))
        executions = self.executions.get(run, [])
        reported = {attempt.fence: attempt for attempt in attempts}
        complete = {execution.fence for execution in executions if execution.ended is not None}
        self.counts["executed"] += bool(complete)
        self.counts["re_runs"] += max(0, len(executions) - 1)
        self._ends(run, attempts, complete)
        self._fences(run, attempts, executions)
        for execution in executions:
            if execution.fence not in reported and run not in self.open:
                self.verdict.add("doubled", f"{_named(execution)} was executed, and history has no such attempt")
        if any(attempt.once for attempt in attempts) or any(one.key in self._once for one in executions):
            for execution in executions[1:]:
                self.verdict.add("doubled", f"{_named(execution)} began again, and may have one attempt only")
        began = {execution.fence: execution.began + self.evidence.offset for execution in executions}
        for attempt in attempts:
            if _was_lost(attempt):
                self.counts["lost_attempts"] += 1
                self.counts["begun_by_the_dead"] += began.get(attempt.fence or 0, 0.0) > attempt.finished
                if attempt.key not in self._poison and not self._is_explained(attempt):
                    self.verdict.add("unexplained", f"run {run} attempt {attempt.attempt}: {attempt.error}")

    def _ends(self, run: int, attempts: Sequence[Attempt], complete: set[int]) -> None:
        ends = [attempt for attempt in attempts if attempt.is_end]
        if len(ends) > 1:
            self.verdict.add("doubled", f"run {run} has {len(ends)} ends: {', '.join(one.outcome for one in ends)}")
        for end in ends:
            if end.outcome == "succeeded":
                if end.fence not in complete:
                    self.verdict.add(
                        "lost", f"run {run} succeeded under fence {end.fence} without an execution under it"
                    )
            elif end.key in self._poison and _is_poison(end):
                self.counts["poisoned"] += 1
            elif _is_poison(end) and self._was_hit(attempts):
                self.counts["quarantined"] += 1
            elif end.once and _was_lost(end):
                self.counts["broken_off"] += 1
            else:
                self.verdict.add("lost", f"run {run} {end.outcome}: {end.error}")

    def _fences(self, run: int, attempts: Sequence[Attempt], executions: Sequence[Execution]) -> None:
        """Fences grow from attempt to attempt, each ends one, and nothing begins under a later one than the end's."""
        greatest = 0
        for attempt in attempts:
            fence = attempt.fence or 0
            if fence <= greatest:
                what = f"run {run} attempt {attempt.attempt} {attempt.outcome} under fence {fence}, after {greatest}"
                self.verdict.add("stale", what)
            greatest = max(greatest, fence)
            later = [one for one in executions if attempt.is_end and one.fence > fence]
            if later:
                what = f"{_named(later[0])} belonged to a later holder than fence {fence}, which ended the run"
                self.verdict.add("stale", what)

    def _was_hit(self, attempts: Sequence[Attempt]) -> bool:
        """All its losses in a row are of workers that we hit: by its own rule the product takes the run for poison."""
        lost = [attempt for attempt in attempts if _was_lost(attempt)]
        return len(lost) >= POISONED and all(self._is_explained(attempt) for attempt in lost[-POISONED:])

    def _is_explained(self, attempt: Attempt) -> bool:
        """A fault hit its worker, in that worker's life, before the attempt was given up."""
        worker = self._workers.get(attempt.worker or 0)
        if worker is not None and any(
            worker.started - 1 <= at <= attempt.finished for at in self._faults_of[worker.pid]
        ):
            return True
        return any(at <= attempt.finished <= until + _AFTERMATH for at, until in self._of_all)

    def _ledger(self) -> None:
        due = {(job, instant) for job, instants in self.evidence.due.items() for instant in instants}
        rows: dict[tuple[str, float], list[Fire]] = defaultdict(list)
        for fire in self.evidence.fires:
            rows[fire.job, fire.instant].append(fire)
        for key in due - rows.keys():
            self.verdict.add("lost", f"{_target(key)} is not in the ledger")
        for key, fires in rows.items():
            if len(fires) > 1:
                self.verdict.add("doubled", f"{_target(key)} is in the ledger {len(fires)} times")
            if key not in due:
                self.verdict.add("doubled", f"{_target(key)} is in the ledger, and was never due")
            elif fires[0].outcome != "planned":
                self.verdict.add("lost", f"{_target(key)} was {fires[0].outcome}: {fires[0].reason}")
        for job, instant in self.runs:
            if instant is not None and (job, instant) not in due:
                self.verdict.add("doubled", f"{_target((job, instant))} has a run, and was never due")

    def _times(self) -> None:
        """Each run started in the window of its target: of a job by a matching that does not ask what a run is for."""
        offset, late = self.evidence.offset, self.evidence.late
        lateness, matched, unbegun = [], 0, 0
        first = {run: executions[0] for run, executions in self.executions.items()}
        starts: dict[str, list[float]] = defaultdict(list)
        for execution in first.values():
            if execution.scheduled is not None:
                starts[execution.key].append(execution.began + offset)
                lateness.append(execution.began + offset - execution.scheduled)
        for job, instants in self.evidence.due.items():
            begun = [instant for instant in instants if not self._is_lost_unbegun((job, instant))]
            matching = match(begun, starts[job], early=EARLY, late=late)
            matched += len(matching.pairs)
            unbegun += len(instants) - len(begun)
            for instant in matching.missed:
                self.verdict.add("late", f"{_target((job, instant))} has no run that began within {late:g} s of it")
            for start in matching.extra:
                self.verdict.add(
                    "late", f"job {job}: the run that began at {start:.3f} is near no instant that is left"
                )
        for sent in self.evidence.sent:
            for run in self.runs.get((sent.key, None), ()):
                if run in first and first[run].began - sent.at > late:
                    self.verdict.add(
                        "late", f"{sent.key} began {first[run].began - sent.at:.1f} s after it was enqueued"
                    )
        self.verdict.figures["fires"] = {
            "due": sum(len(instants) for instants in self.evidence.due.values()),
            "matched": matched,
            "unbegun": unbegun,
            "late_seconds": spread(lateness),
            "early_seconds": max(0.0, -min(lateness, default=0.0)),
        }

    def _is_lost_unbegun(self, target: Target) -> bool:
        """Its worker died after it had noted the start, and before the task's first step: no attempt may follow.

        Whether the loss may be its end is asked elsewhere.
        """
        runs = self.runs.get(target, set())
        ends = [attempt for run in runs for attempt in self.attempts.get(run, ()) if attempt.is_end]
        return bool(ends) and all(map(_was_lost, ends)) and not any(run in self.executions for run in runs)

    def _exits(self) -> None:
        for one in self.evidence.exits:
            at, started = one.at + self.evidence.offset, one.started + self.evidence.offset
            if any(started <= fault <= at for fault in self._faults_of[one.pid]):
                continue
            if one.status == _STALLED:
                self.counts["stalled"] += 1
                continue
            if at - started < _YOUNG and any(a <= at and started - 1 <= until for a, until in self._of_all):
                continue  # it had not been connected yet
            self.verdict.add("unexplained", f"a {one.kind} ended by itself with status {one.status}: {one.said}")


def spread(values: Sequence[float]) -> dict[str, float | None]:
    ordered = sorted(values)

    def at(share: float) -> float | None:
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None

    return {"p50": at(0.5), "p99": at(0.99), "max": ordered[-1] if ordered else None}


def first_after(ordered: Sequence[float], instant: float) -> float | None:
    """The first of the ordered instants that is not earlier."""
    place = bisect_left(ordered, instant)
    return ordered[place] if place < len(ordered) else None


def _was_lost(attempt: Attempt) -> bool:
    """Also where it was the last one: its outcome is then `failed`, and the error says why."""
    return attempt.outcome == "lost" or _is_poison(attempt) or (attempt.error or "").endswith("was lost")


def _is_poison(attempt: Attempt) -> bool:
    return attempt.outcome == "failed" and (attempt.error or "").startswith("poison: ")


def _target(target: tuple[str, float | None]) -> str:
    key, instant = target
    return key if instant is None else f"{key} at {instant:.0f}"


def _named(execution: Execution) -> str:
    target = _target((execution.key, execution.scheduled))
    return f"run {execution.run} ({target}) attempt {execution.attempt} fence {execution.fence}"
