"""The numbers of a pass, beside what was found."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from scheduler.verify.checker import Check, first_after, spread
from scheduler.verify.evidence import Evidence
from scheduler.verify.findings import Verdict


def judge(evidence: Evidence) -> Verdict:
    """The verdict, with its figures."""
    check = Check(evidence)
    verdict = check.run()
    kinds = Counter(done.kind for done in evidence.done)
    verdict.figures |= {
        "faults": dict(sorted(kinds.items())),
        "enqueued": {
            "acknowledged": sum(sent.acknowledged for sent in evidence.sent),
            "answer_lost": sum(not sent.acknowledged for sent in evidence.sent),
        },
        **{name: check.counts[name] for name in ("executed", "re_runs", "lost_attempts")},
        "in_flight_at_kills": _in_flight(check),
        **{
            name: check.counts[name]
            for name in ("poisoned", "quarantined", "broken_off", "begun_by_the_dead", "stalled")
        },
        "again_after_kill_seconds": spread(_again_after_kills(check)),
        "again_after_restart_seconds": spread(_again_after_restarts(evidence)),
        "throughput": _throughput(evidence),
        **{kind: verdict.found[kind] for kind in ("lost", "doubled", "stale", "unexplained", "late")},
    }
    return verdict


def _in_flight(check: Check) -> int:
    """Executions whose process was hit after they had begun and before they had ended and been reported."""
    lost = {
        (attempt.run, attempt.fence)
        for attempts in check.attempts.values()
        for attempt in attempts
        if attempt.outcome in ("lost", "failed")
    }
    return sum((one.run, one.fence) in lost for executions in check.executions.values() for one in executions)


def _again_after_kills(check: Check) -> list[float]:
    """Seconds from a kill until each run that it took from its worker was begun again.

    From the last kill, where several hit a run before it had begun: who is killed too cannot make up for a kill.
    """
    workers = {one.id: one for one in check.evidence.workers}
    offset = check.evidence.offset
    kills: dict[int, float] = {
        done.pid: done.at for done in check.evidence.done if done.kind == "kill" and done.pid is not None
    }
    waits = []
    for run, attempts in check.attempts.items():
        begins = {execution.attempt: execution.began for execution in check.executions.get(run, ())}
        for attempt in attempts:
            again = begins.get(attempt.attempt + 1)
            worker = workers.get(attempt.worker or 0)
            killed = kills.get(worker.pid) if worker and attempt.outcome == "lost" else None
            if worker is None or killed is None or again is None:
                continue
            if worker.started - 1 <= killed + offset <= attempt.finished:
                waits.append(again - killed)
    return waits


def _again_after_restarts(evidence: Evidence) -> list[float]:
    """Seconds from when PostgreSQL answered again until anything was begun."""
    begins = sorted(execution.began for execution in evidence.record.executions)
    readies = [done.until for done in evidence.done if done.kind == "restart"]
    return [again - ready for ready in readies if (again := first_after(begins, ready)) is not None]


def _throughput(evidence: Evidence) -> dict[str, Any]:
    """Runs that were first complete, per second: before the first fault, and in the last part, which is as long."""
    window = evidence.window
    seconds = window.faults - window.began
    first: dict[int, float] = defaultdict(lambda: float("inf"))
    for execution in evidence.record.executions:
        if execution.ended is not None:
            first[execution.run] = min(first[execution.run], execution.ended)
    # Half of the clean part is for the first runs to come through.
    settled = window.began + seconds / 2
    clean = sum(settled <= at < window.faults for at in first.values()) / (seconds / 2)
    last = sum(window.ended - seconds <= at < window.ended for at in first.values()) / seconds
    return {"clean": round(clean, 1), "last": round(last, 1), "ratio": round(last / clean, 3) if clean else None}
