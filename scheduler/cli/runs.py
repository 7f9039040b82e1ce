"""One execution: `enqueue`, `runs list|show|cancel|retry`."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

import click

from scheduler.cli import show
from scheduler.cli.inputs import Duration, Instant, Spec, check_spec, of_one_run
from scheduler.cli.session import Connection, ask
from scheduler.errors import ConflictError, NotFoundError
from scheduler.model import NewRun, encode_spec
from scheduler.store import define, watch
from scheduler.tracing import well_formed

Row = dict[str, Any]
STATES = ("pending", "running", "succeeded", "failed", "cancelled")


@click.command()
@click.argument("app")
@click.argument("executor")
@click.argument("spec", type=Spec(), metavar="SPEC_JSON")
@click.option("--queue", default="default", show_default=True, help="Lane inside the app.")
@click.option("--at", type=Instant(), help="Not before this instant, like 2026-11-01T05:30:00Z.")
@click.option("--in", "delay", type=Duration(), help="Not before so long from now, like 90s or 1h30m.")
@click.option("--priority", type=int, default=0, show_default=True, help="Lower goes first.")
@click.option("--unique-key", help="Prints the id of the pending or running run that has this key, if there is one.")
@click.option("--max-attempts", type=int, default=3, show_default=True, help="Tries in all.")
@click.option("--timeout", type=Duration(), help="For one attempt; default: the task's own, else 1h.")
@click.option("--tag", "tags", multiple=True, help="A word to find it by; may be repeated.")
@click.option("--concurrency-key", help="Of the app's runs with this key only so many run at a time:")
@click.option("--concurrency-limit", type=click.IntRange(1), help="How many; default: 1.")
def enqueue(
    *, app: str, executor: str, spec: dict[str, Any], at: datetime | None, delay: timedelta | None, **options: Any
) -> None:
    """Write a run and print its id. SPEC_JSON is an object, or - to read one from stdin.

    It belongs to the trace that the environment's TRACEPARENT names.
    """
    if at is not None and delay is not None:
        raise click.UsageError("--at and --in exclude each other")
    options["tags"] = options["tags"] or None
    traceparent = well_formed(os.environ.get("TRACEPARENT"))  # such as that of the run whose command this is
    run = NewRun(app=app, executor=executor, spec=encode_spec(spec), run_at=at, traceparent=traceparent, **options)
    check_spec(executor, spec)

    async def write(conn: Connection) -> int:
        # The delay counts from the database's now: what is due is decided there.
        due = (
            run
            if delay is None
            else NewRun(**{**define.enqueue_parameters(run), "run_at": await watch.clock(conn) + delay})
        )
        return await define.enqueue(conn, due)

    click.echo(ask(write))


@click.group()
def runs() -> None:
    """Runs in every state."""


@runs.command("list")
@click.option("--app", help="Only of this app.")
@click.option("--state", type=click.Choice(STATES), help="Only in this state.")
@click.option("--job", help="Only of this job.")
@click.option("--queue", help="Only of this queue.")
@click.option("--before-id", type=int, help="Only runs with a smaller id.")
@show.with_limit
@show.with_json
def list_runs(*, before_id: int | None, as_json: bool, **options: Any) -> None:
    """List runs, the latest id first."""
    rows = ask(lambda conn: watch.runs(conn, before=before_id, **options))
    if as_json:
        show.document({"runs": rows})
        return
    show.table(
        ("ID", "APP", "JOB", "QUEUE", "EXECUTOR", "STATE", "ATTEMPT", "RUN AT", "TOOK", "ERROR"),
        [
            (
                row["id"],
                row["app"],
                row["job"],
                row["queue"],
                row["executor"],
                row["state"],
                f"{row['attempt']}/{row['max_attempts']}",
                row["run_at"],
                _took(row),
                row["error"],
            )
            for row in rows
        ],
    )
    show.more(rows, options["limit"], "--before-id", "id")


@runs.command("show")
@of_one_run
@click.option("--app", help="The app of the run, instead of APP.")
@show.with_json
def show_run(which: tuple[str | None, int], app: str | None, as_json: bool) -> None:
    """Show a run, its result or error, and every attempt that was made."""

    async def read(conn: Connection) -> tuple[Row, list[Row]]:
        run = await the_run(conn, which, app)
        return run, await watch.attempts(conn, run["app"], run["id"])

    run, attempts = ask(read)
    if as_json:
        show.document({**run, "attempts": attempts})
        return
    show.fields(run.items())
    if attempts:
        show.table(
            ("ATTEMPT", "OUTCOME", "STARTED", "FINISHED", "WORKER", "RETRY AT", "ERROR"),
            [
                (
                    one["attempt"],
                    one["outcome"],
                    one["started_at"],
                    one["finished_at"],
                    one["worker"],
                    one["retry_at"],
                    one["error"],
                )
                for one in attempts
            ],
        )


@runs.command()
@of_one_run
@click.option("--app", help="The app of the run, instead of APP.")
def cancel(which: tuple[str | None, int], app: str | None) -> None:
    """Cancel a pending or running run."""

    async def write(conn: Connection) -> Row:
        run = await the_run(conn, which, app)
        if not await define.cancel(conn, run["app"], run["id"]):
            run = await the_run(conn, which, app)
            raise ConflictError(f"run {run['id']} of app {run['app']} has ended: {run['state']}")
        return run

    run = ask(write)
    if run["state"] == "running":
        click.echo(f"run {run['id']}: its worker was told to stop it")
    else:
        click.echo(f"run {run['id']} cancelled")


@runs.command()
@of_one_run
@click.option("--app", help="The app of the run, instead of APP.")
def retry(which: tuple[str | None, int], app: str | None) -> None:
    """Run a finished run once more, as a new run, and print the new id."""

    async def write(conn: Connection) -> int:
        run = await the_run(conn, which, app)
        return await define.retry(conn, run["app"], run["id"])

    click.echo(ask(write))


def _took(row: Row) -> str:
    """How long its last attempt ran; empty while it runs, and for one that never started."""
    started, finished = row["started_at"], row["finished_at"]
    if not isinstance(started, datetime) or not isinstance(finished, datetime):
        return ""
    return show.duration(max((finished - started).total_seconds(), 0))


async def the_run(conn: Connection, which: tuple[str | None, int], option: str | None) -> Row:
    app, run = option or which[0], which[1]
    found = await watch.run(conn, run, app=app)
    if not found:
        raise NotFoundError(f"there is no run {run}" + (f" in app {app}" if app else ""))
    if len(found) > 1:
        raise ConflictError(f"two apps have a run {run}", hint="say which: --app APP")
    return found[0]
