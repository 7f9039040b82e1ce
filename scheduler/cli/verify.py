"""`verify`: whether nothing is lost, doubled or accepted from the dead, on this server, whatever happens."""

from __future__ import annotations

import secrets
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
import psycopg
from rich.console import Console

from scheduler.cli import show
from scheduler.cli.failure import BAD_USAGE, worded
from scheduler.config import resolve_dsn
from scheduler.errors import ConfigError, SchedulerError
from scheduler.verify.kinds import KINDS
from scheduler.verify.options import Options

if TYPE_CHECKING:
    _Type = click.ParamType[Any]
else:
    _Type = click.ParamType  # generic in the latest click only

_DEFAULTS = Options()
_MOST_SEED = 2**32


class Pause(_Type):
    """`2`, or `1-3`: seconds, at least and at most."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        least, _, most = value.partition("-")
        try:
            pause = float(least), float(most or least)
        except ValueError:
            pause = (0.0, 0.0)
        if not 0.05 <= pause[0] <= pause[1] <= 3_600:  # noqa: PLR2004  seconds
            self.fail(f"{value!r} is no pause: write 2, or 1-3, from 0.05 to 3600 seconds", param, ctx)
        return pause


class NotVerifiedError(click.ClickException):
    """It could not be done, which is no verdict: 1 is for what was found."""

    exit_code = BAD_USAGE


@click.command()
@click.option(
    "--seconds", type=click.FloatRange(1, 86_400), default=_DEFAULTS.seconds, show_default=True, help="Of faults."
)
@click.option(
    "--seed",
    type=click.IntRange(0, _MOST_SEED),
    metavar="N",
    help="Repeats a programme; default: one never had before.",
)
@click.option(
    "--rate",
    type=click.IntRange(0, 100_000),
    default=_DEFAULTS.rate,
    show_default=True,
    help="Runs enqueued per second.",
)
@click.option(
    "--jobs", type=click.IntRange(0, 10_000), default=_DEFAULTS.jobs, show_default=True, help="Recurring jobs."
)
@click.option(
    "--servers", type=click.IntRange(1, 20), default=_DEFAULTS.servers, show_default=True, help="Server processes."
)
@click.option(
    "--workers", type=click.IntRange(1, 50), default=_DEFAULTS.workers, show_default=True, help="Worker processes."
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    default=_DEFAULTS.concurrency,
    show_default=True,
    help="Runs at a time in a worker.",
)
@click.option(
    "--fault",
    "faults",
    type=click.Choice(tuple(KINDS)),
    multiple=True,
    help="Only these; default: all that are possible.",
)
@click.option(
    "--every", type=Pause(), default="1-3", show_default=True, metavar="SECONDS", help="From one fault to the next."
)
@click.option(
    "--late",
    type=click.FloatRange(0.001, 86_400),
    default=_DEFAULTS.late,
    show_default=True,
    help="Seconds after its instant by which a run must have begun.",
)
@click.option(
    "--patience",
    type=click.FloatRange(1, 86_400),
    default=_DEFAULTS.patience,
    show_default=True,
    help="Seconds without progress after which what is still open counts as lost.",
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIRECTORY",
    help="Leave the record and the processes' logs there.",
)
@show.with_json
def verify(*, seed: int | None, keep: Path | None, as_json: bool, **sizes: Any) -> int:
    """Maltreat servers and workers on a database of their own, and check that nothing is lost or done twice.

    On the server of the DSN, where a scratch database is made and dropped (the login needs CREATEDB) and no other is
    touched; without one, on an embedded PostgreSQL of its own, which is restarted too.
    Exit status 1: something was found. 2: it could not be done, or bad usage.
    """
    from scheduler.verify import report  # noqa: PLC0415  what other commands need not load
    from scheduler.verify.certify import certify, possible  # noqa: PLC0415

    signal.signal(signal.SIGTERM, _leave)
    dsn = resolve_dsn(click.get_current_context().find_root().params.get("dsn"))
    options = Options(seed=secrets.randbelow(_MOST_SEED) if seed is None else seed, **sizes)
    try:
        faults = possible(dsn, options.faults)
    except ConfigError as error:
        raise NotVerifiedError(str(error)) from error
    click.echo(f"seed {options.seed}: {', '.join(faults)}", err=True)

    def say(what: str, seconds: float) -> None:
        click.echo(f"{what}, {show.duration(seconds)}" if seconds else what, err=True)

    try:
        verdict = certify(dsn, options, say=say, keep=keep)
    except (SchedulerError, psycopg.Error, OSError) as error:
        raise NotVerifiedError(worded(error)) from error
    if as_json:
        show.document(report.document(verdict, {**asdict(options), "faults": faults}))
    else:
        report.show(verdict, options.seed, Console(highlight=False))
    return 0 if verdict.passed else 1


def _leave(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)
