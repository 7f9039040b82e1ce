"""Definitions from elsewhere: `import crontab`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import click

from scheduler.cli import show
from scheduler.cli.session import Connection, ask
from scheduler.cron import parse
from scheduler.crontab import Crontab, Entry, Reading, Remark, machine, read_crontab
from scheduler.crontab.naming import stem_of
from scheduler.crontab.reading import source_tag
from scheduler.crontab.text import read_text
from scheduler.errors import SchedulerError
from scheduler.model import NewJob
from scheduler.store import define, watch

Row = dict[str, Any]
_SHOWN = 3  # instants of each job
_PAGE = 1_000  # jobs


@click.group("import")
def imports() -> None:
    """Add definitions that another scheduler has."""


@imports.command()
@click.argument("file")
@click.option("--app", default="default", show_default=True, help="The app of the jobs.")
@click.option(
    "--system/--no-system",
    default=None,
    help="Whether lines have a user column; default: yes for /etc/crontab and the files of /etc/cron.d.",
)
@click.option("--timezone", metavar="ZONE", help="The zone that cron goes by; default: this machine's.")
@click.option(
    "--ignore-user", is_flag=True, help="Import lines of other users too; they will run as the worker's user."
)
@click.option("--prune", is_flag=True, help="Remove jobs whose lines are no longer in the file.")
@click.option("--dry-run", is_flag=True, help="Only show what would be imported; needs no database.")
@show.with_json
def crontab(
    *,
    file: str,
    app: str,
    system: bool | None,
    timezone: str | None,
    ignore_user: bool,
    prune: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Import the jobs of a crontab; FILE may be - for stdin, as in: crontab -l | scheduler import crontab -

    A line that cannot be kept as it is, is refused with its number and the reason; the others are imported, and the
    exit status is 1. Importing again updates what changed.
    """
    if dry_run and prune:
        raise click.UsageError("--dry-run and --prune exclude each other")
    source = machine.source_of(file)
    text = read_text(machine.read_bytes(file), file)
    reading = Reading(
        app=app,
        source=source,
        stem="crontab" if file == machine.STDIN else stem_of(source),
        timezone=parse("@daily", timezone or machine.local_zone()).timezone,
        system=_is_system(source, text, system),
        user=machine.user_name(),
        ignore_user=ignore_user,
    )
    found = read_crontab(text, reading)
    if machine.is_passed_over(source):
        found.remarks.insert(
            0, Remark(None, "cron itself passes this file over: its name has more than A-Z a-z 0-9 _ -")
        )
    outcome = _Outcome() if dry_run else ask(lambda conn: _apply(conn, reading, found, prune=prune))
    report = _report(text, reading, found, outcome)
    (show.document if as_json else _print)(report)
    return 1 if found.refused else 0


