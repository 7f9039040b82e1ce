"""The chart of a document of results: figures beside their floors, a panel for each unit."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

from scheduler.errors import MissingExtraError

_FIGURE, _FLOOR = "#2f6f8f", "#c9ced6"
_ROW, _HEAD, _WIDTH = 0.42, 1.1, 10.0  # inches


def ensure_installed(option: str = "--plot") -> None:
    """MissingExtraError, before anything is measured, when no chart could be drawn of it."""
    if find_spec("matplotlib") is None:
        raise MissingExtraError(option, "bench")


def draw(document: dict[str, Any], path: Path) -> None:
    """Write the chart as PNG or SVG, as the path's suffix says."""
    from matplotlib.figure import Figure  # noqa: PLC0415  an extra; no pyplot, which would look for a screen

    panels = [(unit, list(lines)) for unit, lines in groupby(sorted(document["lines"], key=_unit), _unit)]
    heights = [_HEAD + _ROW * len(lines) for _, lines in panels]
    figure = Figure(figsize=(_WIDTH, sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False)
    for axis, (unit, lines) in zip(axes[:, 0], panels, strict=True):
        _panel(axis, unit, lines)
    database, machine = document["database"], document["machine"]
    figure.suptitle(
        f"Walclock {document['walclock']} on PostgreSQL {database['version'].split()[0]}, {machine['cpus']} CPUs",
        fontsize="medium",
    )
    figure.savefig(path, format=path.suffix[1:].lower(), dpi=150)


def _panel(axis: Any, unit: str, lines: Sequence[dict[str, Any]]) -> None:
    places = range(len(lines))
    figures = [line["figure"] for line in lines]
    medians = [one["median"] for one in figures]
    spread = [
        [one["median"] - one["min"] for one in figures],
        [one["max"] - one["median"] for one in figures],
    ]
    axis.barh([place + 0.2 for place in places], medians, 0.38, color=_FIGURE, xerr=spread, label="Walclock")
    floors = [(place, line["floor"]["median"]) for place, line in enumerate(lines) if line["floor"]]
    if floors:
        axis.barh(
            [place - 0.2 for place, _ in floors], [value for _, value in floors], 0.38, color=_FLOOR, label="floor"
        )
    axis.set_yticks(list(places), [line["title"] for line in lines], fontsize="small")
    axis.invert_yaxis()
    axis.set_xlabel(f"{unit} ({lines[0]['better']} is better)", fontsize="small")
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize="small", loc="lower right")


def _unit(line: dict[str, Any]) -> str:
    return str(line["unit"])
