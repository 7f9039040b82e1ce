"""PgBouncer for the tests: Debian's, in transaction mode, as an unprivileged user, on a Unix socket of its own.

Few backends stand behind it, and who asks gets the one that waited longest, so that what a session leaves behind is
met by another soon.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
_CONFIG = """
[databases]
* = {server}

[pgbouncer]
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 500
server_round_robin = {round_robin}
auth_type = any
listen_addr =
listen_port = 6432
unix_socket_dir = {directory}
unix_socket_mode = 0777
logfile = {directory}/log
pidfile =
server_lifetime = 3600
"""


@contextmanager
def pooler(dsn: str, *, mode: str = "transaction", size: int = 8, round_robin: bool = True) -> Iterator[str]:
    """The DSN of the same database through a PgBouncer of its own; `dsn` is a superuser's."""
    assert PROGRAM, "these tests need PgBouncer: apt-get install pgbouncer"
    account = pwd.getpwuid(os.geteuid()) if os.geteuid() else _unprivileged(dsn)
    _admit(dsn, account.pw_name)
    directory = Path(tempfile.mkdtemp(prefix="walclock-pooler-"))
    try:
        server = {name: value for name, value in conninfo_to_dict(dsn).items() if name != "dbname"}
        text = _CONFIG.format(
            server=make_conninfo("", **server), mode=mode, size=size, round_robin=int(round_robin), directory=directory
        )
        (directory / "pgbouncer.ini").write_text(text)
        for path in (directory, directory / "pgbouncer.ini"):
            os.chown(path, account.pw_uid, account.pw_gid)
        as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        process = subprocess.Popen(
            [PROGRAM, "--quiet", str(directory / "pgbouncer.ini")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **as_user,
        )
        try:
            pooled = make_conninfo(dsn, host=str(directory), port="6432", user="anybody")
            _wait_for(pooled, process, directory / "log")
            yield pooled
        finally:
            process.kill()
            process.wait()
    finally:
        shutil.rmtree(directory)


def _unprivileged(dsn: str) -> pwd.struct_passwd:
    """Who PgBouncer, which does not run as root, runs as: who owns the server's socket and may pass to it."""
    host = str(conninfo_to_dict(dsn)["host"])
    if host.startswith("/") and (owner := Path(host).stat().st_uid):
        return pwd.getpwuid(owner)
    return pwd.getpwnam("nobody")


def _admit(dsn: str, name: str) -> None:
    """Let a user of this machine log in to the embedded server, which admits nobody but who started it."""
    with psycopg.connect(dsn, autocommit=True) as admin:
        ((ident, role),) = admin.execute("select current_setting('ident_file'), current_user").fetchall()
        line = f'walclock "{name}" {role}\n'
        if not str(admin.info.host).startswith("/") or line in Path(ident).read_text():
            return
        with Path(ident).open("a") as file:
            file.write(line)
        admin.execute("select pg_reload_conf()")


def _wait_for(dsn: str, process: subprocess.Popen[bytes], log: Path) -> None:
    late = time.monotonic() + 20
    while time.monotonic() < late and process.poll() is None:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(dsn):
            return
        time.sleep(0.05)
    raise AssertionError(log.read_text() if log.exists() else f"PgBouncer does not answer, status {process.poll()}")
