"""Files that Debian packages install: each line is kept as it is, and is due when Debian's cron would start it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from scheduler.crontab import Crontab, Entry, Reading, read_crontab
from scheduler.crontab.text import read_text
from tests.support.debian_cron import fires

FILES = Path(__file__).parent.parent / "data" / "crontab"
JOBS = {
    "anacron": [("anacron-anacron-cafdbf", "30 7-23 * * *")],
    "awstats": [("awstats-update.sh-ea8b24", "*/10 * * * *"), ("awstats-buildstatic.sh-81b55b", "10 03 * * *")],
    "certbot": [("certbot-certbot-bffa52", "0 */12 * * *")],
    "crontab": [
        ("crontab-cron.hourly-87567a", "17 * * * *"),
        ("crontab-cron.daily-04f70d", "25 6 * * *"),
        ("crontab-cron.weekly-a79dcd", "47 6 * * 7"),
        ("crontab-cron.monthly-4914ca", "52 6 1 * *"),
    ],
    "e2scrub_all": [
        ("e2scrub_all-e2scrub_all_cron-12422a", "30 3 * * 0"),
        ("e2scrub_all-e2scrub_all-2d124c", "10 3 * * *"),
    ],
    "logcheck": [("logcheck-logcheck-c2d401", "2 * * * *")],
    "mdadm": [("mdadm-checkarray-2bdc35", "57 0 * * 0")],
    "munin-node": [("munin-node-apt_all-f18d44", "*/5 * * * *")],
    "ntpsec": [("ntpsec-rotate-stats-6d3917", "25 6 * * *")],
    "php": [("php-sessionclean-099c99", "09,39 * * * *")],
    "sysstat": [("sysstat-debian-sa1-db0a85", "5-55/10 * * * *"), ("sysstat-debian-sa1-d4a85e", "59 23 * * *")],
}
USERS = {"awstats": "www-data", "logcheck": "logcheck"}
# A little before the clocks of these zones jump, forward and back; Lord Howe's by half an hour.
STARTS = {
    "UTC": ["2026-02-27T23:50+00:00"],
    "America/New_York": ["2026-03-07T00:00+00:00", "2026-10-31T00:00+00:00"],
    "Europe/Berlin": ["2026-03-28T00:00+00:00", "2026-10-24T00:00+00:00"],
    "Australia/Lord_Howe": ["2026-04-03T00:00+00:00", "2026-10-02T00:00+00:00"],
}
SYNTHETIC = [
    "30 2 * * *",
    "30 1 * * *",
    "*/30 2 * * *",
    "15 * 1,15 * *",
    "0 0 1-7 * sun",
    "0 5 1,15 * fri",
    "0 6 */2 * mon",
    "0 6 */10 * 1-5",
    "59 1-3 * mar,oct,nov sat,0,7",
    "0 0 1-15 * */5",
    "45 3 29-31 1-12/2 *",
    "@hourly",
    "@daily",
    "@weekly",
    "@monthly",
]


def read(file: str, *, zone: str = "UTC", user: str | None = None, ignore_user: bool = False) -> Crontab:
    reading = Reading(
        app="shop",
        source=f"/etc/cron.d/{file}",
        stem=file,
        timezone=zone,
        system=True,
        user=user or USERS.get(file, "root"),
        ignore_user=ignore_user,
    )
    return read_crontab(read_text((FILES / file).read_bytes(), file), reading)


def assert_as_in_debian(entry: Entry, zone: str) -> None:
    """Twenty instants in UTC, two years of some; in zones whose clocks jump those of the three weeks around a jump."""
    for start in map(datetime.fromisoformat, STARTS[zone]):
        until = start + (timedelta(days=900) if zone == "UTC" else timedelta(days=21))
        expected = fires(entry.job.schedule or "", zone, start, until, 20)
        assert entry.schedule.between(start, until, limit=20) == expected
        assert len(expected) == 20 or zone != "UTC"


@pytest.mark.parametrize("file", JOBS)
def test_every_line_of_a_packaged_crontab_becomes_a_job_with_a_telling_name(file: str) -> None:
    found = read(file)
    assert [(entry.job.name, entry.job.schedule) for entry in found.entries] == JOBS[file]
    assert [remark.line for remark in found.refused] == ([6] if file == "logcheck" else [])


@pytest.mark.parametrize("file", JOBS)
def test_the_command_is_the_text_of_its_line(file: str) -> None:
    lines = (FILES / file).read_text().split("\n")
    for entry in read(file).entries:
        spec = json.loads(entry.job.spec)
        # No packaged line gives standard input, and only mdadm's escapes percent signs.
        assert lines[entry.line - 1].replace("\\%", "%").endswith(spec["command"])
        assert not spec["command"].startswith(("root", "www-data", "logcheck", " ", "\t"))
        assert "stdin" not in spec


@pytest.mark.parametrize("zone", STARTS)
@pytest.mark.parametrize("file", JOBS)
def test_the_next_20_instants_are_those_of_debians_cron(file: str, zone: str) -> None:
    for entry in read(file, zone=zone).entries:
        assert_as_in_debian(entry, zone)


@pytest.mark.parametrize("zone", STARTS)
@pytest.mark.parametrize("expression", SYNTHETIC)
def test_day_rules_stars_and_jumping_clocks_are_those_of_debians_cron(expression: str, zone: str) -> None:
    reading = Reading(app="a", source="-", stem="crontab", timezone=zone, system=False, user="root")
    (entry,) = read_crontab(f"{expression} true\n", reading).entries
    assert_as_in_debian(entry, zone)


def test_settings_of_a_packaged_crontab_reach_the_commands_below_them() -> None:
    (entry,) = read("certbot").entries
    assert json.loads(entry.job.spec)["environment"] == {
        "SHELL": "/bin/sh",
        "PATH": "/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin",
    }
    (entry,) = read("mdadm").entries
    assert json.loads(entry.job.spec)["environment"] == {"SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}


def test_a_line_of_another_user_is_refused_with_its_number_unless_the_user_is_to_be_ignored() -> None:
    found = read("awstats", user="root")
    assert found.entries == []
    assert [remark.line for remark in found.refused] == [3, 6]
    assert "runs as www-data; workers run commands as their own user, here root" in found.refused[0].text
    found = read("awstats", user="root", ignore_user=True)
    assert [entry.job.name for entry in found.entries] == [name for name, _ in JOBS["awstats"]]
    assert (3, "cron runs it as www-data, here it runs as the user of the worker") in [
        (remark.line, remark.text) for remark in found.remarks
    ]


def test_run_parts_stays_one_job_and_says_so() -> None:
    found = read("crontab")
    assert json.loads(found.entries[0].job.spec)["command"] == "cd / && run-parts --report /etc/cron.hourly"
    assert "run-parts of cron.hourly stays one job" in next(one.text for one in found.remarks if one.line == 18)
