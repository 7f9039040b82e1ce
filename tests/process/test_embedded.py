"""Who starts the embedded server, who keeps it, and who stops it, whatever is killed meanwhile."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from scheduler.embedded import Binaries, Embedded, find_binaries
from scheduler.embedded.supervise import USERS_LOCK, Presence, look_for_users, open_lock
from scheduler.errors import EmbeddedError
from tests.support.embedded import (
    UserProcess,
    data_directory,
    end_server,
    has_ended,
    initialised_directory,
    is_starting,
    postmaster,
    supervisor,
    wait_until,
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    with initialised_directory() as data_dir:
        yield data_dir


@pytest.fixture
def data_dir(cluster: Path) -> Iterator[Path]:
    """Every test begins and ends without a server."""
    yield cluster
    left = postmaster(cluster)
    end_server(cluster)
    assert left is None


def answers(dsn: str) -> bool:
    try:
        with psycopg.connect(dsn, connect_timeout=5) as session:
            session.execute("select 1")
    except psycopg.OperationalError:
        return False
    return True


def test_processes_share_one_server_and_the_last_to_leave_stops_it(data_dir: Path) -> None:
    first, second = UserProcess(data_dir), UserProcess(data_dir)
    assert first.dsn() == second.dsn()
    pid = postmaster(data_dir)
    first.leave()
    with Embedded(data_dir):
        second.leave()
        assert postmaster(data_dir) == pid
    assert has_ended(pid)
    assert not (data_dir / "pgdata" / "postmaster.pid").exists()


def test_the_server_outlives_its_killed_starter_while_another_uses_it(data_dir: Path) -> None:
    starter, other = UserProcess(data_dir), UserProcess(data_dir)
    starter.dsn()
    dsn = other.dsn()
    pid = postmaster(data_dir)
    starter.kill()
    with Embedded(data_dir):
        assert postmaster(data_dir) == pid
    assert answers(dsn)
    other.leave()
    assert has_ended(pid)


def test_the_server_goes_when_all_its_users_were_killed(data_dir: Path) -> None:
    users = [UserProcess(data_dir), UserProcess(data_dir)]
    for user in users:
        user.dsn()
    pid, watchdog = postmaster(data_dir), supervisor(data_dir)
    for user in users:
        user.kill()
    wait_until(lambda: has_ended(pid) and has_ended(watchdog), seconds=10)
    assert not (data_dir / "pgdata" / "postmaster.pid").exists()  # it shut down; it was not killed


def test_a_killed_postmaster_returns_with_all_that_was_committed(data_dir: Path) -> None:
    with Embedded(data_dir) as server:
        with psycopg.connect(server.dsn) as session:
            session.execute("create table kept as select generate_series(1, 1000) as n")
        pid = postmaster(data_dir)
        assert pid
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: answers(server.dsn))
        assert postmaster(data_dir) != pid
        with psycopg.connect(server.dsn) as session:
            assert session.execute("select count(*) from kept").fetchone() == (1000,)
            session.execute("drop table kept")


def test_a_start_after_everything_was_killed_recovers(data_dir: Path) -> None:
    user = UserProcess(data_dir)
    with psycopg.connect(user.dsn()) as session:
        session.execute("create table survivor as select 1 as n")
    pid = postmaster(data_dir)
    assert pid
    for victim in (supervisor(data_dir), pid):
        os.kill(victim, signal.SIGKILL)
    user.kill()
    assert (data_dir / "pgdata" / "postmaster.pid").exists()
    with Embedded(data_dir) as server, psycopg.connect(server.dsn) as session:
        assert session.execute("select n from survivor").fetchone() == (1,)
        session.execute("drop table survivor")


def test_a_server_whose_supervisor_was_killed_is_adopted(data_dir: Path) -> None:
    with Embedded(data_dir) as server:
        pid, watchdog = postmaster(data_dir), supervisor(data_dir)
        os.kill(watchdog, signal.SIGKILL)
        wait_until(lambda: has_ended(watchdog))
        newcomer = UserProcess(data_dir)
        assert newcomer.dsn() == server.dsn
        assert postmaster(data_dir) == pid
        assert supervisor(data_dir) != watchdog
        newcomer.kill()
    assert has_ended(pid)


def test_the_last_to_leave_stops_a_server_whose_supervisor_was_killed(data_dir: Path) -> None:
    with Embedded(data_dir):
        pid, watchdog = postmaster(data_dir), supervisor(data_dir)
        os.kill(watchdog, signal.SIGKILL)
        wait_until(lambda: has_ended(watchdog))
    assert has_ended(pid)


def test_a_start_into_a_stop_whose_leaver_was_killed_gets_a_server(data_dir: Path) -> None:
    leaver = UserProcess(data_dir)
    leaver.dsn()
    pid = postmaster(data_dir)
    users = open_lock(data_dir / USERS_LOCK)
    assert pid
    os.kill(pid, signal.SIGSTOP)  # so that the stop takes as long as the test wants
    leaver.begin_to_leave()
    wait_until(lambda: look_for_users(users) is Presence.STOPPING)
    leaver.kill()
    newcomer = UserProcess(data_dir)
    wait_until(lambda: is_starting(data_dir))
    os.kill(pid, signal.SIGCONT)
    assert answers(newcomer.dsn())
    os.close(users)
    newcomer.leave()


def test_a_stale_pid_file_that_names_a_living_stranger_does_not_bar_the_start(data_dir: Path) -> None:
    with Embedded(data_dir):
        stale = (data_dir / "pgdata" / "postmaster.pid").read_text().splitlines()
    stale[0] = str(os.getpid())
    (data_dir / "pgdata" / "postmaster.pid").write_text("\n".join(stale) + "\n")
    with Embedded(data_dir) as server:
        assert answers(server.dsn)


def test_twenty_starts_at_once_make_one_server() -> None:
    with data_directory() as data_dir:
        users = [UserProcess(data_dir, times=5) for _ in range(4)]
        assert len({user.dsn() for user in users}) == 1
        log = (data_dir / "postgres.log").read_text()
        assert log.count("starting PostgreSQL") == 1
        pid = postmaster(data_dir)
        for user in users:
            user.leave()
        assert has_ended(pid)


def test_ctrl_c_leaves_no_postgres(data_dir: Path) -> None:
    user = UserProcess(data_dir)
    user.dsn()
    pid = postmaster(data_dir)
    user.interrupt()
    assert has_ended(pid)


def test_ctrl_c_while_starting_leaves_no_postgres(data_dir: Path) -> None:
    (data_dir / "socket").rmdir()  # it comes back just before the server is started
    user = UserProcess(data_dir)
    wait_until((data_dir / "socket").exists)
    user.interrupt()
    wait_until(lambda: has_ended(supervisor(data_dir)) and postmaster(data_dir) is None)


def test_a_termination_of_the_whole_group_lets_the_users_finish_first(data_dir: Path) -> None:
    """As a service stop does: every process of the control group gets SIGTERM, and the users drain."""
    with Embedded(data_dir) as server, psycopg.connect(server.dsn) as session:
        pid = postmaster(data_dir)
        os.kill(supervisor(data_dir), signal.SIGTERM)
        assert pid
        os.kill(pid, signal.SIGTERM)
        session.execute("create table drained as select 1 as n")
        session.execute("drop table drained")
        session.commit()
    assert has_ended(pid)


def test_a_lingering_server_serves_the_next_command_and_then_goes(data_dir: Path) -> None:
    server = Embedded(data_dir)
    server.start()
    pid = postmaster(data_dir)
    server.linger(2)
    assert answers(server.dsn)
    wait_until(lambda: has_ended(pid), seconds=15)


def test_a_slow_start_is_waited_for_and_reported(data_dir: Path) -> None:
    """Ten minutes of recovery must not be given up; here a stand-in is slow for as long as the test wants."""
    real = find_binaries()
    said: list[str] = []
    with data_directory() as folder:
        folder.chmod(0o755)
        (folder / "initdb").symlink_to(real.bin_dir / "initdb")
        slow = folder / "postgres"
        slow.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] || while [ ! -e {folder}/go ]; do sleep 0.05; done\n'
            f'exec {real.bin_dir}/postgres "$@"\n'
        )
        slow.chmod(0o755)

        def listen(line: str) -> None:
            said.append(line)
            if len(said) == 2:
                (folder / "go").touch()

        begun = time.monotonic()
        with Embedded(data_dir, binaries=Binaries(folder, real.major), progress=listen) as server:
            assert time.monotonic() - begun > 2
            assert answers(server.dsn)
    assert all(line.startswith("waiting for PostgreSQL") for line in said)


def test_a_server_that_cannot_start_is_reported_in_its_own_words(data_dir: Path) -> None:
    settings = data_dir / "postgresql.conf"
    sound = settings.read_text()
    settings.write_text("shared_buffers = plenty\n")
    try:
        with pytest.raises(EmbeddedError, match=r"did not start: .*FATAL.*; see .*postgres\.log"):
            Embedded(data_dir).start()
    finally:
        settings.write_text(sound)
    wait_until(lambda: has_ended(supervisor(data_dir)))
    with Embedded(data_dir) as server:
        assert answers(server.dsn)
