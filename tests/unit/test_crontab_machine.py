"""What is asked of the machine: files, the time zone, and whether a file is a system crontab."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scheduler.crontab import machine
from scheduler.crontab.text import MOST_BYTES
from scheduler.errors import SchedulerError


def root_with(path: Path, *, localtime: str | None = None, timezone: str | None = None) -> Path:
    (path / "etc").mkdir()
    if localtime is not None:
        target = path / "usr/share/zoneinfo" / localtime
        target.parent.mkdir(parents=True)
        target.write_bytes(b"TZif2")
        (path / "etc/localtime").symlink_to(target)
    if timezone is not None:
        (path / "etc/timezone").write_text(f"{timezone}\n")
    return path


def test_the_zone_is_the_one_that_localtime_points_to(tmp_path: Path) -> None:
    assert machine.local_zone({}, root_with(tmp_path, localtime="Europe/Paris")) == "Europe/Paris"


def test_a_copied_localtime_is_named_by_etc_timezone(tmp_path: Path) -> None:
    root = root_with(tmp_path, timezone="Asia/Tokyo")
    (root / "etc/localtime").write_bytes(b"TZif2")
    assert machine.local_zone({}, root) == "Asia/Tokyo"


def test_a_machine_without_a_zone_is_in_utc(tmp_path: Path) -> None:
    assert machine.local_zone({}, root_with(tmp_path)) == "Etc/UTC"
    assert machine.local_zone({"TZ": "UTC"}, tmp_path) == "Etc/UTC"


def test_a_zone_without_a_name_is_asked_for(tmp_path: Path) -> None:
    (root_with(tmp_path) / "etc/localtime").write_bytes(b"TZif2")
    with pytest.raises(SchedulerError, match="--timezone ZONE"):
        machine.local_zone({}, tmp_path)


def test_a_tz_that_contradicts_the_machine_is_not_guessed_at(tmp_path: Path) -> None:
    root = root_with(tmp_path, localtime="Europe/Paris")
    assert machine.local_zone({"TZ": ":Europe/Paris"}, root) == "Europe/Paris"
    with pytest.raises(SchedulerError, match="TZ is 'Asia/Tokyo', but the time zone of this machine is Europe/Paris"):
        machine.local_zone({"TZ": "Asia/Tokyo"}, root)


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "tab").write_bytes(b"# hello\n")
    assert machine.read_bytes(str(tmp_path / "tab")) == b"# hello\n"
    os.mkfifo(tmp_path / "pipe")
    for file, reason in {
        str(tmp_path): "is a directory",
        str(tmp_path / "pipe"): "is not a regular file",
        "/dev/zero": "is not a regular file",
        str(tmp_path / "none"): "cannot be read: No such file",
        "a\0b": "cannot be read: embedded null",
    }.items():
        with pytest.raises(SchedulerError, match=reason):
            machine.read_bytes(file)


def test_no_more_of_a_large_file_is_read_than_shows_that_it_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "tab").write_bytes(b"#" * 10 * 1024 * 1024)
    assert len(machine.read_bytes(str(tmp_path / "tab"))) == MOST_BYTES + 1


def test_system_crontabs_are_known_by_their_path() -> None:
    assert machine.is_system_path("/etc/crontab")
    assert machine.is_system_path("/etc/cron.d/sysstat")
    assert not machine.is_system_path("/home/a/crontab")
    assert not machine.is_system_path("/var/spool/cron/crontabs/a")
    assert machine.is_passed_over("/etc/cron.d/sysstat.dpkg-old")
    assert not machine.is_passed_over("/etc/cron.d/e2scrub_all")
    assert not machine.is_passed_over("/home/a/my.tab")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 3 * * * root /bin/x\n", True),
        ("A=b\n0 3 * * *\troot\t/bin/x\n@daily www-data y\n", True),
        ("@daily nobody-knows if [ -x /bin/x ]; then x; fi\n", True),
        ("0 3 * * * root /bin/x\n0 4 * * * /bin/y z\n", False),
        ("0 3 * * * /bin/x y\n", False),
        ("# 0 3 * * * root /bin/x\n", False),
        ("", False),
    ],
)
def test_a_system_crontab_is_suspected_by_its_user_column(text: str, expected: bool) -> None:
    assert machine.looks_like_a_system_crontab(text) is expected
