"""Roles of the database, and sessions of logins that have them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.sql import SQL, Identifier

from scheduler import db
from scheduler.install import grant_roles


def make_roles(dsn: str) -> None:
    """What `scheduler migrate --roles` does. The roles are the server's, and stay there for the next test."""

    async def grant() -> None:
        async with await db.connect(dsn, name="tests") as conn:
            await grant_roles(conn)

    asyncio.run(grant())


@contextmanager
def login(dsn: str, *roles: str) -> Iterator[str]:
    """A role that may log in and has these roles, for as long as it takes; its name is nobody else's."""
    name = f"walclock_test_{os.getpid()}_{time.monotonic_ns()}"
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(SQL("create role {} login").format(Identifier(name)))
        try:
            for role in roles:
                admin.execute(SQL("grant {} to {}").format(Identifier(role), Identifier(name)))
            yield name
        finally:
            admin.execute(SQL("drop owned by {}").format(Identifier(name)))
            admin.execute(SQL("drop role {}").format(Identifier(name)))


@contextmanager
def session_of(dsn: str, name: str) -> Iterator[psycopg.Connection]:
    """A session in which everything is as if the role had logged in."""
    options = "-c statement_timeout=20s -c timezone=UTC"
    with psycopg.connect(dsn, autocommit=True, options=options) as conn:
        conn.execute(SQL("set session authorization {}").format(Identifier(name)))
        yield conn


@contextmanager
def logged_in(dsn: str, *roles: str) -> Iterator[psycopg.Connection]:
    """A session of a new login that has these roles."""
    with login(dsn, *roles) as name, session_of(dsn, name) as conn:
        yield conn
