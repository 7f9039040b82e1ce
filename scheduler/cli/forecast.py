"""`forecast`: what is to come, before it comes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from scheduler import forecast as ahead
from scheduler.cli import show
from scheduler.cli.blocks import chart
from scheduler.cli.session import ask
from scheduler.config import Settings

Row = dict[str, Any]
_OVERLAPS = {"allow": "side by side", "skip": "skipped", "queue": "queued", "replace": "replaces it"}
_SHOWN = 20  # rows of a table; --json has more


def _of_a_chart(_: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and (path.suffix.lower() != ".svg" or not path.absolute().parent.is_dir()):
        raise click.BadParameter(f"{str(path)!r} must end in .svg, in a directory that is there", param=param)
    return path


@click.command()
@click.argument("apps", nargs=-1, metavar="[APP]...")
@click.option("--hours", type=click.IntRange(1, 720), help="How far ahead; default: 24.")
@click.option("--days", type=click.IntRange(1, 30), help="How far ahead, in days of 24 hours.")
@click.option(
    "--if",
    "suppositions",
    multiple=True,
    metavar="APP/JOB=SCHEDULE",
    help="As if the job had this schedule, were new, or (with nothing after the =) removed; may be repeated.",
)
@click.option("--peaks", type=click.IntRange(0, 1_000), default=5, show_default=True, help="Minutes to show.")
@click.option(
    "--svg",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    callback=_of_a_chart,
    help="Draw the fires per minute as an SVG.",
)
@show.with_json
def forecast(
    *,
    apps: tuple[str, ...],
    hours: int | None,
    days: int | None,
    suppositions: tuple[str, ...],
    peaks: int,
    svg: Path | None,
    as_json: bool,
) -> None:
    """Show what the planner will do: fires per minute, the peaks, runs that will overlap, queues that will be full.

    Of these apps, or of all. How long runs take is expected from the last 20 attempts of each job.
    """
    if hours is not None and days is not None:
        raise click.UsageError("give --hours or --days, not both")
    changes = [_change(text, apps) for text in suppositions]
    if svg is not None:
        from scheduler.bench.plot import ensure_installed  # noqa: PLC0415  an extra

        ensure_installed("--svg")
    settings = Settings.from_env()
    gathered = ask(lambda conn: ahead.gather(conn, apps or None, dead_after=settings.dead_after))
    ahead.ensure_known(gathered.jobs, changes, apps or None)
    minutes = 60 * (24 * days if days is not None else hours or 24)
    told = ahead.forecast(gathered, minutes, changes=changes, peaks=peaks, pulse_below=settings.pulse_below)
    if svg is not None:
        from scheduler.forecast.chart import draw  # noqa: PLC0415  an extra

        draw(told, svg)
    if as_json:
        show.document(told)
        return
    if changes:
        _print_changes(told)
    _print(told.get("after", told))


def _change(text: str, apps: tuple[str, ...]) -> ahead.Change:
    named, equals, schedule = text.partition("=")
    app, slash, job = named.partition("/")
    if not slash and len(apps) == 1:
        app, job = apps[0], named
    if not (equals and app and job):
        raise click.UsageError(f"--if {text[:60]!r}: write APP/JOB=SCHEDULE, like 'shop/nightly=0 3 * * *'")
    return ahead.Change(app, job, schedule.strip() or None)


def _print(told: Row) -> None:
    click.echo(
        f"{told['fires']:,} fires of {told['jobs']['firing']:,} jobs"
        f" from {show.instant(told['now'])} to {show.instant(told['end'])}{_quiet(told['jobs'])}"
    )
    for line in chart(told["per_minute"], told["start"], shutil.get_terminal_size().columns):
        click.echo(line)
    _section("PEAKS", ("MINUTE", "FIRES", "JOBS", "LARGEST"), [_peak(row) for row in told["peaks"]])
    _section(
        "RUNS THAT MEET THE NEXT FIRE",
        ("APP", "JOB", "SCHEDULE", "FIRES", "MEET", "AT P95", "MEDIAN", "P95", "THE NEXT IS"),
        [
            (
                row["app"],
                row["job"],
                row["schedule"],
                row["fires"],
                row["overlapping"],
                row["overlapping_at_p95"],
                show.duration(row["median"]),
                show.duration(row["p95"]),
                _OVERLAPS[row["overlap"]],
            )
            for row in told["overlaps"]
        ],
        told["overlapping_jobs"],
    )
    _section(
        "QUEUES WITH MORE THAN MAY RUN",
        ("APP", "QUEUE", "SLOTS", "LIMIT", "A MINUTE", "MOST", "AT", "MINUTES", "FIRST"),
        [
            (
                row["app"],
                row["queue"],
                row["slots"],
                row["concurrency_limit"],
                None if row["rate_per_minute"] is None else f"{row['rate_per_minute']:g}",
                row["most"],
                row["most_at"],
                row["minutes"],
                row["first_at"],
            )
            for row in told["exceeded"]
        ],
        told["exceeded_queues"],
    )
    _remarks(told)


def _remarks(told: Row) -> None:
    together = told["together"]
    if together["minutes"]:
        show.note(
            f"all queues together: {together['most']:,} runs at a time, the most of them at"
            f" {show.instant(together['most_at'])}, for {together['slots']:,} slots of living workers"
        )
    for count, text in (
        (told["late"], "instants passed unplanned, and start now"),
        (told["estimated"], "jobs are @after: estimated from how long their runs took"),
        (told["without_history"], "jobs have no attempts yet: their runs are taken to end at once"),
        (told["unjittered"], "jobs have so many instants that their jitter is left out"),
    ):
        if count:
            show.note(f"{count:,} {text}")
    for row in told["invalid"][:_SHOWN]:
        show.note(f"job {row['job']} of app {row['app']} is not planned: {row['error']}")


def _print_changes(told: Row) -> None:
    before, after = told["before"], told["after"]
    rows = [
        *((f"fires of {row['app']}/{row['job']}", row["before"], row["after"]) for row in told["changes"]),
        ("fires in all", before["fires"], after["fires"]),
        ("most in a minute", max(before["per_minute"]), max(after["per_minute"])),
        ("jobs whose runs meet the next fire", before["overlapping_jobs"], after["overlapping_jobs"]),
        ("queues with more than may run", before["exceeded_queues"], after["exceeded_queues"]),
        ("most runs at a time", before["together"]["most"], after["together"]["most"]),
    ]
    show.table(("", "BEFORE", "AFTER"), [(name, _or_none(one), _or_none(other)) for name, one, other in rows])
    click.echo()


def _section(title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]], count: int | None = None) -> None:
    if not rows:
        return
    click.echo(f"\n{title}")
    show.table(columns, rows[:_SHOWN])
    if (count or len(rows)) > _SHOWN:
        show.note(f"{(count or len(rows)) - _SHOWN:,} more; --json lists more")


def _peak(row: Row) -> tuple[Any, ...]:
    named = [f"{one['app']}/{one['job']}" + (f" x{one['fires']}" if one["fires"] > 1 else "") for one in row["largest"]]
    rest = row["jobs"] - len(named)
    return row["minute"], row["fires"], row["jobs"], ", ".join(named) + (f" and {rest:,} more" if rest else "")


def _quiet(jobs: Row) -> str:
    words = {"paused": "paused", "on_demand": "on demand", "invalid": "with a bad schedule", "over": "over"}
    shown = [f"{jobs[key]:,} {word}" for key, word in words.items() if jobs[key]]
    return f" ({', '.join(shown)})" if shown else ""


def _or_none(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
