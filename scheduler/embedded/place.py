"""Where the embedded server keeps its things, and as which user it runs.

    data_dir/               0700; as root 0710 with the server's group, which may pass through but not look around
        pgdata/             0700, the server's user
        socket/             0700, the server's user (elsewhere when the path is too long for a socket)
        postgresql.conf     yours to tune; written once
        pg_hba.conf, pg_ident.conf      rewritten at every start
        postgres.log, *.lock            0600
        postgresql-18-…/    as root: a copy of programs that the server's user could not read where they are

As root everything but `pgdata` and `socket` stays root's: the unprivileged user cannot lead a root process astray
with a symbolic link, nor edit who may log in.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scheduler.embedded.supervise import LOCKS, run_as
from scheduler.errors import EmbeddedError

# Own account first. `postgres` holds databases by trade; `nobody` is shared by whatever else was given it.
_SERVER_USERS = ("walclock", "postgres", "_postgres", "nobody")
_SOCKET_PATH_BYTES = 103  # macOS; Linux allows 107
_SOCKET_NAME = ".s.PGSQL.5432"


def default_data_dir() -> Path:
    """`SCHEDULER_DATA_DIR`, else the user's data directory: `/var/lib/walclock` for root."""
    if chosen := os.environ.get("SCHEDULER_DATA_DIR"):
        return Path(chosen).expanduser()
    if os.geteuid() == 0:
        return Path("/var/lib/walclock")
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support/walclock"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "walclock"


@dataclass(frozen=True)
class Account:
    """An OS user: the one the server runs as, or the one who calls."""

    name: str
    uid: int
    gid: int

    @classmethod
    def current(cls) -> Account:
        try:
            entry = pwd.getpwuid(os.geteuid())
        except KeyError:
            raise EmbeddedError(
                f"user id {os.geteuid()} has no name on this machine, so PostgreSQL cannot run as it",
                hint="add it to /etc/passwd, or set SCHEDULER_DSN to a database of your own",
            ) from None
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)

    @classmethod
    def of_server(cls, pgdata: Path) -> Account:
        """The caller; for root, who may not run PostgreSQL, the data's owner or an unprivileged user that exists."""
        if os.geteuid() != 0:
            return cls.current()
        for find, key in _candidates(pgdata):
            try:
                entry = find(key)
            except KeyError:
                continue
            return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)
        raise EmbeddedError(
            f"PostgreSQL refuses to run as root, and none of the users {', '.join(_SERVER_USERS)} exists",
            hint="useradd --system walclock, or run this as another user",
        )

    def can_run(self, *command: str | Path) -> bool:
        try:
            finished = subprocess.run(  # noqa: S603  our own probes and the user's PostgreSQL
                command, capture_output=True, check=False, cwd="/", **run_as(self.uid, self.gid)
            )
        except OSError:
            return False
        return finished.returncode == 0

    def can_enter(self, folder: Path) -> bool:
        return self.can_run("/bin/sh", "-c", 'cd "$1"', "sh", folder)


def _candidates(pgdata: Path) -> Iterator[tuple[Callable[[Any], pwd.struct_passwd], int | str]]:
    """Data that exists stays with its owner, even if a better candidate was added to the machine since."""
    if pgdata.exists():
        yield pwd.getpwuid, pgdata.stat().st_uid
    for name in _SERVER_USERS:
        yield pwd.getpwnam, name


def make_data_dir(data_dir: Path) -> None:
    """Create it, closed to others; refuse one that belongs to another user, whose files these would become."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = data_dir.stat().st_uid
    if owner != os.geteuid():
        raise EmbeddedError(
            f"{data_dir} belongs to user id {owner}, not to {os.geteuid()}",
            hint="run this as its owner, or set SCHEDULER_DATA_DIR to a directory of your own",
        )


def open_to_server(data_dir: Path, account: Account) -> None:
    """Let the server's user pass through `data_dir`. No directory above is ever changed: refuse instead."""
    if set(os.listdir(data_dir)) <= LOCKS:  # noqa: PTH208  names are all that is needed
        data_dir.chmod(0o700)
        if account.uid != os.geteuid():
            os.chown(data_dir, -1, account.gid)
            data_dir.chmod(0o710)
    if account.uid == os.geteuid() or account.can_enter(data_dir):
        return
    barred = next(folder for folder in (*reversed(data_dir.parents), data_dir) if not account.can_enter(folder))
    raise EmbeddedError(
        f"PostgreSQL would run as the user {account.name}, who may not enter {barred}",
        hint="set SCHEDULER_DATA_DIR to a directory that others can reach, such as /var/lib/walclock",
    )


def socket_dir(data_dir: Path, account: Account) -> Path:
    """`data_dir/socket`, or a plain short path that every process of this user computes alike."""
    inside = data_dir / "socket"
    if len(os.fsencode(inside / _SOCKET_NAME)) <= _SOCKET_PATH_BYTES and "," not in str(inside):  # libpq splits hosts
        return inside
    name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return Path(f"/tmp/walclock-{account.uid}-{name}")  # noqa: S108  made 0700 and its owner checked; TMPDIR differs between shells


def make_private(folder: Path, account: Account) -> None:
    """A 0700 directory of the account. In /tmp anyone may have been first: what is there must be exactly that."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    else:
        os.chown(folder, account.uid, account.gid, follow_symlinks=False)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid or found.st_mode & 0o077:
        raise EmbeddedError(
            f"{folder} is not a private directory of the user {account.name}", hint="see who made it, and remove it"
        )
