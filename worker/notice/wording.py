"""What a notice says: what happened, where, since when, how often, and the command to look further.

A notice is what `scheduler.write_notices` wrote: `app`, `alarm`, `kind`, `job`, `times`, `within` (seconds), `state`
(firing, again, resolved or test), `at`; but for a test also `since_at`, `count`, `at_least`, `latest` and `most`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

Notice = dict[str, Any]

_STATES = {"firing": "FIRING", "again": "STILL FIRING", "resolved": "RESOLVED", "test": "TEST"}
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
SHOWN = 300  # characters of an error


def subject(notice: Notice) -> str:
    """One line: `FIRING shop/nightly-failed: 3 runs of job nightly failed`."""
    return f"{_STATES.get(notice['state'], notice['state'])} {notice['app']}/{notice['alarm']}: {_what(notice)}"


def text(notice: Notice) -> str:
    """A few lines for people; the first is the subject."""
    if notice["state"] == "test":
        return f"{subject(notice)}\nsent {_at(notice['at'])} by `scheduler alarm test`. Nothing is wrong."
    lines = [subject(notice), f"app {notice['app']}, {_since(notice)}"]
    latest, most = notice.get("latest") or {}, notice.get("most") or []
    if len(most) > 1:
        lines.append("most: " + ", ".join(_one_of(one) for one in most))
    if latest:
        lines.append(_latest(notice, latest))
    lines.append(f"look: {look(notice)}")
    return "\n".join(lines)


def look(notice: Notice) -> str:
    """The command that shows more."""
    latest = notice.get("latest") or {}
    if latest.get("run") is not None:
        return f"scheduler why {latest['run']}"
    if latest.get("job") is not None:
        return f"scheduler job show {_word(notice['app'])} {_word(latest['job'])}"
    return f"scheduler alarm show {_word(notice['app'])} {_word(notice['alarm'])}"


def duration(seconds: float) -> str:
    """`1 h 30 min`: two units at most."""
    if seconds < 1:
        return f"{seconds:.3g} s"
    rest = round(seconds)
    parts: list[str] = []
    for size, unit in _UNITS:
        if rest >= size and len(parts) < 2:  # noqa: PLR2004  two units
            parts.append(f"{rest // size} {unit}")
            rest %= size
    return " ".join(parts)


def _what(notice: Notice) -> str:
    kind, within, job = notice["kind"], duration(notice["within"]), notice["job"]
    if notice["state"] == "test":
        return "this is a test"
    count = notice["count"]
    many = f"{'more than ' if notice.get('at_least') else ''}{count:,}"
    of = f" of job {job}" if job else ""
    it = "it" if count == 1 else "them"
    texts: dict[str, str] = {
        "failed": f"{many} {_n(count, 'run')}{of} failed for good",
        "failing": f"{many} {_n(count, 'attempt')}{of} failed",
        "poison": f"{many} {_n(count, 'run')}{of} killed the worker that ran {it}, three times in a row",
        "missed": f"{many} {_n(count, 'fire')}{of} {'was' if count == 1 else 'were'} missed",
        "late": f"runs{of} wait for more than {within} after they were due",
        "no_success": f"job {job} had no success within {within}"
        if job
        else f"{many} {_n(count, 'job')} had no success within {within}",
        "no_worker": f"no living worker takes what has been due for more than {within}",
    }
    return texts.get(kind) or str(kind)


def _since(notice: Notice) -> str:
    span = f"since {_at(notice['since_at'])}"
    if notice["state"] != "resolved":
        return span
    quiet = (
        f"; none for {duration(notice['within'])}"
        if notice["kind"] in {"failed", "failing", "poison", "missed"}
        else ""
    )
    return f"{span}, over at {_at(notice['at'])}{quiet}"


def _latest(notice: Notice, latest: dict[str, Any]) -> str:
    run = "" if latest.get("run") is None else f"run {latest['run']}"
    job = f"job {latest['job']}" if latest.get("job") else ""
    lane = f"{latest['executor']} in queue {latest['queue']}" if latest.get("queue") else ""
    named = ", ".join(part for part in (run, job, lane) if part)
    if notice["kind"] in {"late", "no_worker"}:
        return f"waiting longest: {named}, due since {_at(latest['at'])}"
    at = f" at {_at(latest['at'])}" if latest.get("at") else ""
    error = f": {_short(latest['error'])}" if latest.get("error") else ""
    return f"latest: {named}{at}{error}"


def _one_of(one: Any) -> str:
    if isinstance(one, dict):
        return f"{one.get('job') or 'without a job'} ({one.get('count'):,})"
    return str(one)


def _n(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"


def _word(text: str) -> str:
    return text if text.replace("-", "").replace("_", "").isalnum() else "'" + text.replace("'", "'\\''") + "'"


def _short(error: str) -> str:
    line = " ".join(error.split())
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}…"


def _at(instant: str) -> str:
    return datetime.fromisoformat(instant).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
