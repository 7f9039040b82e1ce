"""The schema, and where it is: `migrate`, `dsn`."""

from __future__ import annotations

import asyncio

import click

from scheduler import db, install
from scheduler.cli.session import Connection, Place, located, prepare

LINGER = 60  # seconds


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 unless the schema is up to date.")
@click.option("--roles", is_flag=True, help="Make the roles scheduler_reader, …_producer, …_worker and …_admin, too.")
def migrate(*, check: bool, roles: bool) -> int:
    """Install or upgrade the schema.

    With --roles, roles of the database get the rights that people and programs need, and nothing more. That takes
    CREATEROLE, unless they are there. From then on each upgrade brings their rights up to date.
    """
    if check and roles:
        raise click.UsageError("--check and --roles exclude each other")
    with located() as place:
        return asyncio.run(_migrate(place, check=check, roles=roles))


@click.command()
def dsn() -> None:
    """Print the DSN in use, with its password if it has one.

    The embedded PostgreSQL is started if need be, with the schema in it, and stays for a minute: long enough for
    psql "$(scheduler dsn)" to connect. It stops with its last user; `scheduler run` keeps it.
    """
    with located(linger=LINGER) as place:
        if place.is_embedded:
            asyncio.run(_prepared(place))
        click.echo(place.dsn)


async def _prepared(place: Place) -> None:
    async with await db.connect(place.dsn, name="dsn") as conn:
        await prepare(conn, place)


async def _migrate(place: Place, *, check: bool, roles: bool) -> int:
    # A migration may take longer than any statement of daily work.
    async with await db.connect(place.dsn, name="migrate", statement_timeout=0) as conn:
        return await _check(conn) if check else await _apply(conn, roles=roles)


async def _check(conn: Connection) -> int:
    state = await install.check(conn)
    click.echo(f"schema: {state}")
    return 0 if state is install.State.CURRENT else 1


async def _apply(conn: Connection, *, roles: bool) -> int:
    applied = await install.migrate(conn)
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("up to date")
    if roles:
        for name in await install.grant_roles(conn):
            click.echo(f"made role {name}")
        click.echo("the roles have their rights")
    return 0
