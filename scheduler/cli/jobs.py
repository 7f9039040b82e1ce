"""Definitions: `job add|list|show|pause|resume|remove|trigger|preview`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from scheduler import foresight
from scheduler.cli import show
from scheduler.cli.inputs import Duration, Instant, Spec, check_spec
from scheduler.cli.session import Connection, ask
from scheduler.errors import ConflictError, NotFoundError, SchedulerError
from scheduler.model import NewJob, encode_spec
from scheduler.store import define, watch

Row = dict[str, Any]
_SHOWN = 3  # instants after `job add`
_DST = ("after", "skip"), ("first", "second", "both")


@click.group()
def job() -> None:
    """Definitions of what should run."""


@job.command()
@click.argument("app")
@click.argument("name")
@click.argument("executor")
@click.argument("spec", type=Spec(), metavar="SPEC_JSON")
@click.option(
    "--schedule", help="Five or six cron fields, @daily …, '@every 1h30m' or '@after 30s'. Without: on demand."
)
@click.option("--timezone", default="UTC", show_default=True, help="An IANA name.")
@click.option("--queue", default="default", show_default=True, help="Lane inside the app.")
@click.option("--priority", type=int, default=0, show_default=True, help="Lower goes first.")
@click.option("--max-attempts", type=int, default=3, show_default=True, help="Tries of each run in all.")
@click.option("--timeout", type=Duration(), default="1h", show_default=True, help="For one attempt.")
@click.option("--retry-delay", type=Duration(zero=True), default="5s", show_default=True, help="Doubles, with jitter.")
@click.option(
    "--retry-max-delay", type=Duration(zero=True), default="1h", show_default=True, help="It doubles up to here."
)
@click.option(
    "--overlap",
    type=click.Choice(["allow", "skip", "queue", "replace"]),
    default="skip",
    show_default=True,
    help="When the previous run has not ended.",
)
@click.option(
    "--misfire",
    type=click.Choice(["skip", "one", "all"]),
    default="one",
    show_default=True,
    help="How many of the instants that passed unplanned are made up for.",
)
@click.option(
    "--misfire-grace", type=Duration(zero=True), default="1d", show_default=True, help="Later than this is missed."
)
@click.option("--misfire-limit", type=int, default=100, show_default=True, help="Runs made up for, or queued, at most.")
@click.option(
    "--dst-gap", type=click.Choice(_DST[0]), default="after", show_default=True, help="For a time that does not exist."
)
@click.option(
    "--dst-fold", type=click.Choice(_DST[1]), default="first", show_default=True, help="For a time that comes twice."
)
@click.option("--jitter", type=Duration(zero=True), help="Starts each run up to so much later, at random.")
@click.option("--starts-at", type=Instant(), help="No instant before it.")
@click.option("--ends-at", type=Instant(), help="No instant after it.")
@click.option("--tag", "tags", multiple=True, help="A word to find its runs by; may be repeated.")
@click.option("--concurrency-key", help="Of the app's runs with this key only so many run at a time:")
@click.option("--concurrency-limit", type=click.IntRange(1), help="How many; default: 1.")
@click.option("--paused", is_flag=True, help="Add it paused.")
@click.option("--replace", is_flag=True, help="Overwrite a job of that name; if it is paused it stays so.")
def add(*, app: str, executor: str, spec: dict[str, Any], replace: bool, **options: Any) -> None:
    """Add a job. SPEC_JSON is an object, or - to read one from stdin."""
    new = NewJob(app=app, executor=executor, spec=encode_spec(spec), **options)
    check_spec(executor, spec)

    async def write(conn: Connection) -> Row:
        if not await define.add_job(conn, new, replace=replace):
            raise ConflictError(f"app {app} has a job {new.name} already", hint="--replace overwrites it")
        return await _the_job(conn, app, new.name)

    row = ask(write)
    click.echo(f"job {new.name} of app {app} {'written' if replace else 'added'}")
    if row["paused_at"]:
        click.echo("paused")
    parsed = new.parsed()
    # Of @after nobody knows more than the first: the second waits for the end of its run.
    count = 1 if parsed and parsed.kind == "after" else _SHOWN
    for instant in foresight.instants(row, count=count):
        click.echo(f"  {show.with_local(instant, parsed)}")


@job.command("list")
@click.option("--app", help="Only of this app.")
@click.option("--after", nargs=2, default=("", ""), metavar="APP NAME", help="Only jobs that sort after this one.")
@show.with_limit
@show.with_json
def list_jobs(app: str | None, after: tuple[str, str], limit: int, as_json: bool) -> None:
    """List the jobs, when each is due next, and how its last run ended. Without their specs, which `job show` has."""
    rows = [foresight.foreseen(row) for row in ask(lambda conn: watch.jobs(conn, app=app, after=after, limit=limit))]
    if as_json:
        for row in rows:
            del row["spec"]  # it may hold what is not everybody's business; `job show` has it
        show.document({"jobs": rows})
        return
    show.table(
        ("APP", "NAME", "SCHEDULE", "ZONE", "EXECUTOR", "STATE", "NEXT", "LAST RUN"),
        [
            (
                row["app"],
                row["name"],
                row["schedule"] or "on demand",
                row["timezone"],
                row["executor"],
                _state(row),
                row["next_at"],
                f"{row['last_outcome']} {show.instant(row['last_finished_at'])}" if row["last_outcome"] else "",
            )
            for row in rows
        ],
    )
    show.more(rows, limit, "--after", "app", "name")


@job.command("show")
@click.argument("app")
@click.argument("name")
@show.with_json
def show_job(app: str, name: str, as_json: bool) -> None:
    """Show a job in full."""
    row = foresight.foreseen(ask(lambda conn: _the_job(conn, app, name)))
    if as_json:
        show.document(row)
        return
    for key in ("timeout", "retry_delay", "retry_max_delay", "misfire_grace", "jitter"):
        row[key] = show.duration(row[key])
    show.fields(row.items())


@job.command()
@click.argument("app")
@click.argument("name", required=False)
def pause(app: str, name: str | None) -> None:
    """Pause a job: nothing more of it starts. Without NAME the whole app; what runs goes on to its end."""

    async def write(conn: Connection) -> bool:
        await _known(conn, app, name)
        return await define.pause(conn, app, name)

    click.echo(f"{_called(app, name)} {'paused' if ask(write) else 'was paused already'}")


@job.command()
@click.argument("app")
@click.argument("name", required=False)
def resume(app: str, name: str | None) -> None:
    """End a pause. Instants that passed meanwhile are not made up for."""

    async def write(conn: Connection) -> bool:
        await _known(conn, app, name)
        return await define.resume(conn, app, name)

    click.echo(f"{_called(app, name)} {'resumed' if ask(write) else 'was not paused'}")


@job.command()
@click.argument("app")
@click.argument("name")
def remove(app: str, name: str) -> None:
    """Remove a job and what was planned for it. What runs goes on, and its history stays."""
    ask(lambda conn: define.remove_job(conn, app, name))
    click.echo(f"{_called(app, name)} removed")


@job.command()
@click.argument("app")
@click.argument("name")
@click.argument("spec", type=Spec(), metavar="[SPEC_JSON]", required=False)
def trigger(app: str, name: str, spec: dict[str, Any] | None) -> None:
    """Run a job now, whatever its schedule says, and print the run's id.

    SPEC_JSON is laid over the job's own: environments and arguments are merged, commands joined.
    """
    text = None if spec is None else encode_spec(spec)
    click.echo(ask(lambda conn: define.trigger(conn, app, name, text)))


@job.command()
@click.argument("app", required=False)
@click.argument("name", required=False)
@click.option("--schedule", help="Preview this schedule, of no job.")
@click.option("--timezone", help="Of --schedule; default UTC.")
@click.option("--dst-gap", type=click.Choice(_DST[0]), help="Of --schedule; default after.")
@click.option("--dst-fold", type=click.Choice(_DST[1]), help="Of --schedule; default first.")
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many instants.")
@click.option("--from", "start", type=Instant(), help="The instants later than this; default now.")
@show.with_json
def preview(
    *,
    app: str | None,
    name: str | None,
    schedule: str | None,
    timezone: str | None,
    dst_gap: str | None,
    dst_fold: str | None,
    count: int,
    start: datetime | None,
    as_json: bool,
) -> None:
    """Show the coming instants of a job, or of any schedule, which needs no database."""
    options = (schedule, timezone, dst_gap, dst_fold)
    if (app is None or name is None) == (schedule is None) or (app is not None and any(options)):
        raise click.UsageError("give APP and NAME, or --schedule with its options")
    if app is not None and name is not None:
        row = ask(lambda conn: _the_job(conn, app, name))
        if row["schedule"] is None:
            raise SchedulerError(f"{_called(app, name)} has no schedule: it runs on demand")
    else:
        row = foresight.imagined(
            schedule or "", timezone or "UTC", dst_gap or "after", dst_fold or "first", now=datetime.now(UTC)
        )
        row["anchor_at"] = start or datetime.now(UTC)
    parsed = foresight.parsed(row)
    instants = foresight.instants(row, count=count, after=start)
    if as_json:
        show.document({"instants": [show.exact(instant) for instant in instants]})
        return
    if parsed.kind == "after":
        show.note("counted as if each run took no time")
    for instant in instants:
        click.echo(show.with_local(instant, parsed))


def _state(row: Row) -> str:
    if row["error"]:
        return f"error: {row['error']}"
    if row["state"] != "active" or row["pulse"] is None:
        return str(row["state"])
    worker = row["pulse"]["worker"]
    return "waits for a worker" if worker is None else f"on worker {worker}"


async def _the_job(conn: Connection, app: str, name: str) -> Row:
    row = await watch.job(conn, app, name)
    if row is None:
        raise NotFoundError(f"there is no {_called(app, name)}")
    return row


async def _known(conn: Connection, app: str, name: str | None) -> None:
    """Pausing an app that nobody has heard of would be a silent typing error. SQL does it, for apps to come."""
    if name is None and app not in await watch.known_apps(conn):
        raise NotFoundError(f"there is no {_called(app, None)}")


def _called(app: str, name: str | None) -> str:
    return f"app {app}" if name is None else f"job {name} of app {app}"
