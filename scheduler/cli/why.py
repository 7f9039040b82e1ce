"""Why a run has not started, or how it went: `why`."""

from __future__ import annotations

from typing import Any

import click

from scheduler.cli import show
from scheduler.cli.inputs import of_one_run
from scheduler.cli.runs import the_run
from scheduler.cli.session import Connection, ask
from scheduler.config import Settings
from scheduler.why import Answer, explain

Row = dict[str, Any]


@click.command()
@of_one_run
@click.option("--app", help="The app of the run, instead of APP.")
@show.with_json
def why(which: tuple[str | None, int], app: str | None, as_json: bool) -> None:
    """Say why a run has not started yet, or how it went.

    Each reason has a code, what can be done about it, and in --json the facts that it rests on.
    """
    dead_after = Settings.from_env().dead_after

    async def read(conn: Connection) -> Answer:
        return await explain(conn, await the_run(conn, which, app), dead_after=dead_after)

    answer = ask(read)
    if as_json:
        show.document(answer.as_row())
        return
    run = answer.run
    of_job = f", job {run['job']}" if run["job"] else ""
    show.text(
        f"run {run['id']} of app {run['app']}{of_job}, queue {run['queue']}: {run['state']}, "
        f"attempt {run['attempt']} of {run['max_attempts']}"
    )
    for reason in answer.reasons:
        show.text(f"\n{reason.code}: {reason.text}")
        if reason.remedy:
            show.text(f"  remedy: {reason.remedy}")
    if answer.expected_at is not None:
        rate = f", at {answer.rate:.3g} runs/s of its queue" if answer.rate else ""
        show.text(f"\nexpected to start at {show.instant(answer.expected_at)}{rate}")
    if answer.timeline:
        click.echo()
        show.table(
            ("AT", "WHAT", "ATTEMPT", "WORKER", "FENCE", "BY", ""),
            [
                (one["at"], one["what"], one["attempt"], _worker(one), one["fence"], one["by"], one["text"])
                for one in answer.timeline
            ],
        )


def _worker(one: Row) -> str | None:
    if one["worker"] is None:
        return None
    return f"{one['worker']} ({one['label']})" if one["label"] else str(one["worker"])
