"""Who changed what: `audit list|verify|export`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from scheduler.cli import show
from scheduler.cli.inputs import Instant
from scheduler.cli.session import Connection, ask
from scheduler.errors import NotFoundError
from scheduler.store import audit as store

Row = dict[str, Any]
_WORDS = {
    "edited": "was edited",
    "rewritten": "was edited, and its hash with it",
    "deleted": "was deleted",
    "truncated": "was cut off the end",
    "added": "is behind the head, so it was added by hand",
}


@click.group()
def audit() -> None:
    """Who changed what, when, and whether anybody tampered with the account of it."""


@audit.command("list")
@click.option("--app", help="Only of this app; '' for what belongs to none.")
@click.option("--object", "object_", help="Only of this one, like 'job nightly' or 'run 17'; needs --app.")
@click.option("--since", type=Instant(), help="Only changes from this instant on.")
@click.option("--before", nargs=2, type=(str, int), metavar="APP N", help="Only changes before this one.")
@show.with_limit
@show.with_json
def list_entries(*, app: str | None, object_: str | None, limit: int, as_json: bool, **options: Any) -> None:
    """List changes, the latest first."""
    if object_ is not None and app is None:
        raise click.UsageError("--object needs --app: each app has its own jobs, runs and queues")
    rows = ask(lambda conn: store.entries(conn, app=app, object_=object_, limit=limit, **options))
    if as_json:
        show.document({"entries": rows})
        return
    show.table(
        ("AT", "APP", "N", "WHO", "ACTION", "OBJECT", "CHANGE"),
        [(row["at"], row["app"], row["n"], _who(row), row["action"], row["object"], _change(row)) for row in rows],
    )
    show.more(rows, limit, "--before", "app", "n")


@audit.command()
@click.option("--app", help="Only the chain of this app; '' for what belongs to none.")
@click.option("--head", metavar="HASH", help="A head that was kept: the chain must lead through it; needs --app.")
@show.with_json
def verify(app: str | None, head: str | None, as_json: bool) -> int:
    """Compute the hashes of all changes anew, and name each that was edited, deleted, moved or cut off.

    Prints where each chain ends: keep that elsewhere, and give it as --head later. Exit status 1: something was found.
    """
    if head is not None and app is None:
        raise click.UsageError("--head needs --app: each app has a chain of its own")
    kept = _hash(head)

    async def check(conn: Connection) -> store.Verdict:
        with _progress() as progress:
            return await store.verify(conn, app=app, kept=kept, progress=progress)

    verdict = ask(check)
    if as_json:
        show.document(
            {
                "ok": not verdict.findings,
                "heads": [_shown(head) for head in verdict.heads],
                "findings": [
                    {"app": one.app, "n": one.n, "last": one.last, "finding": one.finding, "was": one.was}
                    for one in verdict.findings
                ],
            }
        )
    elif verdict.findings:
        for one in verdict.findings:
            click.echo(_sentence(one))
    else:
        shown = [_shown(head) for head in verdict.heads]
        show.table(("APP", "ENTRIES", "HEAD"), [(one["app"], one["entries"], one["head"]) for one in shown])
    return 1 if verdict.findings else 0


@audit.command()
@click.option("--app", help="Only the chain of this app; '' for what belongs to none.")
def export(app: str | None) -> None:
    """Print the changes of each app in their order, a JSON object per line, and behind them the app's head.

    Of each line the SHA-256 is "previous" in the next, or "head" in the last: nothing else is needed to check a copy.
    """

    async def write(conn: Connection) -> None:
        heads = await store.audit_heads(conn, app)
        if app is not None and not heads:
            raise NotFoundError(f"nothing was ever changed in app {app!r}")
        for head in heads:
            async for line in store.lines(conn, head):
                _put(line)
            _put(json.dumps(_shown(head)))

    ask(write)
    sys.stdout.buffer.flush()


def _put(line: str) -> None:
    # As bytes: with another encoding of the terminal, or an escape, it would not be the line that was hashed.
    sys.stdout.buffer.write(line.encode() + b"\n")


def _shown(head: store.Head) -> Row:
    return {"app": head.app, "entries": head.entries, "head": None if head.hash is None else head.hash.hex()}


def _hash(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 32:  # noqa: PLR2004  SHA-256
        raise click.BadParameter("a head is 64 hexadecimal digits, as `audit verify` prints it", param_hint="--head")
    return value


def _who(row: Row) -> str:
    return f"{row['actor']} ({row['role']})" if row["actor"] else str(row["role"])


def _change(row: Row) -> str:
    """What is new, one `name: value` beside the other; of something that went, what it was."""
    after, before = row["after"], row["before"]
    if after is None:
        return f"was {json.dumps(before, ensure_ascii=False)}" if before else ""
    if not isinstance(after, dict) or not isinstance(before, dict):
        return json.dumps(after, ensure_ascii=False)
    changes = (f"{key}: {_value(before.get(key))} → {_value(value)}" for key, value in after.items())
    return ", ".join(changes)


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _sentence(one: store.Finding) -> str:
    app = f"app {one.app}" if one.app else "no app"
    if one.finding == "unknown head":
        return f"{app}: no entry has the head that was kept, so the chain was written anew"
    if one.finding == "reordered":
        return f"{app}: entry {one.n} is entry {one.was}, moved"
    if one.n == one.last:
        return f"{app}: entry {one.n} {_WORDS[one.finding]}"
    words = _WORDS[one.finding].replace("was ", "were ").replace("is ", "are ").replace("it was", "they were")
    return f"{app}: entries {one.n} to {one.last} {words}"


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, and nothing elsewhere."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("verifying", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
