"""One process's share in the embedded server of a data directory."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from scheduler.embedded import cluster, place, supervise
from scheduler.embedded.binaries import Binaries, copy_for_another_user, find_binaries
from scheduler.errors import EmbeddedError

_ANSWER_SECONDS = 30.0  # for a server that calls itself ready to accept a connection
_REPORT_SECONDS = 1.0
_SECOND_LOOKS = 2  # others who look, the supervisor and fellow leavers, hold the lock shared for some microseconds
_SECOND_LOOK_SECONDS = 0.01


class Embedded:
    """A user of the one PostgreSQL that all processes of a Unix user share in `data_dir`.

    `start()` joins the server or starts it; the last user to `stop()` stops it. A user that dies counts as gone:
    the server then stops within a second or so. `progress` receives a line for a person whenever starting takes long.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        binaries: Binaries | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self._data_dir = Path(data_dir).expanduser().resolve()
        self._binaries = binaries
        self._progress = progress or (lambda _: None)
        self._users: int | None = None
        self._started_by = 0
        self._first_refusal: float | None = None

    @property
    def log_path(self) -> Path:
        return self._data_dir / supervise.LOG

    @property
    def pgdata(self) -> Path:
        return self._data_dir / "pgdata"

    @property
    def dsn(self) -> str:
        """The database `walclock`, as its owner, who is no superuser. It holds no secret: the socket knows its peer."""
        return self._dsn(cluster.DATABASE, cluster.DATABASE)

    @property
    def admin_dsn(self) -> str:
        """The database `postgres`, as the superuser: for tests and repairs."""
        return self._dsn(cluster.SUPERUSER, "postgres")

    def _dsn(self, user: str, database: str) -> str:
        socket_dir = place.socket_dir(self._data_dir, place.Account.of_server(self.pgdata))
        return f"postgresql://{user}@/{database}?host={quote(str(socket_dir), safe='')}&port={cluster.PORT}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> str:
        """Join the server, or start it, and return the DSN; any number of processes may do so at once.

        Waits as long as the server lives and recovers. Raises EmbeddedError with the way out, or the log's last lines.
        """
        if self._users is not None and self._started_by == os.getpid():
            return self.dsn
        try:
            self._start()
        except (OSError, psycopg.Error) as error:
            self.stop()
            raise EmbeddedError(f"the embedded PostgreSQL in {self._data_dir} cannot be started: {error}") from error
        except BaseException:
            self.stop()
            raise
        return self.dsn

    def _start(self) -> None:
        place.make_data_dir(self._data_dir)
        starting = supervise.open_lock(self._data_dir / supervise.START_LOCK)
        try:
            fcntl.flock(starting, fcntl.LOCK_EX)
            self._join()
            self._first_refusal = None
            log_offset = self.log_path.stat().st_size if self.log_path.exists() else 0
            if self._binaries is not None:
                cluster.check_version(self.pgdata, self._binaries)
            self._wait_until_it_serves(log_offset)
        finally:
            os.close(starting)

    def _join(self) -> None:
        """Become a user; while the last one is leaving, this waits until the server has stopped."""
        self._users = supervise.open_lock(self._data_dir / supervise.USERS_LOCK)
        self._started_by = os.getpid()
        fcntl.flock(self._users, fcntl.LOCK_SH)

    def _is_supervised(self) -> bool:
        lock = supervise.open_lock(self._data_dir / supervise.SUPERVISOR_LOCK)
        try:
            return not supervise.try_lock(lock, fcntl.LOCK_SH)
        finally:
            os.close(lock)

    def _launch(self) -> None:
        account, caller = place.Account.of_server(self.pgdata), place.Account.current()
        binaries = self._binaries or find_binaries(cluster.data_version(self.pgdata))
        cluster.check_version(self.pgdata, binaries)
        place.open_to_server(self._data_dir, account)
        if not account.can_run(binaries.bin_dir / "postgres", "--version"):
            self._progress(f"copying PostgreSQL {binaries.major} to where the user {account.name} can read it")
            binaries = copy_for_another_user(
                binaries, self._data_dir, lambda folder: account.can_run(folder / "postgres", "--version")
            )
        socket_dir = place.socket_dir(self._data_dir, account)
        place.make_private(socket_dir, account)
        if not self.pgdata.exists():
            self._progress(f"making a PostgreSQL {binaries.major} database in {self._data_dir}")
            cluster.initialise(self.pgdata, binaries, account)
        cluster.configure(self._data_dir, account, caller)
        command = cluster.postgres_command(self._data_dir, self.pgdata, socket_dir, binaries)
        self._spawn_supervisor([str(socket_dir), str(account.uid), str(account.gid), *command])

    def _spawn_supervisor(self, arguments: list[str]) -> None:
        log = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            subprocess.run(  # noqa: S603  ourselves
                [sys.executable, "-I", "-S", supervise.__file__, self._data_dir, self.pgdata, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
                cwd="/",
                env=supervise.clean_environment(),
                start_new_session=True,
            )
        except subprocess.CalledProcessError as error:
            raise EmbeddedError(f"the supervisor of the embedded PostgreSQL failed; see {self.log_path}") from error
        finally:
            os.close(log)

    def _wait_until_it_serves(self, log_offset: int) -> None:
        """Crash recovery may take minutes: only a server that has gone is given up, and only one that we launched.

        A server found running may be about to stop: its last user was killed while stopping it.
        """
        launched = False
        report_at = time.monotonic() + _REPORT_SECONDS
        while not (self._is_supervised() and self._is_ready() and self._has_database()):
            if not self._is_supervised():
                if launched:
                    raise EmbeddedError(
                        f"PostgreSQL did not start: {self._last_words(log_offset)}; see {self.log_path}"
                    )
                self._launch()
                launched, report_at = True, time.monotonic() + _REPORT_SECONDS
            if time.monotonic() > report_at:
                self._progress(f"waiting for PostgreSQL: {self._last_words(log_offset)}")
                report_at = time.monotonic() + _REPORT_SECONDS
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        """As postmaster.pid says: asking the server would have it log a refusal 50 times a second while it recovers."""
        status = supervise.postmaster_status(self.pgdata)
        return status is not None and status[1] == "ready" and self._is_alive()

    def _is_alive(self) -> bool:
        return supervise.living_postmaster(self.pgdata, self.pgdata.stat().st_uid) is not None

    def _last_words(self, log_offset: int) -> str:
        with self.log_path.open("rb") as log:
            log.seek(log_offset)
            lines = log.read()[-4096:].decode(errors="replace").splitlines()
        telling = [line for line in lines if "FATAL" in line or "PANIC" in line] or lines
        return telling[-1].strip() if telling else "it has said nothing yet"

    def _has_database(self) -> bool:
        """Make the role and the database if they are missing. False while the server turns connections away."""
        try:
            with psycopg.connect(self.admin_dsn, autocommit=True, connect_timeout=10) as admin:
                role = sql.Identifier(cluster.DATABASE)
                if not admin.execute("select 1 from pg_roles where rolname = %s", [cluster.DATABASE]).fetchone():
                    # The doctor looks at what goes on in the whole server, which is this user's own.
                    admin.execute(sql.SQL("create role {} login in role pg_monitor").format(role))
                if not admin.execute("select 1 from pg_database where datname = %s", [cluster.DATABASE]).fetchone():
                    admin.execute(sql.SQL("create database {} owner {}").format(role, role))
        except psycopg.OperationalError as error:
            self._first_refusal = self._first_refusal or time.monotonic()
            if time.monotonic() > self._first_refusal + _ANSWER_SECONDS:
                raise EmbeddedError(f"the embedded PostgreSQL does not answer: {error}") from error
            return False
        return True

    def stop(self) -> None:
        """Leave. The last user stops the server and waits until it has stopped; more calls do nothing."""
        users, self._users = self._users, None
        if users is None:
            return
        try:
            if self._started_by == os.getpid():  # a forked child must not end its parent's membership
                self._leave(users)
        finally:
            os.close(users)

    def linger(self, seconds: int) -> None:
        """Leave, but keep the server up for a while: for a command whose output is the DSN that the next one uses."""
        if self._users is None:
            return
        # The sleeping process inherits the descriptor and with it the lock; the shell ends at once, so none is ours.
        subprocess.run(  # noqa: S603  constant words and a number
            ["/bin/sh", "-c", 'sleep "$1" &', "sh", str(seconds)],
            pass_fds=[self._users],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            cwd="/",
            env=supervise.clean_environment(),
            start_new_session=True,
        )
        os.close(self._users)
        self._users = None

    def _leave(self, users: int) -> None:
        presence = supervise.look_for_users(users)
        for _ in range(_SECOND_LOOKS):
            if presence is supervise.Presence.SOMEBODY:
                time.sleep(_SECOND_LOOK_SECONDS)
                presence = supervise.look_for_users(users)
        if presence is supervise.Presence.STOPPING:
            fcntl.flock(users, fcntl.LOCK_SH)  # granted once the server has stopped
        if presence is supervise.Presence.NOBODY:
            self._stop_server()

    def _stop_server(self) -> None:
        lock = supervise.open_lock(self._data_dir / supervise.SUPERVISOR_LOCK)
        try:
            while not supervise.try_lock(lock, fcntl.LOCK_SH):
                self._tell_supervisor_to_stop(lock)
                time.sleep(0.02)
            if self.pgdata.exists():  # a supervisor that was killed left its server behind
                supervise.stop_orphan(self.pgdata, self.pgdata.stat().st_uid)
        finally:
            os.close(lock)

    def _tell_supervisor_to_stop(self, lock: int) -> None:
        """As long as the lock is held its text is the holder's pid, or nothing while it starts."""
        pid = os.pread(lock, 32, 0)
        if pid:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGUSR1)
