r"""The command of a line: `%` ends it and begins its standard input, `\%` is a percent sign."""

from __future__ import annotations

import re
from dataclasses import dataclass

_COMMAND = re.compile(r"(?:\\.|[^\\%])*\\?", re.DOTALL)
_ESCAPED = re.compile(r"\\([\\%])")
_PERCENT = re.compile(r"(\\?)%")


@dataclass(frozen=True, slots=True)
class Command:
    text: str
    stdin: str
    has_double_backslash: bool
    """Debian's cron makes one backslash of two, before the shell sees them; cronie leaves both."""


def read_command(text: str) -> Command:
    """As Debian's cron splits and unescapes it. Standard input that does not end in a newline is given one."""
    match = _COMMAND.match(text)
    end = match.end() if match else 0
    doubled = any(escape[0] == "\\\\" for escape in _ESCAPED.finditer(text[:end]))
    stdin = _PERCENT.sub(lambda percent: "%" if percent[1] else "\n", text[end + 1 :])
    last = stdin.rstrip("\\")[-1:]  # cron forgets about backslashes when it asks whether a newline is missing
    if last not in {"", "\n"}:
        stdin += "\n"
    return Command(_ESCAPED.sub(r"\1", text[:end]), stdin, doubled)