class _Outcome:
    """What became of the jobs; of a dry run nothing did."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.gone: list[str] = []
        self.removed: list[str] = []


def _is_system(source: str, text: str, given: bool | None) -> bool:
    if given is not None:
        return given
    if machine.is_system_path(source):
        show.note("read as a system crontab, with a user column, for its path")
        return True
    if source.endswith("/anacrontab"):
        raise SchedulerError("anacron counts days since the last run, which no schedule here means", hint="use job add")
    if machine.looks_like_a_system_crontab(text):
        raise click.UsageError(
            "every command begins with the name of a user: say --system, or --no-system if it is none"
        )
    return False


async def _apply(conn: Connection, reading: Reading, found: Crontab, *, prune: bool) -> _Outcome:
    """Each job is a statement of its own: an import that was cut short is completed by the next one."""
    outcome = _Outcome()
    rows = {row["name"]: row for row in await _jobs(conn, reading.app)}
    for entry in found.entries:
        row = rows.pop(entry.job.name, None)
        if row is not None and _is_same(row, entry.job):
            outcome.states[entry.job.name] = "unchanged"
            continue
        await define.add_job(conn, entry.job, replace=True)
        outcome.states[entry.job.name] = "added" if row is None else "changed"
    outcome.gone = [name for name, row in rows.items() if source_tag(reading.source) in row["tags"]]
    # A line that was mistyped is refused, and must not take its job with it.
    if prune and not found.refused:
        for name in outcome.gone:
            await define.remove_job(conn, reading.app, name)
        outcome.gone, outcome.removed = [], outcome.gone
    return outcome


async def _jobs(conn: Connection, app: str) -> list[Row]:
    rows: list[Row] = []
    while True:
        after = (rows[-1]["app"], rows[-1]["name"]) if rows else ("", "")
        page = await watch.jobs(conn, app=app, after=after, limit=_PAGE)
        rows += page
        if len(page) < _PAGE:
            return rows


def _is_same(row: Row, job: NewJob) -> bool:
    wanted = {name: value for name, value in asdict(job).items() if name not in {"spec", "paused"}}
    wanted |= {"spec": json.loads(job.spec), "tags": list(job.tags)}
    return all(row[name] == _as_in_row(value) for name, value in wanted.items())


def _as_in_row(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value


def _report(text: str, reading: Reading, found: Crontab, outcome: _Outcome) -> Row:
    lines = text.split("\n")
    rows = [*_accepted(found, outcome), *_refused(found)]
    return {
        "file": reading.source,
        "app": reading.app,
        "system": reading.system,
        "timezone": reading.timezone,
        "lines": [{**row, "text": lines[row["line"] - 1]} for row in sorted(rows, key=lambda row: row["line"])],
        "remarks": [{"line": remark.line, "text": remark.text} for remark in found.remarks],
        "gone": outcome.gone,
        "removed": outcome.removed,
    }


def _accepted(found: Crontab, outcome: _Outcome) -> Iterator[Row]:
    now = datetime.now(UTC)
    for entry in found.entries:
        yield {
            "line": entry.line,
            "state": outcome.states.get(entry.job.name, "accepted"),
            "job": entry.job.name,
            "schedule": entry.job.schedule,
            "timezone": entry.job.timezone,
            "spec": json.loads(entry.job.spec),
            "next": _next(entry, now),
        }


def _refused(found: Crontab) -> Iterator[Row]:
    for remark in found.refused:
        yield {"line": remark.line, "state": "refused", "reason": remark.text}


def _next(entry: Entry, now: datetime) -> list[datetime]:
    """In the job's zone, as people read them; JSON gives them in UTC."""
    instants = entry.schedule.between(now, datetime.max.replace(tzinfo=UTC), limit=_SHOWN)
    return [instant.astimezone(ZoneInfo(entry.job.timezone)) for instant in instants]


def _print(report: Row) -> None:
    if report["lines"]:
        show.table(
            ("LINE", "STATE", "JOB", "SCHEDULE", "ZONE", "NEXT"),
            [
                (
                    row["line"],
                    row["state"],
                    row.get("job"),
                    row.get("schedule"),
                    row.get("timezone"),
                    [f"{instant:%Y-%m-%d %H:%M %Z}" for instant in row.get("next", [])],
                )
                for row in report["lines"]
            ],
        )
    for row in report["lines"]:
        if row["state"] == "refused":
            click.echo(f"refused: line {row['line']}: {row['reason']}", err=True)
    for remark in report["remarks"]:
        show.note(remark["text"] if remark["line"] is None else f"line {remark['line']}: {remark['text']}")
    if report["gone"]:
        show.note(f"no longer in the file: {', '.join(report['gone'])} (--prune removes them unless a line is refused)")
    if any(row["state"] == "added" for row in report["lines"]):
        show.note("on a database of your own, workers run commands only when told to: --executors python,http,shell")
    if report["removed"]:
        show.note(f"removed, for they are no longer in the file: {', '.join(report['removed'])}")
    click.echo(_summary(report))


def _summary(report: Row) -> str:
    states = [row["state"] for row in report["lines"]]
    counts = {state: states.count(state) for state in ("accepted", "added", "changed", "unchanged", "refused")}
    said = [f"{count} {state}" for state, count in counts.items() if count]
    return ", ".join(said) or "no jobs in the file"
