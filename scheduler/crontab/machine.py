"""What this machine knows and a crontab does not say: the file's bytes, the time zone cron goes by, and the users."""

from __future__ import annotations

import os
import pwd
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from scheduler.cron import parse
from scheduler.cron.wording import shown
from scheduler.crontab.text import MOST_BYTES
from scheduler.errors import ScheduleError, SchedulerError

STDIN = "-"
_SYSTEM_FILE = Path("/etc/crontab")
_SYSTEM_DIRECTORY = Path("/etc/cron.d")
_PACKAGED = re.compile(r"[A-Za-z0-9_-]+")  # names that Debian's cron reads in /etc/cron.d
_FIRST_WORDS = re.compile(r"[ \t]*(?:@\w+[ \t]+|(?:[^\s#@=]+[ \t]+){5})(\S+)[ \t]+(\S+)", re.ASCII)


def read_bytes(file: str) -> bytes:
    """The file's bytes, up to one more than a crontab may have; `-` is stdin. SchedulerError: it cannot be read."""
    if file == STDIN:
        return sys.stdin.buffer.read(MOST_BYTES + 1)
    try:
        kind = Path(file).stat().st_mode
        if stat.S_ISREG(kind):  # opening a pipe would wait for its writer
            with Path(file).open("rb") as opened:
                return opened.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise SchedulerError(f"{shown(file)} cannot be read: {why}") from error
    if stat.S_ISDIR(kind):
        raise SchedulerError(f"{shown(file)} is a directory", hint="import its files one by one")
    raise SchedulerError(f"{shown(file)} is not a regular file", hint="`-` reads a crontab from stdin")


def source_of(file: str) -> str:
    """What the jobs of the file are found by again: its absolute path."""
    return file if file == STDIN else os.path.realpath(file)


def is_system_path(source: str) -> bool:
    """Whether cron finds a user column in a file of this path."""
    return Path(source) == _SYSTEM_FILE or Path(source).parent == _SYSTEM_DIRECTORY


def is_passed_over(source: str) -> bool:
    """A file in /etc/cron.d whose name keeps cron from reading it, such as one with a dot."""
    path = Path(source)
    return path.parent == _SYSTEM_DIRECTORY and _PACKAGED.fullmatch(path.name) is None


def user_name() -> str:
    """Of who runs this process."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's arbitrary user
        return str(os.geteuid())


def looks_like_a_system_crontab(text: str) -> bool:
    """Whether all that may be a command begins with a user, as in `0 3 * * * root test -x …` or `… logcheck if [ …`."""
    users = {one.pw_name for one in pwd.getpwall()} | {"root", "www-data"}
    found = [match.groups() for line in text.splitlines() if (match := _FIRST_WORDS.match(line))]
    return bool(found) and all(word in users or following in {"if", "["} for word, following in found)


def local_zone(env: Mapping[str, str] = os.environ, root: Path = Path("/")) -> str:
    """The IANA name of the zone that cron goes by here. SchedulerError when the machine contradicts itself or is mute.

    /etc/localtime is the machine's word; TZ may have been set for cron as well, or for this shell only.
    """
    named = list(_zones_of(root))
    machine = next((zone for zone in named if _is_known(zone)), None)
    if machine is None and not (root / "etc/localtime").exists():
        machine = "Etc/UTC"
    given = env.get("TZ", "").removeprefix(":")
    if machine is None:
        raise SchedulerError("the time zone of this machine has no name that is known", hint="give it: --timezone ZONE")
    if given and given != machine and not (_is_utc(given) and _is_utc(machine)):
        raise SchedulerError(
            f"TZ is {shown(given)}, but the time zone of this machine is {machine}",
            hint="say which of them cron goes by: --timezone ZONE",
        )
    return machine


def _zones_of(root: Path) -> Iterator[str]:
    target = os.path.realpath(root / "etc/localtime")
    if "/zoneinfo/" in target:
        yield target.partition("/zoneinfo/")[2].removeprefix("posix/")
    try:
        yield (root / "etc/timezone").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return


def _is_known(zone: str) -> bool:
    try:
        parse("@daily", zone)
    except ScheduleError:
        return False
    return True


def _is_utc(zone: str) -> bool:
    return zone.rpartition("/")[2] in {"UTC", "UCT", "Universal", "Zulu"}
