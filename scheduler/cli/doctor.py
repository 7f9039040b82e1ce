"""What is wrong with a database, its processes and its definitions: `doctor`."""

from __future__ import annotations

import asyncio

import click

from scheduler.cli import show
from scheduler.cli.session import located
from scheduler.config import Settings
from scheduler.doctor import Limits, examine_at


@click.command()
@show.with_json
def doctor(as_json: bool) -> None:
    """Look for what is wrong, or will be soon, and say what to do about it.

    Ends with 1 if there is an error; warnings alone do not. Reads only, on one connection.
    """
    limits = Limits(dead_after=Settings.from_env().dead_after)
    with located() as place:
        report = asyncio.run(examine_at(place.dsn, limits))
    if as_json:
        show.document(report.as_row())
    else:
        for finding in report.findings:
            show.text(f"{finding.level}: {finding.code}: {finding.text}")
            show.text(f"  remedy: {finding.remedy}\n")
        left_out = f", {len(report.left_out)} were left out" if report.left_out else ""
        errors = sum(finding.level == "error" for finding in report.findings)
        show.text(f"{len(report.checks)} checks{left_out}: {errors} errors, {len(report.findings) - errors} warnings")
    if not report.is_sound:
        raise SystemExit(1)
