"""The small process that owns the postmaster: `python -I -S supervise.py DATA_DIR PGDATA SOCKET_DIR UID GID COMMAND…`.

It runs by file name and imports the standard library only, so it costs 10 MB, starts in 30 ms, and works whatever the
state of the program that called it.

Three lock files (flock, so the kernel releases them when a process dies, however it dies):

    start.lock       held exclusively by whoever is inside `Embedded.start()`
    users.lock       held shared by every user; exclusively by whoever is stopping the server, until it has stopped
    supervisor.lock  held exclusively by this process all its life; its text is this process's pid

                   a user exists          users.lock is free             SIGUSR1: the last user is leaving
    serving ───▶ keep, or restart it     ───▶ take it, stop, exit       ───▶ stop, exit (the leaver holds the lock)

It lives in a session of its own and lets INT, TERM and HUP pass: a Ctrl-C or a service stop reaches it together with
its users, who must still be able to drain into the database. It goes when they have gone.
"""

from __future__ import annotations

import enum
import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

START_LOCK = "start.lock"
USERS_LOCK = "users.lock"
SUPERVISOR_LOCK = "supervisor.lock"
LOCKS = frozenset({START_LOCK, USERS_LOCK, SUPERVISOR_LOCK})
LOG = "postgres.log"

_POLL_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_LOG_BYTES = 16 * 1024 * 1024
_STATUS_LINE = 7  # of postmaster.pid: "starting", "ready", "stopping"


class Presence(enum.Enum):
    NOBODY = "nobody"  # and the lock is now held exclusively
    SOMEBODY = "somebody"
    STOPPING = "stopping"  # another process stops the server and holds the lock exclusively


def open_lock(path: Path) -> int:
    """A descriptor that no child inherits: a lock that leaked into postgres would never be released."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def look_for_users(descriptor: int) -> Presence:
    """Who holds users.lock besides this descriptor, whose own lock (if any) is given up by asking."""
    if try_lock(descriptor, fcntl.LOCK_EX):
        return Presence.NOBODY
    if try_lock(descriptor, fcntl.LOCK_SH):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        return Presence.SOMEBODY
    return Presence.STOPPING


def run_as(uid: int, gid: int) -> dict[str, Any]:
    """What makes a child run as this user; nothing unless root asks."""
    return {"user": uid, "group": gid, "extra_groups": []} if os.geteuid() == 0 else {}


def clean_environment() -> dict[str, str]:
    """Neither PG* settings nor the caller's secrets; LC_ALL=C gives an English log and one thread on macOS."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {"LC_ALL": "C"}


def postmaster_status(pgdata: Path) -> tuple[int, str] | None:
    """The pid and the status word in postmaster.pid, whether or not that process lives."""
    try:
        lines = (pgdata / "postmaster.pid").read_text("utf-8", "replace").splitlines()
        return int(lines[0]), lines[_STATUS_LINE].strip() if len(lines) > _STATUS_LINE else ""
    except (OSError, ValueError, IndexError):
        return None


def living_postmaster(pgdata: Path, uid: int) -> int | None:
    """The pid of the postmaster of this directory, if it lives.

    The pid file alone proves nothing: after a reboot its number may belong to any process, and the file belongs to
    the unprivileged user, who must not choose what root sends signals to. So owner and command line must fit.
    """
    status = postmaster_status(pgdata)
    if status is None or status[0] <= 1:
        return None
    owner, command = describe_process(status[0])
    return status[0] if owner == uid and "postgres" in command and f"-D {pgdata} " in f"{command} " else None


def describe_process(pid: int) -> tuple[int | None, str]:
    """Owner and command line; no owner if there is no such process, an empty command line if it is a zombie."""
    proc = Path("/proc") / str(pid)
    try:
        if Path("/proc/self").exists():
            return proc.stat().st_uid, os.fsdecode((proc / "cmdline").read_bytes().replace(b"\0", b" "))
        command = ["/bin/ps", "-ww", "-o", "uid=,command=", "-p", str(pid)]
        owner, _, text = subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition(" ")  # noqa: S603  constant words and a number
        return int(owner), text
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None, ""


def forget_the_dead(pgdata: Path, socket_dir: Path, uid: int) -> None:
    """Remove the pid files of a postmaster that has gone, if their number still belongs to some process.

    In a restarted container pids repeat, and where init reaps nobody a killed postmaster stays a zombie for ever;
    PostgreSQL refuses to start in both cases. Its shared memory, keyed by the directory, still bars a second server.
    """
    status = postmaster_status(pgdata)
    if status and living_postmaster(pgdata, uid) is None and describe_process(status[0])[0] is not None:
        (pgdata / "postmaster.pid").unlink(missing_ok=True)
        for lock in socket_dir.glob(".s.PGSQL.*.lock"):
            lock.unlink()


def stop_orphan(pgdata: Path, uid: int) -> None:
    """Fast shutdown of a postmaster that is nobody's child of ours; returns when it has gone."""
    pid = living_postmaster(pgdata, uid)
    if pid is None:
        return
    described = describe_process(pid)
    try:
        os.kill(pid, signal.SIGINT)
    except ProcessLookupError:
        return
    while describe_process(pid) == described:  # it removes its pid file a moment before it has gone
        time.sleep(0.02)


