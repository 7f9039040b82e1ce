"""Lines of crontabs: settings, times, commands, and what is refused. Debian's own parser gave the expectations."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scheduler.crontab import Crontab, Reading, read_crontab
from scheduler.crontab.command import read_command
from scheduler.crontab.naming import program_of, stem_of
from scheduler.crontab.setting import read_setting
from scheduler.crontab.text import MOST_BYTES, read_text
from scheduler.errors import SchedulerError


def read(text: str, **changed: Any) -> Crontab:
    how: dict[str, Any] = {
        "app": "shop",
        "source": "-",
        "stem": "crontab",
        "timezone": "UTC",
        "system": False,
        "user": "alice",
    }
    return read_crontab(text, Reading(**{**how, **changed}))


def spec(text: str) -> dict[str, Any]:
    found = read(text)
    assert found.refused == []
    return dict(json.loads(found.entries[-1].job.spec))


def refusal(text: str, **changed: Any) -> str:
    found = read(text, **changed)
    assert found.entries == []
    assert [remark.line for remark in found.refused] == [1]
    return found.refused[0].text


def remarks(text: str) -> list[tuple[int | None, str]]:
    """Without the one about the missing HOME."""
    return [(one.line, one.text) for one in read(text).remarks if one.line is not None]


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("A=b", "A", "b"),
        ("A = b c  ", "A", "b c"),
        ('A="  b  "', "A", "  b"),  # trailing blanks go, whatever the manual says
        ("A='it \"is\"'", "A", 'it "is"'),
        ("A=\"'b'\"", "A", "b"),
        ('"A"=b', "A", "b"),
        ("A=b'c'", "A", "b'c'"),
        ("A=$HOME/bin:#x", "A", "$HOME/bin:#x"),
        ('MAILTO=""', "MAILTO", ""),
        ("A\t=\tb=c", "A", "b=c"),
    ],
)
def test_a_setting_has_the_value_that_cron_gives_it(line: str, name: str, value: str) -> None:
    setting = read_setting(line)
    assert setting is not None
    assert (setting.name, setting.value) == (name, value)


@pytest.mark.parametrize(
    "line", ["* * * * * A=b", "@daily A=b c", 'A="b', 'A= "b', 'A="b" c', "A B=c", '"A=B"=c', "export A=b", "'A=b"]
)
def test_what_cron_takes_for_no_setting_is_none(line: str) -> None:
    assert read_setting(line) is None


@pytest.mark.parametrize(
    ("text", "command", "stdin"),
    [
        ("cat", "cat", ""),
        (r"date +\%F", "date +%F", ""),
        ("cat % hello%world", "cat ", " hello\nworld\n"),
        ("cat %a%", "cat ", "a\n"),
        (r"cat %100\% of it", "cat ", "100% of it\n"),
        (r"cat %a\n%b", "cat ", "a\\n\nb\n"),
        (r"sed s/\\/x/ %", "sed s/\\/x/ ", ""),
        (r"echo \\% in", "echo \\", " in\n"),
        (r"echo \\\% out", r"echo \% out", ""),
        ("echo \\", "echo \\", ""),
    ],
)
def test_percent_signs_split_a_command_from_its_standard_input(text: str, command: str, stdin: str) -> None:
    read = read_command(text)
    assert (read.text, read.stdin) == (command, stdin)


def test_a_job_does_what_cron_did_and_no_more() -> None:
    found = read("HOME=/srv\nMAILTO=''\n \t5 4  * *\tSun  cd x && ./run % in \n")
    job = found.entries[0].job
    assert json.loads(job.spec) == {
        "command": "cd x && ./run ",
        "environment": {"SHELL": "/bin/sh", "PATH": "/usr/bin:/bin", "HOME": "/srv", "MAILTO": ""},
        "stdin": " in \n",
        "cwd": "/srv",
    }
    assert (job.schedule, job.timezone, job.executor, job.max_attempts) == ("5 4 * * Sun", "UTC", "shell", 1)
    assert (job.overlap, job.misfire, job.dst_gap, job.dst_fold, job.timeout.days) == (
        "allow",
        "skip",
        "after",
        "first",
        7,
    )
    assert job.tags == ["crontab:-"]
    assert found.remarks == []


def test_a_setting_holds_for_the_lines_below_it() -> None:
    found = read("0 1 * * * a\nX=1\n0 2 * * * b\nX=2\nSHELL=/bin/bash\n0 3 * * * c\n")
    environments = [json.loads(entry.job.spec)["environment"] for entry in found.entries]
    assert [environment.get("X") for environment in environments] == [None, "1", "2"]
    assert [environment["SHELL"] for environment in environments] == ["/bin/sh", "/bin/sh", "/bin/bash"]


def test_cron_tz_moves_the_lines_below_it_and_tz_only_their_environment() -> None:
    found = read("0 1 * * * a\nTZ=Asia/Tokyo\n0 1 * * * b\nCRON_TZ=Europe/Paris\n0 1 * * * c\n")
    assert [entry.job.timezone for entry in found.entries] == ["UTC", "UTC", "Europe/Paris"]
    assert [entry.schedule.timezone for entry in found.entries] == ["UTC", "UTC", "Europe/Paris"]
    assert json.loads(found.entries[1].job.spec)["environment"]["TZ"] == "Asia/Tokyo"
    assert "CRON_TZ=Europe/Paris: obeyed as by cronie" in next(one.text for one in found.remarks if one.line == 4)


def test_an_unknown_cron_tz_is_refused_with_the_lines_that_it_would_move() -> None:
    found = read("0 1 * * * a\nCRON_TZ=Mars/Olympus\n0 1 * * * b\nCRON_TZ=UTC\n0 1 * * * c\n")
    assert [entry.line for entry in found.entries] == [1, 5]
    assert [remark.line for remark in found.refused] == [2, 3]
    assert found.refused[1].text == "its time zone is unknown: CRON_TZ of line 2"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("@reboot /bin/x", "@reboot names no instant"),
        ("@Daily /bin/x", "'@Daily' is unknown to cron"),
        ("@every 5m /bin/x", "'@every' is unknown to cron"),
        ("@daily", "there is no command"),
        ("0 3 * * *", "there is no command"),
        ("0 3 * * * ", "there is no command"),
        ("0 3 * *", "five time fields and a command are needed"),
        ("hello", "five time fields and a command are needed"),
        ("0~30 3 * * * x", "random time"),
        ("~ 3 * * * x", "random time"),
        ("61 3 * * * x", "61 is out of range"),
        ("0 22-2 * * * x", "runs backwards"),
        ("0 3 * * sat-sun x", "runs backwards to cron"),
        ("0 3 * * january x", "'january' is not a time"),
        ("5/20 3 * * * x", "'5/20' is not a time"),
        ("5.3 3 * * * x", "'5.3' is not a time"),
        ("0 3 L * * x", "'L' is not a time"),
        ("0 3 15W * * x", "'15W' is not a time"),
        ("0 3 * * 1#2 x", "'1#2' is not a time"),
        ("0 3 ? * * x", "'?' is not a time"),
        ("H 3 * * * x", "'H' is not a time"),
        ("*/0 3 * * * x", "the step '0'"),
        ("0 3 1,,2 * * x", "'' is not a time"),
        ("0 3 30 2 * x", "it would never fire"),
        ("0 0 3 * * * x", "the command begins with *"),
        ("0 3 * * * x\r", "carriage return"),
        ("-0 3 * * * x", "'-0' is not a time"),
        ("=b", "a setting without a name"),
        ("export A=b", "five time fields"),
        ("\ufeff0 3 * * * x", "is not a time"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_reason(line: str, reason: str) -> None:
    assert reason in refusal(f"{line}\n")


def test_a_refused_line_does_not_take_others_with_it() -> None:
    found = read("# first\n0 1 * * * a\n\n99 * * * * b\n \t\n0 2 * * * c\n@reboot d\n")
    assert [entry.line for entry in found.entries] == [2, 6]
    assert [remark.line for remark in found.refused] == [4, 7]


def test_the_user_column_is_read_in_system_crontabs_only() -> None:
    assert json.loads(read("0 1 * * * alice run it\n", system=True).entries[0].job.spec)["command"] == "run it"
    assert spec("0 1 * * * alice run it\n")["command"] == "alice run it"
    assert "runs as bob" in refusal("0 1 * * *  bob\trun it\n", system=True)
    assert "there is no command" in refusal("0 1 * * * alice\n", system=True)
    assert "there is no command" in refusal("@daily alice \n", system=True)
    assert "there is no command" in refusal("@daily\n", system=True)


def test_comments_and_continuations_are_not_more_than_cron_makes_of_them() -> None:
    found = read("   # a comment\n0 1 * * * a # no comment\n0 2 * * * b \\\n0 3 * * * c\n")
    commands = [json.loads(entry.job.spec)["command"] for entry in found.entries]
    assert commands == ["a # no comment", "b \\", "c"]


def test_a_last_line_without_newline_counts_with_a_warning() -> None:
    found = read("HOME=/\n0 1 * * * a\n0 2 * * * b")
    assert [entry.line for entry in found.entries] == [2, 3]
    assert [(one.line, "no newline at the end" in one.text) for one in found.remarks] == [(3, True)]
    assert remarks("0 1 * * * a\n# end") == []
    assert remarks("0 1 * * * a\n  ") == []


def test_what_becomes_different_is_said_with_its_line() -> None:
    assert "nothing is mailed" in remarks("MAILTO=root\n0 1 * * * a\n")[0][1]
    assert remarks('MAILTO=""\n0 1 * * * a\n') == []
    assert "for an error" in remarks("MAILTO=\n0 1 * * * a\n")[0][1]
    assert remarks("LOGNAME=bob\n") == [(1, "LOGNAME is left out: cron overrides it with the user's own name")]
    assert "no delay is added" in remarks("RANDOM_DELAY=10\n")[0][1]
    assert "one backslash" in remarks("0 1 * * * sed 's/\\\\/x/'\n")[0][1]
    assert "run-parts of cron.x stays one job" in remarks("0 1 * * * run-parts /etc/cron.x\n")[0][1]


def test_a_missing_home_is_said_once_for_the_whole_file() -> None:
    found = read("0 1 * * * a\n0 2 * * * b\n")
    assert [(one.line, "home directory" in one.text) for one in found.remarks] == [(None, True)]
    assert all("cwd" not in json.loads(entry.job.spec) for entry in found.entries)


def test_a_line_keeps_its_name_where_it_moves_and_a_changed_one_gets_another() -> None:
    before = [entry.job.name for entry in read("0 1 * * * /opt/a.sh x\n0 2 * * * b\n").entries]
    after = [entry.job.name for entry in read("# new\nX=1\n0  2 * * * b\n0 1 * * *\t/opt/a.sh x\n").entries]
    assert after == before[::-1]
    assert before[0].startswith("crontab-a.sh-")
    (changed,) = read("0 1 * * * /opt/a.sh y\n").entries
    assert changed.job.name not in before


def test_a_line_that_is_there_twice_runs_twice() -> None:
    names = [entry.job.name for entry in read("0 1 * * * a\n" * 3).entries]
    assert names == [names[0], f"{names[0]}-2", f"{names[0]}-3"]


@pytest.mark.parametrize(
    ("command", "program"),
    [
        ("/usr/bin/backup --all", "backup"),
        ("cd / && nice -n 10 ./bin/my_job.sh", "my_job.sh"),
        ("X=1 Y=2 sudo -u x env Z=1 'quoted tool'", "x"),
        ("[ -d /run/systemd/system ] || /usr/sbin/it", "it"),
        ("cd / && run-parts --report /etc/cron.daily", "cron.daily"),
        ("sleep 5", ""),
        ("/opt/größe/Prüfung", "Pr-fung"),
        ("{ ( ! ;", ""),
    ],
)
def test_the_name_says_the_program_past_its_guards(command: str, program: str) -> None:
    assert program_of(command) == program


def test_the_name_says_the_file() -> None:
    assert stem_of("/etc/cron.d/sysstat") == "sysstat"
    assert stem_of("/home/a/my jobs.cron") == "my-jobs"
    assert stem_of("/…") == "crontab"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"0 1 * * * a\n\0", "line 2: a NUL character"),
        (b"# gr\xfc\xdfe\n", "line 1: byte 0xfc is not UTF-8"),
        (b"#" * (MOST_BYTES + 1), "too long for a crontab"),
        (b"\n" * 10_001, "more than 10,000 lines"),
    ],
)
def test_what_is_no_text_is_no_crontab(data: bytes, reason: str) -> None:
    with pytest.raises(SchedulerError, match=reason):
        read_text(data, "file")
