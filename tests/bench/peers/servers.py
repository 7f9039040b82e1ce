"""A PostgreSQL and a Redis of the run's own: made for it, on loopback, behind a password, and gone after it."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.bench.peers import cache

SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "4GB", "max_connections": "200"}
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server on which databases may be made."""

    admin: str
    """A superuser's DSN."""

    def dsn(self, database: str) -> str:
        """A URL, because that is what every client understands."""
        given = {key: quote(str(value), safe="") for key, value in conninfo_to_dict(self.admin).items()}
        user = ":".join(given[key] for key in ("user", "password") if key in given)
        host, port = given.get("host", ""), given.get("port", "5432")
        if host.startswith("%2F"):  # the folder of a socket
            return f"postgresql://{user}@/{database}?host={host}&port={port}"
        return f"postgresql://{user}@{host}:{port}/{database}"

    def connect(self, database: str | None = None) -> psycopg.Connection[Any]:
        return psycopg.connect(make_conninfo(self.admin, **{"dbname": database} if database else {}), autocommit=True)

    def pid(self) -> int:
        with self.connect() as connection:
            found = connection.execute(r"select split_part(pg_read_file('postmaster.pid'), E'\n', 1)::int").fetchone()
        return int(found[0]) if found else 0


@dataclass(frozen=True, slots=True)
class Redis:
    port: int
    password: str
    process: int

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    def numbers(self, commands: Sequence[str]) -> list[int]:
        """The answers of commands that answer with a number."""
        with socket.create_connection((LOOPBACK, self.port), timeout=10) as connection:
            stream = connection.makefile("rwb")
            stream.write("".join(f"{command}\r\n" for command in (f"AUTH {self.password}", *commands)).encode())
            stream.flush()
            stream.readline()  # +OK
            return [int(stream.readline().removeprefix(b":")) for _ in commands]


@contextmanager
def postgres() -> Iterator[Postgres]:
    """PostgreSQL 15 as Debian builds it, with fsync and synchronous_commit on, run by an unprivileged user."""
    data = _fresh("postgres")
    port, password = _free_port(), secrets.token_hex(16)
    secret = _secret(data / "password", password)
    initdb = f"{cache.POSTGRES}/initdb -D {data}/data --pwfile={secret} -U postgres -A scram-sha-256 -E UTF8".split()
    subprocess.run(initdb, **_unprivileged(), stdout=subprocess.DEVNULL, check=True)
    settings = {**SETTINGS, "listen_addresses": LOOPBACK, "port": port, "unix_socket_directories": data}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    # INT is PostgreSQL's fast shutdown.
    with _running([cache.POSTGRES / "postgres", "-D", data / "data", *options], data / "log", signal.SIGINT) as server:
        found = Postgres(make_conninfo(host=LOOPBACK, port=port, user="postgres", password=password, dbname="postgres"))
        _wait(server, lambda: found.connect().close())
        yield found
    shutil.rmtree(data)


@contextmanager
def redis() -> Iterator[Redis]:
    """Debian's Redis with its default persistence: snapshots, no append-only file."""
    data = _fresh("redis")
    port, password = _free_port(), secrets.token_hex(16)
    words = f"bind {LOOPBACK}\nport {port}\nrequirepass {password}\ndir {data}\n"
    settings = _secret(data / "redis.conf", words)
    with _running(["redis-server", settings], data / "log", signal.SIGTERM) as server:
        found = Redis(port, password, server.pid)
        _wait(server, lambda: found.numbers(["DBSIZE"]))
        yield found
    shutil.rmtree(data)


def _unprivileged() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: it becomes the user that Debian made for it."""
    if os.geteuid() != 0:
        return {"cwd": "/"}
    user = pwd.getpwnam("postgres")
    return {"cwd": "/", "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _fresh(name: str) -> Path:
    """An empty folder in the cache that belongs to the unprivileged user."""
    path = cache.folder() / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700)
    if user := _unprivileged().get("user"):
        os.chown(path, user, -1)
    return path


def _secret(path: Path, text: str) -> Path:
    """A file that only its folder's owner can read."""
    path.touch(mode=0o600)
    path.write_text(text)
    os.chown(path, path.parent.stat().st_uid, -1)
    return path


@contextmanager
def _running(command: Sequence[str | Path], log: Path, stop: signal.Signals) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, **_unprivileged())
    try:
        yield server
    finally:
        server.send_signal(stop)
        server.wait(60)


def _wait(server: subprocess.Popen[bytes], answers: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            answers()
        except (OSError, ValueError, psycopg.OperationalError):
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind((LOOPBACK, 0))
        port: int = listening.getsockname()[1]
        return port
