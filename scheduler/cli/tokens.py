"""Who may use the HTTP API: `token create|list|revoke`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from scheduler.cli import show
from scheduler.cli.inputs import Duration, Instant, Variadic
from scheduler.cli.session import Connection, ask
from scheduler.store import access, watch
from scheduler.tokens import SCOPES, SHOWN, digest, new_token

if TYPE_CHECKING:
    _Type = click.ParamType[Any]
else:
    _Type = click.ParamType  # generic in the latest click only


class End(_Type):
    """A duration from now, or an instant."""

    name = "in"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime | timedelta:
        is_instant = isinstance(value, str) and value[:1].isdigit() and "-" in value
        return (Instant() if is_instant else Duration()).convert(value, param, ctx)


@click.group()
def token() -> None:
    """Who may use the HTTP API: make, list and revoke tokens."""


@token.command(cls=Variadic)
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    required=True,
    metavar="SCOPE…",
    help="What it may do: read, write, work, admin.",
)
@click.option("--app", "apps", multiple=True, metavar="NAME…", help="Only in these apps; default: in all.")
@click.option("--expires", type=End(), help="After this time, like 90d, or at an instant; default: never.")
@show.with_json
def create(
    *, name: str, scopes: Sequence[str], apps: Sequence[str], expires: datetime | timedelta | None, as_json: bool
) -> None:
    """Make a token and print it, this once: what is kept of it is a hash.

    Scopes: read looks at everything but tokens and the audit; write, which reads as well, changes definitions and runs;
    work is the worker protocol; admin may do everything.
    """
    text = new_token()

    async def write(conn: Connection) -> datetime | None:
        # By the database's clock, which is the one that ends it.
        at = await watch.clock(conn) + expires if isinstance(expires, timedelta) else expires
        await access.create_token(conn, name, digest(text), text[:SHOWN], sorted(set(scopes)), apps or None, at)
        return at

    expires_at = ask(write)
    if as_json:
        show.document(
            {
                "token": text,
                "name": name,
                "scopes": sorted(set(scopes)),
                "apps": list(apps) or None,
                "expires_at": expires_at,
            }
        )
        return
    show.note("this token is shown once; whoever has it has its access")
    click.echo(text)


@token.command("list")
@click.option("--all", "gone", is_flag=True, help="Revoked ones too.")
@click.option("--before-id", type=int, help="Only tokens with a smaller id.")
@show.with_limit
@show.with_json
def list_(*, gone: bool, before_id: int | None, limit: int, as_json: bool) -> None:
    """List the tokens, the latest first: each by its name and first characters, and when it was last used."""
    rows = ask(lambda conn: access.tokens(conn, gone=gone, before=before_id, limit=limit))
    if as_json:
        show.document({"tokens": rows})
        return
    show.table(
        ("ID", "NAME", "BEGINS", "SCOPES", "APPS", "STATE", "CREATED", "EXPIRES", "LAST USED"),
        [
            (
                row["id"],
                row["name"],
                row["prefix"],
                row["scopes"],
                "all" if row["apps"] is None else row["apps"],
                row["state"],
                row["created_at"],
                row["expires_at"],
                row["last_used_at"],
            )
            for row in rows
        ],
    )
    show.more(rows, limit, "--before-id", "id")


@token.command()
@click.argument("name")
def revoke(*, name: str) -> None:
    """End a token: servers refuse it within 5 seconds. Its name is free for another."""
    ask(lambda conn: access.revoke_token(conn, name))
    click.echo(f"token {name} is revoked")
