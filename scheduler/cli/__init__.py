"""The command line: `scheduler [--dsn DSN] COMMAND`. One module per command group.

__init__    main, the root group                 session     the database of a command
run         run, worker                          inputs      what users type
composition what these are made of               offered     … and which executors they have
running     … and how they start and end
migrate     migrate, dsn                         show        tables and JSON
jobs        job …
runs        enqueue, runs …, logs                failure     how a command ends
watch       apps, locate, queues, servers, …     demo        the job of `run --demo`
imports     import …                             logs        logs
bench       bench                                verify      verify
limits      limit                                tokens      token …
audit       audit …                              why         why
doctor      doctor                               forecast    forecast, with blocks for its chart
alarms      alarm …
"""

from __future__ import annotations

import sys

import click

import scheduler
from scheduler.cli import (
    alarms,
    audit,
    bench,
    doctor,
    forecast,
    imports,
    jobs,
    limits,
    logs,
    migrate,
    run,
    runs,
    tokens,
    verify,
    watch,
    why,
)
from scheduler.cli.failure import status_of


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option(
    "--dsn",
    metavar="DSN",
    help="The database; else SCHEDULER_DSN, else DATABASE_URL, else an embedded PostgreSQL in SCHEDULER_DATA_DIR.",
)
@click.version_option(scheduler.__version__, prog_name="walclock", message="%(prog)s %(version)s")
def cli(dsn: str | None) -> None:
    """Walclock, a write-ahead scheduler for PostgreSQL."""


for command in (
    run.run,
    run.worker,
    migrate.migrate,
    migrate.dsn,
    runs.enqueue,
    jobs.job,
    runs.runs,
    logs.logs,
    why.why,
    doctor.doctor,
    watch.apps,
    watch.locate,
    watch.queues,
    limits.limit,
    audit.audit,
    alarms.alarm,
    watch.servers,
    watch.workers,
    tokens.token,
    forecast.forecast,
    imports.imports,
    bench.bench,
    verify.verify,
):
    cli.add_command(command)


def main() -> None:
    """The console script. Whatever happens, the process ends with a status and at most one line, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets its escape, not an error.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # they are TextIOWrappers
    sys.exit(status_of(_command))


def _command() -> object:
    # Not cli.main(): that has its own idea of how a command ends when its output is cut off or Ctrl-C is pressed.
    with cli.make_context("scheduler", sys.argv[1:]) as context:
        return cli.invoke(context)
