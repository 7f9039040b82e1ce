"""Who is told when something goes wrong: `alarm add|list|show|remove|silence|test`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import click

from scheduler.alarms import KINDS, Channel, NewAlarm
from scheduler.cli import show
from scheduler.cli.inputs import Duration, Instant
from scheduler.cli.session import Connection, ask
from scheduler.errors import ConflictError, NotFoundError
from scheduler.store import alarm as store
from scheduler.store import watch

Row = dict[str, Any]
PATIENCE = 30.0  # seconds that `alarm test` waits for its notices
_LOOK = 0.2  # seconds between two looks at them


@click.group()
def alarm() -> None:
    """Who is told when something goes wrong, and how."""


@alarm.command()
@click.argument("app")
@click.argument("name")
@click.argument("kind", type=click.Choice(KINDS), metavar="KIND")
@click.option("--job", help="Only of this job; default: of all the app's runs.")
@click.option("--times", type=click.IntRange(1, 1000), default=1, show_default=True, help="So many within the time.")
@click.option("--within", type=Duration(), default="10m", show_default=True, help="The time that the kind is about.")
@click.option("--webhook", "webhooks", multiple=True, metavar="URL", help="Tell it in JSON; may be repeated.")
@click.option("--slack", "slacks", multiple=True, metavar="URL", help="Tell a Slack channel, by its hook's secret.")
@click.option("--dingtalk", "dingtalks", multiple=True, metavar="URL", help="Tell a DingTalk robot, by its secret.")
@click.option("--dingtalk-key", metavar="SECRET", help="What to sign DingTalk's notices with.")
@click.option("--email", "emails", multiple=True, metavar="ADDRESS", help="Tell an address; may be repeated.")
@click.option("--gather", type=Duration(zero=True), default="10s", show_default=True, help="Wait so long for more.")
@click.option(
    "--pause", type=Duration(zero=True), default="5m", show_default=True, help="Between notices that it fires."
)
@click.option("--repeat", type=Duration(), default="4h", show_default=True, help="Tell again while it fires.")
@click.option("--replace", is_flag=True, help="Overwrite an alarm of that name.")
def add(
    *,
    app: str,
    name: str,
    kind: str,
    times: int,
    webhooks: Sequence[str],
    slacks: Sequence[str],
    dingtalks: Sequence[str],
    dingtalk_key: str | None,
    emails: Sequence[str],
    replace: bool,
    **options: Any,
) -> None:
    """Add an alarm.

    KIND is failed (runs for good), failing (attempts), poison (runs that kill their workers), missed (fires), late
    (runs that wait), no_success (of a job, or of any scheduled one), no_worker (work that nobody alive takes).
    """
    channels = _channels(webhooks, slacks, dingtalks, dingtalk_key, emails)
    defined = NewAlarm(app=app, name=name, kind=kind, times=times, channels=channels, **options)
    added = ask(lambda conn: store.add_alarm(conn, defined, replace=replace))
    if not added:
        raise ConflictError(f"there is an alarm {name} in app {app} already", hint="--replace overwrites it")
    click.echo(f"alarm {name} of app {app} is set; `scheduler alarm test {app} {name}` tries its channels")


def _channels(
    webhooks: Sequence[str], slacks: Sequence[str], dingtalks: Sequence[str], key: str | None, emails: Sequence[str]
) -> list[Channel]:
    if key and not dingtalks:
        raise click.UsageError("--dingtalk-key is for --dingtalk")
    channels: list[Channel] = [{"channel": "webhook", "url": url} for url in webhooks]
    channels += ({"channel": "slack", "url": url} for url in slacks)
    channels += ({"channel": "dingtalk", "url": url} | ({"secret": key} if key else {}) for url in dingtalks)
    if emails:
        channels.append({"channel": "email", "to": list(emails)})
    return channels


@alarm.command("list")
@click.option("--app", help="Only of this app.")
@click.option("--firing", is_flag=True, help="Only those that fire.")
@click.option("--after", nargs=2, default=("", ""), metavar="APP NAME", help="Only alarms behind this one.")
@show.with_limit
@show.with_json
def list_(*, app: str | None, firing: bool, after: tuple[str, str], limit: int, as_json: bool) -> None:
    """List alarms, and how they stand."""
    rows = ask(lambda conn: store.alarms(conn, app=app, firing=firing, after=after, limit=limit))
    if as_json:
        show.document({"alarms": rows})
        return
    show.table(
        ("APP", "NAME", "STATE", "SINCE", "KIND", "JOB", "WITHIN", "CHANNELS", "LAST TOLD"),
        [
            (
                row["app"],
                row["name"],
                row["state"],
                row["since_at"],
                row["kind"] if row["times"] == 1 else f"{row['kind']} x {row['times']}",
                row["job"],
                show.duration(row["within"]),
                [one["channel"] for one in row["channels"]],
                row["last_told_at"],
            )
            for row in rows
        ],
    )
    show.more(rows, limit, "--after", "app", "name")


@alarm.command("show")
@click.argument("app")
@click.argument("name")
@show.with_json
def show_(*, app: str, name: str, as_json: bool) -> None:
    """Show an alarm in full."""
    row = ask(lambda conn: store.alarm(conn, app, name))
    if row is None:
        raise NotFoundError(f"there is no alarm {name} in app {app}")
    if as_json:
        show.document(row)
        return
    spans = {key: show.duration(row[key]) for key in ("within", "gather", "pause", "repeat")}
    show.fields({**row, **spans}.items())


@alarm.command()
@click.argument("app")
@click.argument("name")
def remove(*, app: str, name: str) -> None:
    """Remove an alarm. Nobody is told that it is over."""
    ask(lambda conn: store.remove_alarm(conn, app, name))
    click.echo(f"alarm {name} of app {app} is removed")


@alarm.command()
@click.argument("app")
@click.argument("name")
@click.option("--for", "span", type=Duration(), help="For so long.")
@click.option("--until", "until", type=Instant(), help="Until an instant.")
@click.option("--off", is_flag=True, help="End the silence.")
def silence(*, app: str, name: str, span: timedelta | None, until: datetime | None, off: bool) -> None:
    """Have an alarm say nothing for a while. If it fires at the end of it, it is told then."""
    if (span is not None) + (until is not None) + off != 1:
        raise click.UsageError("give one of --for, --until and --off")

    async def write(conn: Connection) -> datetime | None:
        # By the database's clock, which is the one that ends it.
        end = await watch.clock(conn) + span if span is not None else until
        await store.silence_alarm(conn, app, name, end)
        return end

    end = ask(write)
    click.echo(f"alarm {name} of app {app} {'speaks again' if end is None else f'is silent until {show.instant(end)}'}")


@alarm.command()
@click.argument("app")
@click.argument("name")
@click.option("--wait", type=Duration(), default=f"{PATIENCE:g}s", show_default=True, help="For the channels' answers.")
@show.with_json
def test(*, app: str, name: str, wait: timedelta, as_json: bool) -> None:
    """Send a test over each channel, and wait for what becomes of it."""

    async def send(conn: Connection) -> list[Row]:
        notices = await store.test_alarm(conn, app, name)
        runs = [one["run"] for one in notices]
        late = asyncio.get_running_loop().time() + wait.total_seconds()
        while True:
            ends = await store.ends(conn, runs)
            if len(ends) == len(runs) or asyncio.get_running_loop().time() > late:
                break
            await asyncio.sleep(_LOOK)
        return [
            {**one, "outcome": outcome, "error": error}
            for one in notices
            for outcome, error in [ends.get(one["run"], ("pending", None))]
        ]

    notices = ask(send)
    if as_json:
        show.document({"notices": notices})
    else:
        show.table(("CHANNEL", "RUN", "OUTCOME", "ERROR"), [tuple(one.values()) for one in notices])
    if any(one["outcome"] == "pending" for one in notices):
        show.note(f"is there a worker for app {store.APP} with the executor alarm? The notice goes out when it comes")
    if any(one["outcome"] != "succeeded" for one in notices):
        click.get_current_context().exit(1)
