"""What services log: a line per record on stderr; SCHEDULER_LOG sets the level, SCHEDULER_LOG_FORMAT=json the form."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime

from scheduler.errors import ConfigError

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def start(env: Mapping[str, str] = os.environ) -> None:
    """Log from here on. ConfigError for a level or a form that does not exist."""
    level = env.get("SCHEDULER_LOG", "").strip().upper() or "INFO"
    if level not in _LEVELS:
        raise ConfigError(f"SCHEDULER_LOG={level!r}: expected one of {', '.join(_LEVELS)}")
    form = env.get("SCHEDULER_LOG_FORMAT", "").strip().lower() or "text"
    if form not in {"text", "json"}:
        raise ConfigError(f"SCHEDULER_LOG_FORMAT={form!r}: expected text or json")
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLine() if form == "json" else _TextLine())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # They say on INFO and WARNING what our loops say in a person's words.
    for name in ("asyncio", "psycopg", "psycopg.pool"):
        logging.getLogger(name).setLevel(max(logging.ERROR, logging.getLevelName(level)))


class _TextLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = f"{_at(record)} {record.levelname:<7} {record.name}: {record.getMessage()}"
        if record.exc_info:
            text += f" | {self.formatException(record.exc_info)}"
        return text.replace("\r", "\\r").replace("\n", "\\n")


class _JsonLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"at": _at(record), "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _at(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
