"""What keeps a run that has not started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from scheduler.store import watch
from scheduler.store.watch import circumstances
from scheduler.store.watch.circumstances import BEFORE_MOST, SHOWN
from scheduler.why.answer import NAMED, Reason, Row, command, listed, said, seconds, since

WORKERS_MOST = 1_000
ISOLATED_FROM = 2  # losses in a row, from which a run is executed in a child of its own; sooner on its last attempt
LOST_MOST = 3  # losses in a row end a run


@dataclass(slots=True)
class Wait:
    """What was found out about a run that waits; `due_at`: the instant from which nothing but its turn keeps it."""

    reasons: list[Reason] = field(default_factory=list)
    due_at: datetime | None = None
    before: int = 0
    is_more: bool = False

    def add(self, *reasons: Reason | None) -> None:
        self.reasons += [reason for reason in reasons if reason is not None]

    @property
    def is_stopped(self) -> bool:
        return any(reason.is_stop for reason in self.reasons)


async def judge(conn: watch.Connection, run: Row, now: datetime, *, dead_after: float, others: bool) -> Wait | None:
    """Of a run that is in no worker's hands; None when it is there no more. `others`: tell of workers of other apps."""
    app, run_at = run["app"], run["run_at"]
    row = await circumstances.waiting(conn, app, run["id"])
    if row is None:
        return None
    wait = Wait(due_at=run_at if isinstance(run_at, datetime) else None)
    if run["executor"] == "event":
        wait.add(await _event(conn, run))
        return wait
    attempts = await watch.attempts(conn, app, run["id"], limit=100) if run["attempt"] else []
    around = await circumstances.defined(conn, app, run["job"], dead_after=dead_after)
    wait.add(_paused_app(run, around), _paused_job(run, around))
    if run_at == "infinity":
        wait.add(await _waits_for_previous(conn, run, around), None if around["has_server"] else no_server())
    elif isinstance(run_at, datetime) and run_at > now:
        wait.add(_retry_later(run, now, attempts[-1]) if attempts else _not_due(run, now))
    workers = await watch.workers(conn, dead_after=dead_after, limit=WORKERS_MOST)
    workers = [worker for worker in workers if others or "app" not in lacks(worker, run)]
    fit = [worker for worker in workers if not lacks(worker, run)]
    wait.add(await _full_queue(conn, run, wait, now), await _full_key(conn, run))
    if not fit:
        wait.add(_no_worker(run, workers))
    elif isinstance(run_at, datetime) and run_at <= now:
        wait.add(await _behind(conn, run, wait, fit), _busy(fit))
    wait.add(_lost(run, row["lost"]), unknown_task(run, attempts))
    if not wait.reasons:
        wait.add(_about_to_start(run, now, fit))
    return wait


def lacks(worker: Row, run: Row) -> list[str]:
    """What a worker lacks to take a run; nothing: it can."""
    found = []
    if worker["state"] != "alive":
        found.append("sign_of_life")
    if worker["apps"] is not None and run["app"] not in worker["apps"]:
        found.append("app")
    if worker["queues"] is not None and run["queue"] not in worker["queues"]:
        found.append("queue")
    if run["executor"] not in worker["executors"]:
        found.append("executor")
    return found


def no_server() -> Reason:
    return Reason(
        "no_server",
        "No server is alive, and only servers let waiting runs go and take runs back from dead workers.",
        "scheduler run --no-worker",
        is_stop=True,
    )


def unknown_task(run: Row, attempts: Sequence[Row]) -> Reason | None:
    """Of the last attempt's error: which tasks a worker has is known to nobody but itself."""
    error = attempts[-1]["error"] if attempts else None
    if run["executor"] != "python" or not (error or "").startswith("unknown task "):
        return None
    last = attempts[-1]
    return Reason(
        "unknown_task",
        f"Worker {last['worker']}, which tried it at {said(last['finished_at'])}, does not have its task: {error}.",
        f"start workers that import the task's module: {command('scheduler', 'worker', '--app', run['app'])} "
        "--import MODULE",
        {"worker": last["worker"], "error": error},
    )


def _paused_app(run: Row, around: Row) -> Reason | None:
    paused_at = around["app_paused_at"]
    if paused_at is None:
        return None
    return Reason(
        "paused_app",
        f"App {run['app']} is paused since {said(paused_at)}: nothing of it is claimed.",
        command("scheduler", "job", "resume", run["app"]),
        {"paused_at": paused_at},
        is_stop=True,
    )


