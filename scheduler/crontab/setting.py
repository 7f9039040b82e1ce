"""`NAME=value` lines, quoted as in Debian's cron: the same lines are taken for settings, and give the same values."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BLANKS = " \t\n\v\f\r"
# A quoted name holds no `=`; an unquoted one neither that nor blanks. What follows a closed quoted value must be blank.
_SETTING = re.compile(
    r"""(?:(?P<name_quote>['"])(?P<quoted_name>(?:(?!(?P=name_quote))[^=])*)(?P=name_quote)|(?P<name>(?!['"])[^\s=]*))
        \s*+=\s*+
        (?:(?P<quote>['"])(?P<quoted>(?:(?!(?P=quote)).)*)(?P=quote)\s*|(?P<value>(?!['"]).*))""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_QUOTED_TWICE = 2


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    value: str
    is_bare: bool
    """`NAME=` with nothing behind it, which Debian's cron takes for an error and cronie for the empty value."""


def read_setting(line: str) -> Setting | None:
    """The setting of a line without leading blanks, or None when it is none: then it must be a job."""
    match = _SETTING.fullmatch(line)
    if match is None:
        return None
    value = match["value"] if match["quote"] is None else match["quoted"]
    # Trailing blanks go even from a quoted value, and quotes within quotes go too: so does cron, whatever its manual.
    value = value.rstrip(_BLANKS)
    if len(value) >= _QUOTED_TWICE and value[0] in "'\"" and value[-1] == value[0]:
        value = value[1:-1]
    name = match["name"] if match["name_quote"] is None else match["quoted_name"]
    return Setting(name, value, is_bare=match["quote"] is None and not value)
