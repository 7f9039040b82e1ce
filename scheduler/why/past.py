"""What became of a run that a worker took: where it is, how it ended, and its timeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from scheduler.store import watch
from scheduler.store.watch import circumstances
from scheduler.why.answer import Reason, Row, command, said, seconds, since, worker_named
from scheduler.why.waiting import LOST_MOST, no_server, unknown_task

POISON = "poison: lost "  # so begins the error of a run that was lost too often, whose last attempt has failed
TIMEOUT = 3600.0  # seconds, where neither the run nor its task says


async def judge_held(conn: watch.Connection, run: Row, now: datetime, *, dead_after: float) -> list[Reason] | None:
    """Of a run in a worker's hands, prefetched or running; None when it is there no more."""
    held = await circumstances.held(conn, run["app"], run["id"], run["fence"])
    if held is None:
        return None
    names = await circumstances.named_workers(conn, [run["worker"]])
    who = worker_named(run["worker"], names)
    reasons = [_running(run, held, who, now) if held["begun_at"] else _prefetched(run, held, who, now)]
    if held["is_cancelled"]:
        reasons.append(
            Reason("cancelling", "Its cancellation was asked for, and its worker was told to stop it.", facts={})
        )
    worker = names.get(run["worker"])
    if worker is None or worker["dead_at"] or worker["stopped_at"] or worker["silent_for"] > dead_after:
        reasons.append(_worker_gone(who, worker, dead_after))
        around = await circumstances.defined(conn, run["app"], run["job"], dead_after=dead_after)
        if not around["has_server"]:
            reasons.append(no_server())
    return reasons


def _prefetched(run: Row, held: Row, who: str, now: datetime) -> Reason:
    age = since(now, held["claimed_at"])
    return Reason(
        "prefetched",
        f"{who.capitalize()} took it {seconds(age)} ago, ahead of its start, with {held['open'] - 1} others under "
        f"lease {run['fence']}, and starts it when it is due and a slot is free.",
        facts={
            "worker": run["worker"],
            "lease": run["fence"],
            "claimed_at": held["claimed_at"],
            "seconds": age,
            "open": held["open"],
        },
    )


def _running(run: Row, held: Row, who: str, now: datetime) -> Reason:
    age, timeout = since(now, held["begun_at"]), held["timeout"] or TIMEOUT
    ends_at = now + timedelta(seconds=timeout - age) if age < timeout else None
    return Reason(
        "running",
        f"{who.capitalize()} began its lease {seconds(age)} ago, and runs it as attempt {run['attempt']} of "
        f"{run['max_attempts']}; a run is stopped after {seconds(timeout)}.",
        command("scheduler", "runs", "cancel", run["app"], run["id"]),
        {
            "worker": run["worker"],
            "lease": run["fence"],
            "begun_at": held["begun_at"],
            "seconds": age,
            "timeout": timeout,
            "times_out_at": ends_at,
        },
    )


def _worker_gone(who: str, worker: Row | None, dead_after: float) -> Reason:
    if worker is None:
        what = "is not known any more"
    elif worker["dead_at"]:
        what = f"was declared dead at {said(worker['dead_at'])}"
    elif worker["stopped_at"]:
        what = f"stopped at {said(worker['stopped_at'])}"
    else:
        what = f"has been silent for {seconds(worker['silent_for'])}, which is longer than {seconds(dead_after)}"
    return Reason(
        "worker_gone",
        f"{who.capitalize()} {what}: a server takes the run back within moments.",
        "scheduler workers --all, and look for what ended it",
        {"silent_for": worker and worker["silent_for"], "dead_at": worker and worker["dead_at"]},
    )


def judge_ended(run: Row, attempts: Sequence[Row], changes: Sequence[Row]) -> list[Reason]:
    """How a run ended."""
    again = next((row["after"]["run"] for row in changes if row["action"] == "retry" and row["after"]), None)
    reasons = [_end(run, attempts, changes)]
    unknown = unknown_task(run, attempts)
    if unknown is not None:
        reasons.append(unknown)
    if again is not None:
        reasons.append(
            Reason(
                "retried",
                f"It was run once more, as run {again}.",
                command("scheduler", "why", run["app"], again),
                {"run": again},
            )
        )
    return reasons


