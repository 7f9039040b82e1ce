"""`bench`: what the product does on this database, beside what plain SQL does there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from scheduler import db
from scheduler.bench.names import NAMES, SHORT
from scheduler.bench.options import Options
from scheduler.cli import show
from scheduler.cli.session import Place, located, prepare
from scheduler.config import Settings

Row = dict[str, Any]
_DEFAULTS = Options()
_HELP = {
    "runs": "Runs of a drain and of a bulk enqueue.",
    "seconds": "Of what is measured for a time.",
    "repeat": "Measurements of each line; the median counts.",
    "workers": "Worker processes, where one is not all.",
    "clients": "Connections that insert at once, where one is not all.",
    "concurrency": "Runs at a time in a worker of async tasks.",
    "batch": "Rows to a statement of the drain in plain SQL.",
    "backlog": "Due runs of a backlog, and as many future ones.",
    "jobs": "Jobs that fire at one second.",
    "definitions": "Jobs that a server keeps in mind.",
    "due": "Of these, how many fire each second.",
}


def _sizes(command: Callable[..., Any]) -> Callable[..., Any]:
    for one in reversed(fields(Options)):
        default = getattr(_DEFAULTS, one.name)
        kind = click.FloatRange(0.1, 3_600) if isinstance(default, float) else click.IntRange(1, 100_000_000)
        command = click.option(f"--{one.name}", type=kind, default=default, show_default=True, help=_HELP[one.name])(
            command
        )
    return command


def _of_a_chart(_: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Refused before anything is measured."""
    if path is not None and (path.suffix.lower() not in {".png", ".svg"} or not path.absolute().parent.is_dir()):
        raise click.BadParameter(f"{str(path)!r} must end in .png or .svg, in a directory that is there", param=param)
    return path


@click.command()
@click.argument("scenarios", nargs=-1, type=click.Choice(NAMES), metavar="[SCENARIO]...")
@_sizes
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    callback=_of_a_chart,
    help="Draw a chart, a PNG or an SVG.",
)
@show.with_json
def bench(*, scenarios: tuple[str, ...], plot: Path | None, as_json: bool, **sizes: Any) -> None:
    """Measure this database: what the product does on it, and what plain SQL does in the same run.

    Scenarios: enqueue, drain, sleep, pickup, delayed, snapshot, backlog, planning, idle. Default: enqueue, drain,
    pickup and delayed. They work in apps of their own, and clean up after themselves, also on Ctrl-C.
    """
    from scheduler.bench.suite import run  # noqa: PLC0415  what other commands need not load

    if plot is not None:
        from scheduler.bench.plot import draw, ensure_installed  # noqa: PLC0415  an extra

        ensure_installed()
    names = list(dict.fromkeys(scenarios)) or list(SHORT)
    with located() as place:
        asyncio.run(_check(place))
        document = run(place.dsn, names, Options(**sizes))
    if plot is not None:
        draw(document, plot)
    if as_json:
        show.document(document)
    else:
        _print(document)


async def _check(place: Place) -> None:
    timeout = Settings.from_env().statement_timeout
    async with await db.connect(place.dsn, name="cli", statement_timeout=timeout) as conn:
        await prepare(conn, place)


def _print(document: Row) -> None:
    show.table(
        ("", "FIGURE", "FLOOR", "RATIO", "WORKER MEMORY", "WAL/RUN", "DB CPU/RUN"),
        [
            (
                line["title"],
                _measured(line["figure"], line["unit"]),
                _measured(line["floor"], line["unit"]),
                _median(line["ratio"], "{:.2f}"),
                _median(line["worker_memory_bytes"], "{:.0f} MB", 1e-6),
                _median(line["wal_bytes_per_run"], "{:,.0f} B"),
                _median(line["database_cpu_us_per_run"], "{:,.1f} µs"),
            )
            for line in document["lines"]
        ],
    )


def _measured(summary: Row | None, unit: str) -> str:
    pattern = "{:,.0f}" if unit == "runs/s" else "{:,.2f}"
    return _median(summary, f"{pattern} {unit}")


def _median(summary: Row | None, pattern: str, scale: float = 1.0) -> str:
    return pattern.format(summary["median"] * scale) if summary else ""
