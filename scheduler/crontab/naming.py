"""Names of imported jobs: `sysstat-debian-sa1-3f9a1c`, of the file, the program, and the time and command of the line.

The last part is a hash, so a line keeps its name wherever it moves in its file, and one that changes becomes another
job. An environment or a time zone that changes is an edit of the same job.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath

_MOST = 60  # characters of each readable part; a name has at most 200
_WORD = re.compile(r"[^\s;&|<>(){}\[\]!'\"`$]+")
_RUN_PARTS = re.compile(r"\brun-parts\b[^;&|]*?\s(/[^\s;&|})]+)")
_ASSIGNMENT = re.compile(r"\w+=")
_UNFIT = re.compile(r"[^A-Za-z0-9_.]+")
# What stands before the program in the lines that packages install: guards, keywords, and programs that run another.
_PASSED_OVER = re.compile(
    "cd|chronic|command|do|done|elif|else|env|eval|exec|false|fi|for|if|ionice|nice|nohup|perl|setsid|sh|sleep|sudo"
    "|test|then|timeout|true|until|while"
)
_NO_PROGRAMS = ("/dev/", "/run/", "/proc/")


def stem_of(path: str) -> str:
    """The part of a name that says the file: `sysstat` of /etc/cron.d/sysstat."""
    return _fit(PurePosixPath(path).stem) or "crontab"


def name_of(stem: str, schedule: str, command: str, taken: set[str]) -> str:
    """A name that is not taken yet; the same for the same line, unless the file holds it several times."""
    digest = hashlib.blake2b(f"{schedule}\n{command}".encode(), digest_size=3).hexdigest()
    name = "-".join(part for part in (stem, program_of(command), digest) if part)
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def program_of(command: str) -> str:
    """The word that a person would call the command by, past its guards; empty when there is none."""
    directory = _RUN_PARTS.search(command)
    if directory is not None:
        return _fit(PurePosixPath(directory[1]).name)
    for word in _WORD.findall(command):
        passed_over = word.startswith(("-", *_NO_PROGRAMS)) or _PASSED_OVER.fullmatch(word) or _ASSIGNMENT.match(word)
        program = _fit(PurePosixPath(word).name)
        if not passed_over and any(one.isalpha() for one in program):
            return program
    return ""


def _fit(text: str) -> str:
    return _UNFIT.sub("-", text).strip("-.")[:_MOST]
