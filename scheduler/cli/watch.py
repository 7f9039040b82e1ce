"""Who is there, who has work, and who owns what: `apps`, `locate`, `queues`, `servers`, `workers`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from scheduler.cli import show
from scheduler.cli.session import ask
from scheduler.config import Settings
from scheduler.errors import NotFoundError
from scheduler.store import watch

Row = dict[str, Any]


@click.command()
@click.option("--after", default="", metavar="APP", help="Only apps that sort after this one.")
@show.with_limit
@show.with_json
def apps(after: str, limit: int, as_json: bool) -> None:
    """List the apps, how much waits in each, and which server plans it.

    The owner is a server's id. Each time an app gets another owner, its epoch grows.
    """
    rows = [watch.counted(row) for row in ask(lambda conn: watch.apps(conn, after=after, limit=limit))]
    if as_json:
        show.document({"apps": rows})
        return
    show.table(
        ("APP", "STATE", "JOBS", "PENDING", "RUNNING", "OLDEST DUE", "OWNER", "EPOCH", "ADDRESS"),
        [
            (
                row["app"],
                "paused" if row["paused_at"] else "active",
                _at_least(row["jobs"]),
                _at_least(row["pending"]),
                row["running"],
                row["oldest_due_at"],
                row["server"],
                row["epoch"],
                row["address"],
            )
            for row in rows
        ],
    )
    show.more(rows, limit, "--after", "app")


@click.command()
@click.argument("app")
@show.with_json
def locate(app: str, as_json: bool) -> None:
    """Show which server owns an app, and the address it goes by."""
    found = ask(lambda conn: watch.locate(conn, app))
    if found is None:
        raise NotFoundError(f'app "{app}" has no owner', hint="it has no job, or no server is alive")
    if as_json:
        show.document(found)
        return
    show.fields((name, found[name]) for name in ("server", "label", "host", "address", "epoch"))


@click.command()
@click.option("--app", help="Only the queues of this app.")
@click.option("--after", nargs=2, default=("", ""), metavar="APP QUEUE", help="Only queues that sort after this one.")
@show.with_limit
@show.with_json
def queues(app: str | None, after: tuple[str, str], limit: int, as_json: bool) -> None:
    """List the queues, their limits, how late each is, and how many workers serve it.

    KEYED: how many of the pending runs have a concurrency key. LIMITS: slots taken of those there are, and the rate.
    """
    rows = [watch.counted(row) for row in ask(lambda conn: watch.queues(conn, app=app, after=after, limit=limit))]
    if as_json:
        show.document({"queues": rows})
        return
    show.table(
        ("APP", "QUEUE", "PENDING", "KEYED", "RUNNING", "LIMITS", "NEXT RUN AT", "LATE", "WORKERS"),
        [
            (
                row["app"],
                row["queue"],
                _at_least(row["pending"]),
                _at_least(row["keyed"]) if row["keyed"] else "",
                row["running"],
                _limits(row),
                row["next_run_at"],
                show.duration(row["late"]) if row["late"] else "",
                row["workers"],
            )
            for row in rows
        ],
    )
    show.more(rows, limit, "--after", "app", "queue")


@click.command()
@click.option("--all", "gone", is_flag=True, help="Those that stopped or died too.")
@click.option("--before-id", type=int, help="Only servers with a smaller id.")
@show.with_limit
@show.with_json
def servers(gone: bool, before_id: int | None, limit: int, as_json: bool) -> None:
    """List the servers, the latest first, and how many apps each owns."""
    dead_after = Settings.from_env().dead_after
    rows = ask(lambda conn: watch.servers(conn, gone=gone, before=before_id, dead_after=dead_after, limit=limit))
    if as_json:
        show.document({"servers": rows})
        return
    show.table(
        ("ID", "LABEL", "HOST", "PID", "ADDRESS", "APPS", "STATE", "STARTED", "VERSION"),
        [(*_process(row), row["address"], row["apps"], _state(row), row["started_at"], row["version"]) for row in rows],
    )
    show.more(rows, limit, "--before-id", "id")


@click.command()
@click.option("--all", "gone", is_flag=True, help="Those that stopped or died too.")
@click.option("--before-id", type=int, help="Only workers with a smaller id.")
@show.with_limit
@show.with_json
def workers(gone: bool, before_id: int | None, limit: int, as_json: bool) -> None:
    """List the workers, the latest first, and what each may run."""
    dead_after = Settings.from_env().dead_after
    rows = ask(lambda conn: watch.workers(conn, gone=gone, before=before_id, dead_after=dead_after, limit=limit))
    if as_json:
        show.document({"workers": rows})
        return
    show.table(
        ("ID", "LABEL", "HOST", "PID", "APPS", "QUEUES", "EXECUTORS", "RUNNING", "STATE", "STARTED"),
        [
            (
                *_process(row),
                "any" if row["apps"] is None else row["apps"],
                "any" if row["queues"] is None else row["queues"],
                row["executors"],
                f"{row['running']}/{row['concurrency']}",
                _state(row),
                row["started_at"],
            )
            for row in rows
        ],
    )
    show.more(rows, limit, "--before-id", "id")


def _process(row: Row) -> tuple[int, str, str, int]:
    return row["id"], row["label"], row["host"], row["pid"]


def _state(row: Row) -> str:
    if row["state"] == "silent":
        return f"silent for {show.duration(row['silent_for'])}"
    end: datetime | str | None = row["dead_at"] or row["stopped_at"]
    return f"{row['state']} {show.instant(end)}".rstrip()


def _limits(row: Row) -> str:
    slots = [f"{row['taken']}/{row['concurrency_limit']} held"] if row["concurrency_limit"] is not None else []
    rate = [f"{row['rate_limit']} per {show.duration(row['rate_interval'])}"] if row["rate_limit"] is not None else []
    return ", ".join(slots + rate)


def _at_least(count: int) -> str:
    return f"{count}+" if count >= watch.COUNTED else str(count)
