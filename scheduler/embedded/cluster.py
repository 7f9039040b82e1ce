"""The database cluster: made once with initdb, configured at every start."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from scheduler.embedded.binaries import Binaries
from scheduler.embedded.place import Account, make_private
from scheduler.embedded.supervise import clean_environment, run_as
from scheduler.errors import EmbeddedError

DATABASE = "walclock"
SUPERUSER = "postgres"
PORT = 5432
_MAP = "walclock"
_BUILTIN_LOCALES_SINCE = 17

_SETTINGS = """\
# Settings of the embedded PostgreSQL, written once and yours to tune; they apply at the next start.
# Sockets, access and fsync are given on the command line and cannot be changed here.
shared_buffers = 128MB
max_connections = 100
max_wal_size = 1GB
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] '
log_checkpoints = off
"""


def data_version(pgdata: Path) -> int | None:
    """The major version that made the data, or None when there is none yet."""
    try:
        return int((pgdata / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None


def check_version(pgdata: Path, binaries: Binaries) -> None:
    found = data_version(pgdata)
    if found not in (None, binaries.major):
        raise EmbeddedError(
            f"{pgdata} holds data of PostgreSQL {found}, and {binaries.bin_dir} is PostgreSQL {binaries.major}",
            hint=f"set SCHEDULER_POSTGRES_BIN to the programs of PostgreSQL {found}; or dump the data with them "
            "(pg_dump) and restore it into a new SCHEDULER_DATA_DIR; or start empty with another SCHEDULER_DATA_DIR",
        )


def initialise(pgdata: Path, binaries: Binaries, account: Account) -> None:
    """Run initdb beside `pgdata` and rename the result: a killed initdb leaves nothing that looks like data."""
    unfinished = pgdata.with_name("pgdata-unfinished")
    for locale in _locales(binaries.major):
        shutil.rmtree(unfinished, ignore_errors=True)
        make_private(unfinished, account)
        finished = subprocess.run(  # noqa: S603  the user's PostgreSQL
            [
                binaries.bin_dir / "initdb",
                f"--pgdata={unfinished}",
                f"--username={SUPERUSER}",
                "--auth=peer",
                "--encoding=UTF8",
                *locale,
            ],
            capture_output=True,
            check=False,
            cwd="/",
            env=clean_environment(),
            **run_as(account.uid, account.gid),
        )
        if finished.returncode == 0:
            unfinished.rename(pgdata)
            return
    shutil.rmtree(unfinished, ignore_errors=True)
    raise EmbeddedError(f"initdb failed: {finished.stderr.decode(errors='replace').strip()}")


def _locales(major: int) -> list[list[str]]:
    """C.UTF-8, from PostgreSQL itself where it has it; plain C on machines whose libc lacks it."""
    if major >= _BUILTIN_LOCALES_SINCE:
        return [["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]]
    return [["--locale=C.UTF-8"], ["--locale=C"]]


def configure(data_dir: Path, account: Account, caller: Account) -> None:
    """Write the configuration. Who may log in: the caller and root, as our role or as the superuser, nobody else."""
    settings = data_dir / "postgresql.conf"
    if not settings.exists():
        _write(settings, _SETTINGS, account)
    _write(data_dir / "pg_hba.conf", f"local all all peer map={_MAP}\n", account)
    lines = [f'{_MAP} "{name}" {role}\n' for name in sorted({caller.name, "root"}) for role in (DATABASE, SUPERUSER)]
    _write(data_dir / "pg_ident.conf", "".join(lines), account)


def _write(path: Path, text: str, account: Account) -> None:
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123  a descriptor
        file.write(text)
        os.fchown(file.fileno(), -1, account.gid)
        os.fchmod(file.fileno(), 0o640)
    new.replace(path)


def postgres_command(data_dir: Path, pgdata: Path, socket_dir: Path, binaries: Binaries) -> list[str]:
    """The postmaster's command line; what keeps others out and data safe stands here, above any file."""
    quoted = str(socket_dir).replace('"', '""')  # the setting is a list; quotes keep a comma inside a name
    settings = {
        "config_file": data_dir / "postgresql.conf",
        "hba_file": data_dir / "pg_hba.conf",
        "ident_file": data_dir / "pg_ident.conf",
        "listen_addresses": "",
        "port": PORT,
        "unix_socket_directories": f'"{quoted}"',
        "unix_socket_permissions": "0700",
        "fsync": "on",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return [str(binaries.bin_dir / "postgres"), "-D", str(pgdata), *options]
