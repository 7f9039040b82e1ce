"""The fires per minute as an SVG."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

_FILL, _BEFORE = "#2f6f8f", "#b0562f"
_WIDTH, _HEIGHT = 10.0, 3.2  # inches
ROUND = (1, 2, 5, 10, 15, 20, 30, 60, 120, 180, 240, 360, 720, 1_440, 2_880, 7_200, 10_080, 14_400)
"""Minutes that go together, so that times beside a chart are round."""
_MOST = 2_000
"""Steps of the line: a month of minutes drew 43,200, an SVG of some megabytes in which no more was to be seen."""


def draw(document: dict[str, Any], path: Path) -> None:
    """Write it; of a forecast with changes both lines."""
    from matplotlib.figure import Figure  # noqa: PLC0415  an extra; no pyplot, which would look for a screen

    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    axis: Any = figure.subplots()
    told = document.get("after", document)
    step, heights = condensed(told["per_minute"], _MOST)
    start: datetime = told["start"]
    times = [start + number * timedelta(minutes=step) for number in range(len(heights) + 1)]
    axis.stairs(heights, times, fill=True, color=_FILL, label="after" if "after" in document else None)
    if "before" in document:
        axis.stairs(condensed(document["before"]["per_minute"], _MOST)[1], times, color=_BEFORE, label="before")
        axis.legend(fontsize="small", loc="upper right")
    axis.set_xlim(times[0], times[-1])
    axis.set_ylim(0, None)
    axis.set_ylabel(f"fires a minute, most of {step}" if step > 1 else "fires a minute", fontsize="small")
    axis.set_xlabel("UTC", fontsize="small")
    axis.tick_params(labelsize="small")
    axis.grid(axis="y", alpha=0.3)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    period = f"{start:%Y-%m-%d %H:%M} to {told['end']:%Y-%m-%d %H:%M}"
    figure.suptitle(f"{told['fires']:,} fires from {period}", fontsize="medium")
    figure.savefig(path, format="svg")


def condensed(counts: list[int], most: int) -> tuple[int, list[int]]:
    """The counts as at most so many: how many go together, and the greatest of each."""
    needed = -(-len(counts) // most)
    step = next((one for one in ROUND if one >= needed), needed)
    return step, [max(counts[begin : begin + step]) for begin in range(0, len(counts), step)]
