"""What services log: a record is a line on stderr, for people or as JSON, and says whom and which run it is about.

SCHEDULER_LOG sets the level, SCHEDULER_LOG_FORMAT the form: `console`, in colours on a terminal, or `json`. What
libraries and tasks log by `logging` goes the same way. Passwords and secrets are hidden, wherever in a text they stand.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import quote, unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from scheduler.errors import ConfigError

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_FORMS = ("console", "json")
_COLOURS = {"DEBUG": "2", "WARNING": "33", "ERROR": "31", "CRITICAL": "31;1"}
_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}  # uvicorn's last one
_LEAST = 4  # characters: a shorter value would be hidden everywhere
_MOST = 1_000  # values that are remembered
_DSNS = re.compile(r"SCHEDULER_(LISTEN_)?DSN|DATABASE_URL|SCHEDULER_(SQL_DSN|REDIS_URL)(_.*)?")
_SECRETS = re.compile(r"PGPASSWORD|SCHEDULER_SECRET_.+")
_URL_PASSWORD = re.compile(r"(\w+://[^:@/\s]*):[^@\s]+@")
SHOWN = "***"


class Place(Protocol):
    def about(self) -> dict[str, Any]:
        """The run that is executed here now: run, app, job, attempt, fence; empty for none."""


SERVER: ContextVar[Callable[[], int] | None] = ContextVar("SERVER", default=None)  # its id may change
WORKER: ContextVar[int | None] = ContextVar("WORKER", default=None)
PLACE: ContextVar[Place | None] = ContextVar("PLACE", default=None)


class _Hidden:
    """Values that no record shows."""

    def __init__(self) -> None:
        self._values: dict[str, None] = {}
        self._pattern: re.Pattern[str] | None = None

    def add(self, values: Iterable[str]) -> None:
        for value in values:
            if len(value) >= _LEAST and value not in self._values:
                self._values[value] = None
                if len(self._values) > _MOST:
                    del self._values[next(iter(self._values))]
                self._pattern = None

    def covered(self, text: str) -> str:
        if self._values:
            if self._pattern is None:
                self._pattern = re.compile("|".join(map(re.escape, sorted(self._values, key=len, reverse=True))))
            text = self._pattern.sub(SHOWN, text)
        return _URL_PASSWORD.sub(rf"\1:{SHOWN}@", text)


_hidden = _Hidden()
hide = _hidden.add
"""Let no record show these values from here on."""


def start(dsn: str | None = None, env: Mapping[str, str] = os.environ) -> None:
    """Log from here on. `dsn`: one more that may hold a password. ConfigError for a level or a form that is none."""
    level = env.get("SCHEDULER_LOG", "").strip().upper() or "INFO"
    if level not in _LEVELS:
        raise ConfigError(f"SCHEDULER_LOG={level!r}: expected one of {', '.join(_LEVELS)}")
    form = env.get("SCHEDULER_LOG_FORMAT", "").strip().lower() or "console"
    if form not in _FORMS:
        raise ConfigError(f"SCHEDULER_LOG_FORMAT={form!r}: expected {' or '.join(_FORMS)}")
    dsns = [dsn or "", *(value for name, value in env.items() if _DSNS.fullmatch(name))]
    hide(password for one in dsns for password in _passwords(one))
    hide(value for name, value in env.items() if _SECRETS.fullmatch(name))
    handler = _Handler()
    is_coloured = handler.stream.isatty() and not env.get("NO_COLOR")
    handler.setFormatter(_JsonLine() if form == "json" else _ConsoleLine(is_coloured=is_coloured))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    # They say on INFO and WARNING what our loops say in a person's words.
    for name in ("asyncio", "psycopg", "psycopg.pool"):
        logging.getLogger(name).setLevel(max(logging.ERROR, logging.getLevelName(level)))


def is_json() -> bool:
    """Whether this process logs in JSON, so that no other line may come between."""
    return any(isinstance(handler.formatter, _JsonLine) for handler in logging.getLogger().handlers)


class _Handler(logging.StreamHandler[Any]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  as logging calls it
        """A record that cannot be written, such as one whose arguments do not fit, is a line as any other."""
        error = sys.exception()
        if isinstance(error, OSError):
            return  # stderr is closed or full: nobody is there to be told
        unfit = {**vars(record), "msg": f"a record that cannot be shown: {record.msg!r}: {error}", "args": None}
        self.emit(logging.makeLogRecord({**unfit, "exc_info": None, "exc_text": None}))


class _Line(logging.Formatter):
    def told(self, record: logging.LogRecord) -> tuple[str, dict[str, Any], str | None]:
        """The message, what it is about, and the exception."""
        about: dict[str, Any] = {}
        if (server := SERVER.get()) is not None:
            about["server"] = server()
        if (worker := WORKER.get()) is not None:
            about["worker"] = worker
        place = PLACE.get()
        if place is not None:
            about |= place.about()
        about |= {name: value for name, value in vars(record).items() if name not in _FIELDS}
        exception = self.formatException(record.exc_info) if record.exc_info else record.exc_text
        return _hidden.covered(record.getMessage()), about, exception and _hidden.covered(exception)


class _ConsoleLine(_Line):
    def __init__(self, *, is_coloured: bool) -> None:
        super().__init__()
        self._is_coloured = is_coloured

    def format(self, record: logging.LogRecord) -> str:
        message, about, exception = self.told(record)
        level = f"{record.levelname:<7}"
        if self._is_coloured and record.levelname in _COLOURS:
            level = f"\x1b[{_COLOURS[record.levelname]}m{level}\x1b[0m"
        line = f"{record.name}: {message}"
        if about:
            line += " " + _hidden.covered(" ".join(f"{name}={value}" for name, value in about.items()))
        if exception:
            line += f" | {exception}"
        return f"{_at(record)} {level} " + "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)


class _JsonLine(_Line):
    def format(self, record: logging.LogRecord) -> str:
        message, about, exception = self.told(record)
        line: dict[str, Any] = {"ts": _at(record), "level": record.levelname, "logger": record.name, "message": message}
        taken = line.keys() | {"exception"}
        for name, value in about.items():
            known = value if value is None or isinstance(value, bool | int | float) else _hidden.covered(str(value))
            line[f"{name}_" if name in taken else name] = known
        if exception:
            line["exception"] = exception
        return json.dumps(line)


def _at(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _passwords(dsn: str) -> set[str]:
    """What of a DSN nobody may see: as it is written there, and as it is meant."""
    found = re.findall(r"://[^:@/]*:(.*)@", dsn, re.DOTALL) + re.findall(r"[?&](?:ssl)?password=([^&]*)", dsn)
    try:
        given = conninfo_to_dict(dsn)
        found += [str(given[name]) for name in ("password", "sslpassword") if given.get(name)]
    except psycopg.Error:
        pass  # Redis' URL, or one that is refused in its own place
    escaped = [one.replace("\\", "\\\\").replace("'", "\\'") for one in found]  # as between quotes
    plain = {form for one in [*found, *escaped] for form in (one, unquote(one), quote(one, safe=""))}
    return plain | {repr(one)[1:-1] for one in plain}  # as in the text of a KeyError
