"""What commands print: tables for people, JSON for programs. Results go to stdout, remarks to stderr."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scheduler.cron import Schedule

Command = TypeVar("Command", bound=Callable[..., Any])

_COLOURS = {
    "succeeded": "green",
    "alive": "green",
    "running": "cyan",
    "failed": "red",
    "dead": "red",
    "lost": "red",
    "silent": "yellow",
    "paused": "yellow",
    "cancelled": "yellow",
}
_CELL = 200  # characters; --json gives the whole text
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """As every other output does, so that `| head` ends all commands alike; rich would exit with 1."""
        raise BrokenPipeError


def with_json(command: Command) -> Command:
    """The option that every reading command has."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def with_limit(command: Command) -> Command:
    return click.option(
        "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Rows to show at most."
    )(command)


def document(value: Any) -> None:
    """One JSON document."""
    click.echo(json.dumps(value, default=_jsonable, indent=2, allow_nan=False))


def line(value: Any) -> None:
    """One JSON object of a stream, on a line of its own, at once."""
    click.echo(json.dumps(value, default=_jsonable, separators=(",", ":"), allow_nan=False))


def note(text: str) -> None:
    click.echo(f"note: {text}", err=True)


def text(value: str) -> None:
    """A line; what users stored can neither break it nor drive the terminal."""
    click.echo("\n".join(_printable(part) for part in value.split("\n")))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Framed and coloured on a terminal; elsewhere plain columns, each row on one line, whatever its width."""
    cells = [[_cell(value) for value in row] for row in rows]
    if not sys.stdout.isatty():
        _plain([list(columns), *cells])
        return
    framed = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for row in cells:
        framed.add_row(*(Text(text, style=_COLOURS.get(text.partition(" ")[0], ""), overflow="fold") for text in row))
    _Console().print(framed)


def fields(pairs: Iterable[tuple[str, Any]]) -> None:
    """One thing in full: a name and a value per line; what is absent is left out."""
    shown = [(name, _cell(value)) for name, value in pairs if value not in (None, [], "")]
    width = max((len(name) for name, _ in shown), default=0)
    for name, text in shown:
        click.echo(f"{name:<{width}}  {text}")


def more(rows: Sequence[dict[str, Any]], limit: int, option: str, *key: str) -> None:
    """After a table that was cut: how to go on behind its last row."""
    if len(rows) == limit:
        note(f"there may be more: {shlex.join([option, *(str(rows[-1][name]) for name in key)])}")


def duration(seconds: float | None) -> str:
    """`1h30m`, `250ms`, `2d4h`: at most two units, as people say it."""
    if seconds is None:
        return ""
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    if seconds < 1:
        return f"{sign}{seconds * 1000:.3g}ms" if seconds else "0s"
    if seconds < _MINUTE:
        return f"{sign}{seconds:.3g}s"
    whole = round(seconds)
    for unit, name, below, below_name in ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "m"), (_MINUTE, "m", 1, "s")):
        if whole >= unit:
            rest = whole % unit // below
            return f"{sign}{whole // unit}{name}{f'{rest}{below_name}' if rest else ''}"
    return f"{sign}{whole}s"


def instant(value: datetime | str | None) -> str:
    """ISO 8601 in UTC with a Z; seconds are enough for people."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return value or ""


def exact(value: datetime) -> str:
    """ISO 8601 in UTC with a Z, to the microsecond where there is one."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def with_local(instant: datetime, schedule: Schedule | None) -> str:
    """`2026-11-01T05:30:00Z  2026-11-01 01:30:00 -0400 EDT`; only the first in UTC."""
    text = exact(instant)
    if schedule is None or schedule.timezone == "UTC":
        return text
    return f"{text}  {instant.astimezone(ZoneInfo(schedule.timezone)):%Y-%m-%d %H:%M:%S %z %Z}"


def _jsonable(value: Any) -> Any:
    if isinstance(value, datetime):
        return exact(value)
    raise TypeError(type(value).__name__)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, list | tuple):
        value = ", ".join(str(one) for one in value)
    elif isinstance(value, dict):
        value = json.dumps(value, ensure_ascii=False, default=_jsonable)
    text = str(value)
    if len(text) > _CELL:
        text = f"{text[:_CELL]}…"
    return _printable(text)


def _printable(text: str) -> str:
    # What users stored must neither break the row nor drive the terminal.
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _plain(rows: list[list[str]]) -> None:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip())
