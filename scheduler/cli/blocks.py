"""Counts as a chart of blocks, as wide as the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime, timedelta

from scheduler.forecast.chart import ROUND, condensed

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_LINES = 8
_LEAST = 20  # columns, however narrow the terminal


def chart(counts: list[int], start: datetime, width: int) -> Iterator[str]:
    """Its lines, for counts of one minute each; a column has the greatest of those it stands for."""
    highest = max(counts, default=0)
    label = f"{highest:,}"
    step, heights = condensed(counts, max(_LEAST, width - len(label) - 1))
    is_plain = not _can_show("█")
    for line in reversed(range(_LINES)):
        row = "".join(_cell(height, highest, line, is_plain=is_plain) for height in heights)
        yield f"{label if line == _LINES - 1 else '':>{len(label)}} {row}".rstrip()
    yield f"{'0':>{len(label)}} {_axis(start, step, len(heights))}"


def _cell(height: int, highest: int, line: int, *, is_plain: bool) -> str:
    """A column's part in a line, counted from below. What is not nothing shows."""
    eighths = 8 * _LINES * height // highest if highest else 0
    filled = max(0, min(8, (max(1, eighths) if height else 0) - 8 * line))
    if is_plain:
        return "#" if filled > 3 or (filled and line == 0) else " "  # noqa: PLR2004  half a line
    return _EIGHTHS[filled]


def _axis(start: datetime, step: int, columns: int) -> str:
    """The time at some of the columns."""
    form = "%H:%M" if step * columns <= 36 * 60 else "%m-%d %H:%M"
    apart = max(len(f"{start:{form}}") + 3, columns // 8)
    every = next((minutes // step for minutes in ROUND if minutes >= apart * step and minutes % step == 0), apart)
    line = ""
    for column in range(0, columns, every):
        line = f"{line:<{column}}{start + column * timedelta(minutes=step):{form}}"
    return line


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
