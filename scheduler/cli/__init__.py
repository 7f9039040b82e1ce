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
from importlib import import_module

import click

import scheduler
from scheduler.cli.failure import status_of

_COMMANDS = {  # in the order of the help; each with its module and its name there
    "run": "run.run",
    "worker": "run.worker",
    "migrate": "migrate.migrate",
    "dsn": "migrate.dsn",
    "enqueue": "runs.enqueue",
    "job": "jobs.job",
    "runs": "runs.runs",
    "logs": "logs.logs",
    "why": "why.why",
    "doctor": "doctor.doctor",
    "apps": "watch.apps",
    "locate": "watch.locate",
    "queues": "watch.queues",
    "limit": "limits.limit",
    "audit": "audit.audit",
    "alarm": "alarms.alarm",
    "servers": "watch.servers",
    "workers": "watch.workers",
    "token": "tokens.token",
    "forecast": "forecast.forecast",
    "import": "imports.imports",
    "bench": "bench.bench",
    "verify": "verify.verify",
}


class _Commands(click.Group):
    """Imports a command's module when it is asked for: with all of them `queues --help` took 0.50 s instead of 0.34."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  what click passes
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  as above
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name].split(".")
        command: click.Command = getattr(import_module(f"scheduler.cli.{module}"), name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option(
    "--dsn",
    metavar="DSN",
    help="The database; else SCHEDULER_DSN, else DATABASE_URL, else an embedded PostgreSQL in SCHEDULER_DATA_DIR.",
)
@click.version_option(scheduler.__version__, prog_name="walclock", message="%(prog)s %(version)s")
def cli(dsn: str | None) -> None:
    """Walclock, a write-ahead scheduler for PostgreSQL."""


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
