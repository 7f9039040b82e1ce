"""Reads what bears on a run, and judges it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from scheduler.errors import NotFoundError
from scheduler.store import watch
from scheduler.store.watch import circumstances
from scheduler.why import past, waiting
from scheduler.why.answer import Reason, Row

LOOKS = 3  # a run that goes from one table to another between two reads is looked at again
SHOWN_OF_RUN = (
    "app", "id", "job", "queue", "executor", "state", "attempt", "max_attempts", "priority", "run_at", "scheduled_at",
    "started_at", "finished_at", "worker", "fence",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sight:
    """`audit`: who cancelled it. `others`: workers that do not serve its app."""

    audit: bool
    others: bool


EVERYTHING = Sight(audit=True, others=True)


@dataclass(frozen=True, slots=True)
class Answer:
    """`expected_at`: when it starts, if nothing changes; None where that is not foreseeable. `rate`: runs of its queue
    that started in a second lately, of which that was reckoned.
    """

    run: Row
    now: datetime
    reasons: list[Reason]
    expected_at: datetime | None
    rate: float | None
    timeline: list[Row]

    def as_row(self) -> Row:
        return {
            **{key: self.run[key] for key in SHOWN_OF_RUN},
            "now": self.now,
            "reasons": [reason.as_row() for reason in self.reasons],
            "expected_at": self.expected_at,
            "queue_rate": self.rate,
            "timeline": self.timeline,
        }


async def explain(conn: watch.Connection, run: Row, *, dead_after: float, sight: Sight = EVERYTHING) -> Answer:
    """Why a run, a row of `watch.run`, has not started, or how it went. Reads only. NotFoundError: it is gone.

    `sight`: what of it the one who asks may know.
    """
    app, number = run["app"], run["id"]
    for _ in range(LOOKS):
        answer = await _answer(conn, run, dead_after=dead_after, sight=sight)
        if answer is not None:
            return answer
        found = await watch.run(conn, number, app=app)
        if not found:
            break
        run = found[0]
    raise NotFoundError(f"run {number} of app {app} is gone, or moves too fast to be looked at")


async def _answer(conn: watch.Connection, run: Row, *, dead_after: float, sight: Sight) -> Answer | None:
    now = await watch.clock(conn)
    expected_at, rate, held = None, None, None
    changes: list[Row] = []
    if run["finished_at"] is not None:
        attempts = await watch.attempts(conn, run["app"], run["id"])
        changes = await _changes(conn, run) if sight.audit else []
        reasons = past.judge_ended(run, attempts, changes)
    elif run["fence"] is not None:
        judged = await past.judge_held(conn, run, now, dead_after=dead_after)
        held = await circumstances.held(conn, run["app"], run["id"], run["fence"])
        if judged is None or held is None:
            return None
        reasons = judged
    else:
        wait = await waiting.judge(conn, run, now, dead_after=dead_after, others=sight.others)
        if wait is None:
            return None
        reasons = wait.reasons
        expected_at, rate = await _expected(conn, run, wait, now)
    if run["finished_at"] is None:
        attempts = await watch.attempts(conn, run["app"], run["id"]) if run["attempt"] else []
        changes = await _changes(conn, run) if sight.audit else []
    fire = None
    if run["job"] is not None and run["scheduled_at"] is not None:
        fire = await circumstances.fire(conn, run["app"], run["job"], run["scheduled_at"])
    workers = {one["worker"] for one in [*attempts, run] if one["worker"] is not None}
    names = await circumstances.named_workers(conn, sorted(workers))
    events = past.timeline(run, held=held, fire=fire, attempts=attempts, changes=changes, names=names)
    return Answer(run, now, reasons, expected_at, rate, events)


async def _changes(conn: watch.Connection, run: Row) -> list[Row]:
    triggered = run["job"] if run["scheduled_at"] is None else None
    return await circumstances.changes(conn, run["app"], run["id"], triggered)


async def _expected(
    conn: watch.Connection, run: Row, wait: waiting.Wait, now: datetime
) -> tuple[datetime | None, float | None]:
    """When it starts: at its instant, or once as many as come before it have started at the rate of lately."""
    codes = {reason.code for reason in wait.reasons}
    if wait.is_stopped or wait.due_at is None or codes & {"event", "key_full", "waits_for_previous"}:
        return None, None
    if not codes & {"behind", "queue_full", "workers_busy"}:
        return max(wait.due_at, now), None
    drained = await circumstances.drained(conn, run["app"], run["queue"])
    if not drained["started"] or not drained["within"] or wait.is_more:
        return None, None
    rate = drained["started"] / drained["within"]
    return max(wait.due_at, now + timedelta(seconds=(wait.before + 1) / rate)), rate