def _end(run: Row, attempts: Sequence[Row], changes: Sequence[Row]) -> Reason:
    retry = command("scheduler", "runs", "retry", run["app"], run["id"])
    error = run["error"] or "no error was reported"
    facts = {"attempts": len(attempts), "max_attempts": run["max_attempts"], "error": run["error"]}
    if run["state"] == "succeeded":
        late = _lateness(run)
        took = since(run["finished_at"], run["started_at"]) if isinstance(run["finished_at"], datetime) else 0.0
        return Reason(
            "succeeded",
            f"It succeeded with attempt {run['attempt']}, which began {seconds(late)} after it was due and took "
            f"{seconds(max(took, 0))}.",
            facts={**facts, "late": late, "seconds": max(took, 0)},
        )
    if run["state"] == "cancelled":
        who = [row for row in changes if row["action"] == "cancel"]
        by = f" by {who[-1]['actor'] or who[-1]['role']} at {said(who[-1]['at'])}" if who else ""
        unknown = " by its job (overlap = replace), its task, or somebody the audit does not tell"
        return Reason(
            "cancelled",
            f"It was cancelled{by or unknown}: {error}.",
            retry,
            {**facts, "by": {key: who[-1][key] for key in ("at", "role", "actor")} if who else None},
        )
    if (run["error"] or "").startswith(POISON) and [one["outcome"] for one in attempts[-2:-1]] == ["lost"]:
        return Reason(
            "poison",
            f"{LOST_MOST} attempts in a row were lost with the worker, or the child process, that ran them: "
            f"{error.partition('; ')[2] or error}.",
            f"find out what it does to its process, then {retry}",
            {**facts, "lost": LOST_MOST},
        )
    used = run["attempt"] >= run["max_attempts"]
    return Reason(
        "failed",
        f"It failed with attempt {run['attempt']} of {run['max_attempts']}"
        + (", its last" if used else ", after which it was not to be tried again")
        + f": {error}.",
        f"mend the cause, then {retry}",
        facts,
    )


def _lateness(run: Row) -> float:
    started = run["started_at"]
    return max(since(started, run["run_at"]), 0.0) if isinstance(started, datetime) else 0.0


def timeline(
    run: Row,
    *,
    held: Row | None,
    fire: Row | None,
    attempts: Sequence[Row],
    changes: Sequence[Row],
    names: Mapping[int, Row],
) -> list[Row]:
    """What happened to it and when, the first first. When a run was inserted is not kept; when it was planned is."""
    events: list[Row] = []
    if fire is not None:
        events.append(_event(fire["decided_at"], "planned", text=f"for {said(run['scheduled_at'])}"))
    events += [
        _event(row["at"], _did(row["action"]), by=row["actor"] or row["role"], text=_new_run(row)) for row in changes
    ]
    for one in attempts:
        who = {"attempt": one["attempt"], "worker": one["worker"], "fence": one["fence"]}
        label = names.get(one["worker"] or 0, {}).get("label")
        if one["started_at"] is not None:
            events.append(_event(one["started_at"], "started", label=label, **who))
        again = f"to be tried again at {said(one['retry_at'])}" if one["retry_at"] is not None else None
        text = "; ".join(part for part in (one["error"], again) if part) or None
        who["retry_at"] = one["retry_at"]
        events.append(_event(one["finished_at"], one["outcome"], label=label, text=text, **who))
    if held is not None:
        who = {"worker": run["worker"], "fence": run["fence"]}
        label = names.get(run["worker"] or 0, {}).get("label")
        events.append(_event(held["claimed_at"], "claimed", label=label, **who))
        if held["begun_at"] is not None:
            events.append(_event(held["begun_at"], "begun", label=label, attempt=run["attempt"], **who))
    elif run["finished_at"] is None and run["run_at"] != "infinity":
        events.append(_event(run["run_at"], "due"))
    # Texts are instants that Python cannot hold: none of them is between others.
    events.sort(key=lambda one: (isinstance(one["at"], str), one["at"] if isinstance(one["at"], datetime) else 0))
    return events


def _did(action: str) -> str:
    return {"cancel": "cancel asked for", "retry": "retried", "trigger": "triggered"}.get(action, action)


def _new_run(row: Row) -> str | None:
    return f"as run {row['after']['run']}" if row["action"] == "retry" and row["after"] else None


def _event(at: datetime | str, what: str, **more: object) -> Row:
    known = dict.fromkeys(("attempt", "worker", "label", "fence", "by", "text", "retry_at"))
    return {"at": at, "what": what, **known, **more}
