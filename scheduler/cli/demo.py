"""`run --demo`: an app with one job, and each of its runs on screen as it ends."""

from __future__ import annotations

import shlex
from datetime import datetime
from typing import Any

import click

from scheduler.cli import show
from scheduler.cli.session import Connection, Place
from scheduler.config import Settings, redact
from scheduler.link import Link
from scheduler.loop import STEP
from scheduler.model import NewJob
from scheduler.store import define, watch

APP = "demo"
HELLO = NewJob(
    app=APP,
    name="hello",
    executor="shell",
    spec='{"command": "echo hello from run $SCHEDULER_RUN_ID"}',
    schedule="@every 5s",
)
_LOOK = 0.5  # seconds between two looks at what ended
_WITHIN = 10.0  # seconds that a look reaches back: a finish may commit a little after its finished_at
_SHOWN = 80


async def add(conn: Connection) -> None:
    """The demo's job, unless it is there, and a first run of it at once: a newcomer need not wait for its instant."""
    if await define.add_job(conn, HELLO):
        await define.trigger(conn, APP, HELLO.name)


def welcome(place: Place) -> None:
    """Where the database is, and how to make something happen in it."""
    if place.is_embedded:
        click.echo(f"Walclock runs on an embedded PostgreSQL; its data is in {place.data_dir}")
    else:
        click.echo(f"Walclock runs on {redact(place.dsn)}")
    click.echo(f"  connect   psql {shlex.quote(redact(place.dsn))}")
    click.echo(
        "  try       insert into scheduler.run (app, executor, spec) "
        """values ('demo', 'shell', '{"command": ["echo", "hi"]}');"""
    )


class Demo:
    """Prints the attempts of the demo's app that ended. Drive it with a Loop."""

    def __init__(self, dsn: str, settings: Settings) -> None:
        self._link = Link(dsn, name="demo", statement_timeout=settings.statement_timeout)
        self._printed: set[tuple[int, int]] = set()

    async def run_once(self) -> float:
        async with self._link.within(STEP) as conn:
            rows = await watch.finished(conn, APP, within=_WITHIN)
        for row in rows:
            if (row["id"], row["attempt"]) not in self._printed:
                click.echo(_worded(row))
        self._printed = {(row["id"], row["attempt"]) for row in rows}
        return _LOOK

    async def close(self) -> None:
        await self._link.close()


def _worded(row: dict[str, Any]) -> str:
    started, finished = row["started_at"], row["finished_at"]
    text = f"{finished:%H:%M:%S}  run {row['id']} ({row['job'] or 'no job'}) {row['outcome']}"
    if isinstance(started, datetime):
        text += f" in {show.duration(max((finished - started).total_seconds(), 0))}"
        text += f", {show.duration(max((started - row['run_at']).total_seconds(), 0))} after it was due"
    said = _said(row)
    return f"{text}: {said}" if said else text


def _said(row: dict[str, Any]) -> str:
    result = row["result"]
    said = result.get("stdout") if isinstance(result, dict) else result
    text = " ".join(str(row["error"] or said or "").split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
