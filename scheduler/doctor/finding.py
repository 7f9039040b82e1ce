"""What was found, with its remedy, and from where on something is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Row = dict[str, Any]
NAMED = 10
"""Tables, jobs, workers are named up to here in one finding; the facts count them all, up to a bound."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`level`: an error is wrong now, a warning may become so. `remedy`: a command or SQL to paste, or what to do."""

    level: Literal["error", "warning"]
    code: str
    text: str
    remedy: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_row(self) -> Row:
        return {
            "level": self.level,
            "code": self.code,
            "text": self.text,
            "remedy": self.remedy,
            "facts": dict(self.facts),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """From where on something is a finding; instants in seconds, sizes in bytes."""

    dead_after: float = 5.0
    clock_offset: float = 1.0
    """Of this machine's clock. Nothing is scheduled by it, but its logs and tokens then tell another time."""
    snapshot_age: float = 60.0
    """A drain of 50,000 runs/s leaves 3,000,000 dead rows in that time, none of which can be removed."""
    snapshot_age_worst: float = 600.0
    dead_rows: int = 100_000
    """And more than there are rows."""
    slot_behind: int = 2**30
    wal_growth: float = 2.0
    """Times max_wal_size."""
    notify_queue: float = 0.1
    connections: float = 0.8
    """Of those that there are, in use."""
    late: float = 300.0
    """Work that is due for longer, with workers that could take it."""
    token_days: float = 7.0
    failures: int = 3
    """Runs of a job that ended lately, all of them without success."""


def some(names: list[Any]) -> str:
    """`a, b and 12 more`."""
    shown = ", ".join(str(name) for name in names[:NAMED])
    return f"{shown} and {len(names) - NAMED} more" if len(names) > NAMED else shown


def size(number: float) -> str:
    for limit, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= limit:
            return f"{number / limit:.1f} {unit}"
    return f"{number:.0f} bytes"


def quoted(name: str) -> str:
    """An identifier, for SQL to paste."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