class Supervisor:
    def __init__(self, data_dir: Path, pgdata: Path, socket_dir: Path, account: tuple[int, int]) -> None:
        self.pgdata, self.socket_dir = pgdata, socket_dir
        self.uid, self.gid = account
        self.users = open_lock(data_dir / USERS_LOCK)
        self.log_path = data_dir / LOG
        self.log = os.open(self.log_path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.child: subprocess.Popen[bytes] | None = None
        self.launched_at_byte = 0
        self.was_ready = False
        self.pause = 0.0
        self.next_launch = 0.0
        self.told_to_stop = False
        self.bell, bell_end = os.pipe()
        os.set_blocking(self.bell, False)
        os.set_blocking(bell_end, False)
        signal.set_wakeup_fd(bell_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGUSR1, self._tell_to_stop)

    def _tell_to_stop(self, *_: object) -> None:
        self.told_to_stop = True

    def run(self, command: list[str]) -> None:
        """Serve until the users are gone. On return users.lock is still held by whoever decided to stop."""
        while True:
            told_to_stop, self.told_to_stop = self.told_to_stop, False
            users = look_for_users(self.users)
            # Told by a leaver that was killed since, and someone joined: then the lock is not held exclusively.
            if users is Presence.NOBODY or (told_to_stop and users is Presence.STOPPING):
                self.stop()
                return
            if not self.is_alive() and (users is Presence.STOPPING or not self.relaunch(command)):
                return
            self.shorten_log()
            select.select([self.bell], [], [], _POLL_SECONDS)
            while self._drain_bell():
                pass

    def _drain_bell(self) -> bool:
        try:
            return bool(os.read(self.bell, 512))
        except BlockingIOError:
            return False

    def is_alive(self) -> bool:
        status = postmaster_status(self.pgdata)
        if self.child is None:
            self.was_ready = living_postmaster(self.pgdata, self.uid) is not None  # adopted from a dead supervisor
            return self.was_ready
        if status == (self.child.pid, "ready"):
            self.was_ready, self.pause = True, 0.0
        return self.child.poll() is None

    def relaunch(self, command: list[str]) -> bool:
        """Start the postmaster, or wait until it is time to; False if it never came up and will not by waiting."""
        if self.child is not None and not self.was_ready and not self._waits_for_old_backends():
            return False
        if time.monotonic() < self.next_launch:
            return True
        self.pause = min(max(2 * self.pause, _POLL_SECONDS / 2), _LONGEST_PAUSE_SECONDS)
        self.next_launch = time.monotonic() + self.pause
        self.launched_at_byte = os.fstat(self.log).st_size
        forget_the_dead(self.pgdata, self.socket_dir, self.uid)
        self.child = subprocess.Popen(  # noqa: S603  the absolute path and options that the caller composed
            command,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            cwd="/",
            env=clean_environment(),
            umask=0o077,
            **run_as(self.uid, self.gid),
        )
        return True

    def _waits_for_old_backends(self) -> bool:
        """After a kill -9 of the postmaster a busy backend lives on for a while, and its shared memory bars a start."""
        text = os.pread(self.log, 64 * 1024, self.launched_at_byte)
        return b"pre-existing shared memory block" in text

    def shorten_log(self) -> None:
        """Keep one older part: postgres appends to the same descriptor, so cutting the file in place is safe."""
        if os.fstat(self.log).st_size > _LOG_BYTES and self.log_path.exists():
            shutil.copyfile(self.log_path, self.log_path.with_suffix(".log.1"))
            os.truncate(self.log, 0)

    def stop(self) -> None:
        if self.child is None:
            stop_orphan(self.pgdata, self.uid)
        elif self.child.poll() is None:
            self.child.send_signal(signal.SIGINT)
            self.child.wait()


def _detach(log: int) -> None:
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for standard, target in ((0, null), (1, log), (2, log)):
        os.dup2(target, standard)
    os.close(null)


def main(arguments: list[str]) -> int:
    """Become the supervisor of a data directory. Exit status 0: one is there now, this one or an older one."""
    data_dir, pgdata, socket_dir = (Path(argument) for argument in arguments[:3])
    uid, gid = (int(argument) for argument in arguments[3:5])
    lock = open_lock(data_dir / SUPERVISOR_LOCK)
    if not try_lock(lock, fcntl.LOCK_EX):
        return 0
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(signum, lambda *_: None)  # not SIG_IGN, which postgres would inherit
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    supervisor = Supervisor(data_dir, pgdata, socket_dir, (uid, gid))
    # Forking after the lock is taken and the handlers stand: when the parent ends, the caller can rely on both,
    # and has no child to reap. Until the pid is written the file is empty, never some older process's number.
    os.ftruncate(lock, 0)
    if os.fork():
        os._exit(0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    _detach(supervisor.log)
    try:
        supervisor.run(arguments[5:])
    finally:
        os.close(lock)  # before users.lock: whoever gets that one must find no supervisor
        os.close(supervisor.users)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
