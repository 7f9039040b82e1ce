"""A reason, and the words in which it is given."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Row = dict[str, Any]
NAMED = 5
"""Runs and workers are named up to here in a sentence; the facts have more of them."""


@dataclass(frozen=True, slots=True)
class Reason:
    """`text` is a sentence; `remedy` what can be done about it, None where there is nothing to do but wait; `is_stop`:
    it will not pass by itself.
    """

    code: str
    text: str
    remedy: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    is_stop: bool = False

    def as_row(self) -> Row:
        return {"code": self.code, "text": self.text, "remedy": self.remedy, "facts": dict(self.facts)}


def said(instant: datetime | str | None) -> str:
    """An instant in a sentence."""
    if isinstance(instant, datetime):
        return instant.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return instant or "an unknown time"


def seconds(number: float) -> str:
    """A duration in a sentence."""
    if number < 1:
        return f"{number * 1000:.0f} ms"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if number >= 2 * size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.1f} s"


def since(now: datetime, instant: datetime | str | None) -> float:
    """Seconds from an instant until now; 0 for one that Python cannot hold."""
    return (now - instant).total_seconds() if isinstance(instant, datetime) else 0.0


def listed(names: Sequence[object], *, total: int | None = None) -> str:
    """`a, b, c and 17 more`."""
    shown = ", ".join(str(name) for name in names[:NAMED])
    more = (len(names) if total is None else total) - min(len(names), NAMED)
    return f"{shown} and {more} more" if more > 0 else shown


def command(*words: object) -> str:
    """What is to be typed, ready to be pasted."""
    return shlex.join(str(word) for word in words)


def worker_named(worker: int | None, names: Mapping[int, Row]) -> str:
    row = names.get(worker or 0)
    return f"worker {worker}" if row is None else f"worker {worker} ({row['label']} on {row['host']})"
