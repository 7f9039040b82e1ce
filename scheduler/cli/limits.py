"""What an operator allows a queue: `limit`."""

from __future__ import annotations

from datetime import timedelta

import click

from scheduler.cli.inputs import Duration
from scheduler.cli.session import ask
from scheduler.store import define

_MOST = 2**31 - 1


@click.command()
@click.argument("app")
@click.argument("queue")
@click.option("--concurrency", type=click.IntRange(0, _MOST), help="Runs held by workers at a time; 0 stops the queue.")
@click.option("--rate", type=click.IntRange(1, _MOST), help="Runs that may start …")
@click.option("--per", type=Duration(), default="1s", show_default=True, help="… in this time.")
@click.option("--none", "free", is_flag=True, help="Take all limits away.")
def limit(*, app: str, queue: str, concurrency: int | None, rate: int | None, per: timedelta, free: bool) -> None:
    """Limit a queue, whatever its workers. What is not given has no limit any more; `queues` shows what is set."""
    if (concurrency is None and rate is None) != free:
        raise click.UsageError("give --concurrency, --rate or both; or --none")
    ask(
        lambda conn: define.limit_queue(
            conn, app, queue, concurrency_limit=concurrency, rate_limit=rate, rate_interval=per
        )
    )
    click.echo(f"queue {queue} of app {app} has {'no limits' if free else 'new limits'}")