def _paused_job(run: Row, around: Row) -> Reason | None:
    paused_at = around["job_paused_at"]
    if paused_at is None:
        return None
    return Reason(
        "paused_job",
        f"Job {run['job']} is paused since {said(paused_at)}: nothing more of it is planned. This run was tried or "
        "triggered before, and starts all the same.",
        f"{command('scheduler', 'job', 'resume', run['app'], run['job'])}, or "
        f"{command('scheduler', 'runs', 'cancel', run['app'], run['id'])}",
        {"paused_at": paused_at},
    )


async def _waits_for_previous(conn: watch.Connection, run: Row, around: Row) -> Reason:
    if run["job"] is None:
        return Reason(
            "never_due",
            "It has no instant (run_at is infinity) and belongs to no job whose runs could end before it.",
            command("scheduler", "runs", "cancel", run["app"], run["id"]),
            is_stop=True,
        )
    found = await circumstances.previous(conn, run)
    runs = [row["run"] for row in found]
    return Reason(
        "waits_for_previous",
        f"Job {run['job']} may not overlap (overlap = {around['overlap']}): it waits until "
        + (f"run {listed(runs)} has ended." if runs else "a server lets it go, which is due now."),
        command("scheduler", "runs", "cancel", run["app"], runs[0]) if runs else None,
        {"overlap": around["overlap"], "runs": found},
    )


def _not_due(run: Row, now: datetime) -> Reason:
    left = -since(now, run["run_at"])
    return Reason(
        "not_due",
        f"It is due at {said(run['run_at'])}, in {seconds(left)}.",
        facts={"run_at": run["run_at"], "seconds": left},
    )


def _retry_later(run: Row, now: datetime, last: Row) -> Reason:
    left = -since(now, run["run_at"])
    return Reason(
        "retry_later",
        f"Attempt {last['attempt']} of {run['max_attempts']} ended as {last['outcome']}: "
        f"{last['error'] or 'no error was reported'}. The next is due at {said(run['run_at'])}, in {seconds(left)}.",
        facts={"run_at": run["run_at"], "seconds": left, "last_attempt": last},
    )


async def _full_queue(conn: watch.Connection, run: Row, wait: Wait, now: datetime) -> Reason | None:
    limit = await circumstances.limit(conn, run["app"], run["queue"])
    if limit is None:
        return None
    change = ("scheduler", "limit", run["app"], run["queue"])
    if limit["concurrency_limit"] == 0:
        return Reason(
            "queue_stopped",
            f"Queue {run['queue']} is stopped: its limit is 0 runs at a time.",
            command(*change, "--none"),
            {"concurrency_limit": 0},
            is_stop=True,
        )
    if limit["slots"] == 0:
        holders = await circumstances.queue_holders(conn, run["app"], run["queue"])
        return Reason(
            "queue_full",
            f"Queue {run['queue']} may run {limit['concurrency_limit']} at a time, and {limit['taken']} are held: run "
            f"{listed([row['run'] for row in holders], total=int(limit['taken']))}.",
            command(*change, "--concurrency", limit["concurrency_limit"] + 1),
            {"concurrency_limit": limit["concurrency_limit"], "taken": int(limit["taken"]), "runs": holders},
        )
    if limit["tokens"] == 0:
        refills_at = now + timedelta(seconds=limit["wait"])
        wait.due_at = max(refills_at, wait.due_at or refills_at)
        return Reason(
            "rate_empty",
            f"Queue {run['queue']} may start {limit['rate_limit']} runs per {seconds(limit['rate_interval'])}, and has "
            f"used them up: the next may start at {said(refills_at)}, in {seconds(limit['wait'])}.",
            command(*change, "--rate", limit["rate_limit"] * 2, "--per", f"{limit['rate_interval']:g}s"),
            {
                "rate_limit": limit["rate_limit"],
                "rate_interval": limit["rate_interval"],
                "refills_at": refills_at,
                "seconds": limit["wait"],
            },
        )
    return None


async def _full_key(conn: watch.Connection, run: Row) -> Reason | None:
    key, most = run["concurrency_key"], run["concurrency_limit"] or 1
    if key is None:
        return None
    holders = await circumstances.key_holders(conn, run["app"], key, limit=min(most, BEFORE_MOST))
    if len(holders) < most:
        return None
    runs = [row["run"] for row in holders]
    return Reason(
        "key_full",
        f"Concurrency key {key!r} lets {most} of the app's runs go at a time, and they are held: run {listed(runs)}.",
        command("scheduler", "runs", "show", run["app"], runs[0]),
        {"concurrency_key": key, "concurrency_limit": most, "runs": holders[:SHOWN]},
    )


