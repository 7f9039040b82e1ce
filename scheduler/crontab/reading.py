"""What a crontab says, line by line: jobs, the settings that hold from their line on, and what cannot be kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from scheduler.cron import Schedule, parse
from scheduler.cron.wording import shown
from scheduler.crontab.command import Command, read_command
from scheduler.crontab.fields import read_time
from scheduler.crontab.naming import name_of, program_of
from scheduler.crontab.setting import Setting, read_setting
from scheduler.errors import InvalidError, ScheduleError
from scheduler.model import NewJob, encode_spec

# What cron gives every command, unless a setting says otherwise.
ENVIRONMENT = {"SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
# cron ends nothing. A run needs an end, or one that hangs would hold its slot for good.
TIMEOUT = timedelta(days=7)
_USER = re.compile(r"([^ \t]+)(?:[ \t]+(.*))?", re.DOTALL)
_RUN_PARTS = re.compile(r"\brun-parts\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a crontab is to be read. `user` is who commands would run as; `source` tells the jobs of one file."""

    app: str
    source: str
    stem: str
    timezone: str
    system: bool
    user: str
    ignore_user: bool = False


@dataclass(frozen=True, slots=True)
class Remark:
    """About a line, or the whole file when `line` is None."""

    line: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Entry:
    line: int
    job: NewJob
    schedule: Schedule
    command: Command


@dataclass(slots=True)
class Crontab:
    entries: list[Entry] = field(default_factory=list)
    refused: list[Remark] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)


def read_crontab(text: str, reading: Reading) -> Crontab:
    """Every job that can be kept as it is, every line that cannot with its reason, and what a reader should know."""
    reader = _Reader(reading)
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        reader.read(number, line.lstrip(" \t"))
    if lines[-1].strip(" \t") and not lines[-1].lstrip(" \t").startswith("#"):
        reader.remark(
            len(lines), "no newline at the end of the file: Debian's cron ignores the whole file, here the line counts"
        )
    return reader.found


class _Reader:
    def __init__(self, reading: Reading) -> None:
        self.found = Crontab()
        self._reading = reading
        self._environment = dict(ENVIRONMENT)
        self._timezone = reading.timezone
        self._bad_zone: str | None = None
        self._names: set[str] = set()
        self._is_homeless = False

    def read(self, number: int, line: str) -> None:
        if not line.strip() or line.startswith("#"):
            return
        setting = read_setting(line)
        try:
            if setting is not None:
                self._set(number, setting)
            else:
                self._add(number, line)
        except InvalidError as error:
            self.found.refused.append(Remark(number, str(error)))

    def remark(self, line: int | None, text: str) -> None:
        self.found.remarks.append(Remark(line, text))

    def _set(self, number: int, setting: Setting) -> None:
        if not setting.name:
            raise InvalidError("a setting without a name", hint="NAME=value")
        if setting.is_bare:
            self.remark(number, f'`{setting.name}=`: Debian\'s cron takes it for an error, cronie for "", as here')
        if setting.name == "CRON_TZ":
            self._set_zone(number, setting.value)
        if setting.name == "LOGNAME":
            self.remark(number, "LOGNAME is left out: cron overrides it with the user's own name")
            return
        about = _ABOUT.get(setting.name)
        if about and setting.value:
            self.remark(number, f"{setting.name}={shown(setting.value)[1:-1]}: {about}")
        self._environment[setting.name] = setting.value

    def _set_zone(self, number: int, zone: str) -> None:
        try:
            self._timezone = parse("@daily", zone).timezone
            self._bad_zone = None
        except ScheduleError as error:
            self._bad_zone = f"its time zone is unknown: CRON_TZ of line {number}"
            raise ScheduleError(f"CRON_TZ: time zone {shown(zone)} is unknown", hint="like Europe/Paris") from error

    def _add(self, number: int, line: str) -> None:
        timed = read_time(line)
        schedule = parse(timed.schedule, self._timezone)
        user, rest = self._user(timed.rest)
        if not rest.strip():
            raise InvalidError("there is no command")
        if not self._reading.system and rest.startswith("*"):
            raise InvalidError("the command begins with *, which cron refuses", hint="five time fields, not six")
        if rest.endswith("\r"):
            raise InvalidError(
                "the line ends in a carriage return, which would be part of the command",
                hint="convert the file from Windows line ends",
            )
        if self._bad_zone:
            raise InvalidError(self._bad_zone)
        command = read_command(rest)
        name = name_of(self._reading.stem, timed.schedule, rest, self._names)
        entry = Entry(number, self._job(name, timed.schedule, command), schedule, command)
        self._names.add(name)
        self.found.entries.append(entry)
        self._remark_on(entry, user)

    def _user(self, rest: str) -> tuple[str | None, str]:
        """The user column of a system crontab, and what follows it."""
        if not self._reading.system:
            return None, rest
        match = _USER.fullmatch(rest)
        user, command = (match[1], match[2] or "") if match else ("", "")
        if command and user != self._reading.user and not self._reading.ignore_user:
            raise InvalidError(
                f"runs as {shown(user)[1:-1]}; workers run commands as their own user, here {self._reading.user}",
                hint="import it as that user, for a worker of that user, or --ignore-user",
            )
        return user, command

    def _job(self, name: str, schedule: str, command: Command) -> NewJob:
        environment = dict(self._environment)
        spec: dict[str, str | Mapping[str, str]] = {"command": command.text, "environment": environment}
        if command.stdin:
            spec["stdin"] = command.stdin
        if environment.get("HOME"):
            spec["cwd"] = environment["HOME"]
        return NewJob(
            app=self._reading.app,
            name=name,
            executor="shell",
            spec=encode_spec(spec),
            schedule=schedule,
            timezone=self._timezone,
            max_attempts=1,
            timeout=TIMEOUT,
            overlap="allow",
            misfire="skip",
            tags=[source_tag(self._reading.source)],
        )

    def _remark_on(self, entry: Entry, user: str | None) -> None:
        if not self._environment.get("HOME") and not self._is_homeless:
            self._is_homeless = True
            self.remark(
                None,
                "cron starts commands in the home directory of their user, workers in their own working directory: "
                "a HOME=… line before the jobs sets it",
            )
        if user is not None and user != self._reading.user:
            self.remark(entry.line, f"cron runs it as {shown(user)[1:-1]}, here it runs as the user of the worker")
        if entry.command.has_double_backslash:
            self.remark(entry.line, r"\\ is taken for one backslash, as by Debian's cron; cronie leaves both")
        if _RUN_PARTS.search(entry.command.text):
            where = program_of(entry.command.text)
            self.remark(entry.line, f"run-parts of {where} stays one job; what it runs does not become jobs of its own")


def source_tag(source: str) -> str:
    """The tag by which the jobs of one file are found again; the end of a long path tells more than its beginning."""
    return f"crontab:{source[-150:]}"


_ABOUT = {
    "MAILTO": "nothing is mailed; the output is kept with each run",
    "CRON_TZ": "obeyed as by cronie, for the lines below; Debian's cron would ignore it",
    "RANDOM_DELAY": "no delay is added; cronie delays by up to so many minutes",
}
