"""Logins of their own on the test's server, for those who are not the scheduler."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier, Literal


@contextmanager
def login(server: str, name: str, *, password: str) -> Iterator[str]:
    """The DSN, on the server's own database, of a role that may log in and nothing else. `server`: a superuser's."""
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(SQL("create role {} login noinherit password {}").format(Identifier(name), Literal(password)))
        ((ident,),) = admin.execute("select current_setting('ident_file')").fetchall()
        if str(admin.info.host).startswith("/"):  # the embedded server goes by the user of the machine
            with Path(ident).open("a") as file:
                file.write(f'walclock "{pwd.getpwuid(os.geteuid()).pw_name}" {name}\n')
            admin.execute("select pg_reload_conf()")
    try:
        yield make_conninfo(server, user=name, password=password)
    finally:
        # What is left of it in a database that is being dropped keeps it; a server that is thrown away does not care.
        with psycopg.connect(server, autocommit=True) as admin, suppress(psycopg.errors.DependentObjectsStillExist):
            admin.execute(SQL("drop role {}").format(Identifier(name)))
