"""What a run wrote: `logs`."""

from __future__ import annotations

import asyncio
import re
import sys

import click

from scheduler.cli import show
from scheduler.cli.inputs import of_one_run
from scheduler.cli.runs import the_run
from scheduler.cli.session import Connection, ask
from scheduler.errors import NotFoundError
from scheduler.store import watch

_COLOUR = re.compile(r"(\x1b\[[\d;]*m)")


@click.command()
@of_one_run
@click.option("--app", help="The app of the run, instead of APP.")
@click.option("--follow", is_flag=True, help="Go on with new lines until the run has ended.")
@show.with_json
def logs(which: tuple[str | None, int], app: str | None, follow: bool, as_json: bool) -> None:
    """Print what a run wrote, of all its attempts; with --json one object per line."""
    following: watch.Following | None = None

    async def stream(conn: Connection) -> None:
        nonlocal following
        if following is None:
            run = await the_run(conn, which, app)
            following = watch.Following(run["app"], run["id"], follow=follow)
        while not following.is_over:
            for one in await following.look(conn):
                if as_json:
                    show.line(one)
                else:
                    click.echo(_shown(one["text"]))
            if not following.has_more and not following.is_over:
                await asyncio.sleep(watch.EVERY)
        if following.is_gone:
            raise NotFoundError(f"run {following.run} of app {following.app} is not there any more")

    ask(stream, persistent=follow)


def _shown(text: str) -> str:
    """The line with its colours, and nothing else in it that would drive a terminal."""
    if text.isprintable():
        return text
    parts = _COLOUR.split(text)
    plain = "".join(part if i % 2 else _plain(part) for i, part in enumerate(parts))
    return f"{plain}\x1b[0m" if len(parts) > 1 and sys.stdout.isatty() else plain


def _plain(text: str) -> str:
    return "".join(one if one.isprintable() or one == "\t" else ascii(one)[1:-1] for one in text)