def _no_worker(run: Row, workers: Sequence[Row]) -> Reason:
    found = [
        {"worker": worker["id"], "label": worker["label"], "host": worker["host"], "lacks": lacks(worker, run)}
        for worker in workers
    ]
    text = f"No live worker takes executor {run['executor']} from queue {run['queue']} of app {run['app']}"
    if not found:
        text += ": there is none at all."
    else:
        seen = [f"worker {one['worker']} ({one['label']}) lacks the {_words(one['lacks'])}" for one in found[:NAMED]]
        more = f", and {len(found) - NAMED} more" if len(found) > NAMED else ""
        text += f": {'; '.join(seen)}{more}."
    return Reason(
        "no_worker",
        text,
        command("scheduler", "worker", "--app", run["app"], "--queue", run["queue"], "--executors", run["executor"]),
        {"app": run["app"], "queue": run["queue"], "executor": run["executor"], "workers": found[:SHOWN]},
        is_stop=True,
    )


def _words(lacking: Sequence[str]) -> str:
    return " and the ".join(word.replace("_", " ") for word in lacking)


async def _behind(conn: watch.Connection, run: Row, wait: Wait, fit: Sequence[Row]) -> Reason | None:
    executors = sorted({name for worker in fit for name in worker["executors"]} - {"event"})
    found = await circumstances.before(conn, run, executors)
    wait.before, wait.is_more = min(found["count"], BEFORE_MOST), found["count"] > BEFORE_MOST
    if not wait.before:
        return None
    higher = min(found["of_higher_priority"], BEFORE_MOST)
    count = f"more than {BEFORE_MOST:,}" if wait.is_more else f"{wait.before:,}"
    where = f"queue {run['queue']}" if run["concurrency_key"] is None else f"concurrency key {run['concurrency_key']!r}"
    return Reason(
        "behind",
        f"In {where} {count} due {'run comes' if wait.before == 1 else 'runs come'} before it, {higher:,} by a higher "
        "priority, the others by an earlier instant.",
        f"{command('scheduler', 'worker', '--app', run['app'], '--queue', run['queue'], '--executors')} "
        f"{','.join(executors)}",
        {"count": wait.before, "is_at_least": wait.is_more, "of_higher_priority": higher},
    )


def _busy(fit: Sequence[Row]) -> Reason | None:
    if any(worker["running"] < worker["concurrency"] for worker in fit):
        return None
    slots = [(one["id"], one["label"], one["concurrency"]) for one in fit]
    return Reason(
        "workers_busy",
        "All slots of the workers that could take it are in use: "
        f"{listed([f'worker {one[0]} ({one[1]}) has {one[2]}' for one in slots])}.",
        "start another worker, or more slots: scheduler worker --concurrency N",
        {"workers": [{key: one[key] for key in ("id", "label", "concurrency", "running")} for one in fit[:SHOWN]]},
    )


def _lost(run: Row, lost: int) -> Reason | None:
    if not lost:
        return None
    is_isolated = lost >= ISOLATED_FROM or run["attempt"] + 1 >= run["max_attempts"]
    return Reason(
        "lost",
        f"{lost} of {LOST_MOST} attempts in a row were lost with the worker that ran them. The next one is executed "
        + ("in a child process of its own, so that it takes nothing else along." if is_isolated else "as any other."),
        f"look for what ends the workers: {command('scheduler', 'runs', 'show', run['app'], run['id'])}",
        {"lost": lost, "most": LOST_MOST, "in_child": is_isolated},
    )


def _about_to_start(run: Row, now: datetime, fit: Sequence[Row]) -> Reason:
    late = since(now, run["run_at"])
    return Reason(
        "about_to_start",
        f"Nothing keeps it: it is due since {seconds(late)}, and {len(fit)} live "
        f"{'worker' if len(fit) == 1 else 'workers'} can take it.",
        None if late < 10 else "if it stays so, run scheduler doctor",  # noqa: PLR2004  seconds
        {"late": late, "workers": len(fit)},
    )


async def _event(conn: watch.Connection, run: Row) -> Reason:
    found: dict[str, Any] = await circumstances.event(conn, run["app"], run["id"]) or {}
    locked, lives = found.get("locked_until"), found.get("lives_until")
    return Reason(
        "event",
        f"It is an event, which waits in its channel for a client until {said(lives)}"
        + (f", and a client has it locked until {said(locked)}." if locked else "."),
        facts={"lives_until": lives, "locked_until": locked},
    )
