"""Lines of results: a figure, its floor and its costs, each measured several times; and the document made of them."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import scheduler
from scheduler.bench.connection import Connection
from scheduler.bench.meter import Costs
from scheduler.bench.options import Options
from scheduler.bench.statements import statement

_HIGHER_IS_BETTER = {"runs/s"}


@dataclass(slots=True)
class Line:
    """All measurements of one figure. `floor` and the costs stay empty where there is none, or it cannot be known."""

    name: str
    title: str
    unit: str
    figure: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    ratio: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    wal: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    details: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "scenario": self.name.partition(".")[0],
            "title": self.title,
            "unit": self.unit,
            "better": "higher" if self.unit in _HIGHER_IS_BETTER else "lower",
            "figure": _summary(self.figure),
            "floor": _summary(self.floor),
            "ratio": _summary(self.ratio),
            "worker_memory_bytes": _summary(self.memory),
            "wal_bytes_per_run": _summary(self.wal),
            "database_cpu_us_per_run": _summary(self.cpu),
            "details": self.details,
        }


class Results:
    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}

    def add(
        self,
        name: str,
        title: str,
        unit: str,
        figure: float,
        *,
        floor: float | None = None,
        memory: float | None = None,
        costs: Costs | None = None,
        details: Mapping[str, Any],
    ) -> None:
        """One measurement of the line of that name. The ratio is the figure over the floor of the same repetition.

        `details` are what a program may want to know besides, under names that do not change either.
        """
        line = self.lines.setdefault(name, Line(name, title, unit))
        line.figure.append(figure)
        line.details.append(dict(details))
        costs = costs or Costs()
        for values, value in (
            (line.floor, floor),
            (line.ratio, figure / floor if floor else None),
            (line.memory, memory),
            (line.wal, costs.wal),
            (line.cpu, costs.cpu),
        ):
            if value is not None:
                values.append(value)


def document(
    results: Results, options: Options, scenarios: Sequence[str], conn: Connection, *, is_local: bool
) -> dict[str, Any]:
    """Everything that one needs to know about the results, for a program. Names in it do not change."""
    rows = conn.execute(statement("settings")).fetchall()
    settings = {str(name): str(setting) for name, setting in rows}
    return {
        "walclock": scheduler.__version__,
        "finished_at": datetime.now(UTC),
        "machine": {
            "system": platform.platform(),
            "cpus": os.cpu_count(),
            "memory_bytes": _memory(),
            "python": platform.python_version(),
            "psycopg": version("psycopg"),
            "uvloop": _version("uvloop"),
            "orjson": _version("orjson"),
        },
        "database": {"version": settings.pop("server_version"), "is_local": is_local, "settings": settings},
        "scenarios": list(scenarios),
        "options": asdict(options),
        "lines": [line.as_json() for line in results.lines.values()],
    }


def _summary(values: list[float]) -> dict[str, Any] | None:
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "values": values}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least such a share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered), -int(-share * len(ordered) // 1)) - 1)]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
