"""Where the database is, and the settings of the services. Read from the environment once, checked at the door.

Every duration is a plain number of seconds (`SCHEDULER_HEARTBEAT=1.0`); a unit suffix is refused, not guessed at.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Self

from scheduler.errors import ConfigError

DAY = 86_400.0


def _seconds(env: str, default: float, *, least: float, most: float, what: str = "a number of seconds") -> float:
    value: float = field(default=default, metadata={"env": env, "least": least, "most": most, "what": what})
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The times that the services keep, in seconds, and a rate; each names the variable that sets it."""

    heartbeat: float = _seconds("SCHEDULER_HEARTBEAT", 1.0, least=0.05, most=60)
    """A process says this often that it is alive."""
    dead_after: float = _seconds("SCHEDULER_DEAD_AFTER", 5.0, least=0.2, most=600)
    """A process silent for this long is declared dead and loses what it held."""
    poll: float = _seconds("SCHEDULER_POLL", 1.0, least=0.01, most=60)
    """The floor under lost notifications: everyone looks at least this often."""
    plan_ahead: float = _seconds("SCHEDULER_PLAN_AHEAD", 10.0, least=0, most=3_600)
    """Runs are written this long before their instant, so that planning never shows as lateness."""
    pulse_below: float = _seconds("SCHEDULER_PULSE_BELOW", 5.0, least=0, most=60)
    """Jobs with a shorter period are not planned row by row: a worker fires them from a timer of its own."""
    horizon: float = _seconds("SCHEDULER_HORIZON", 0.5, least=0, most=60)
    """A worker with free slots claims what becomes due within this time, and starts it from a local timer."""
    grace: float = _seconds("SCHEDULER_GRACE", 30.0, least=0, most=DAY)
    """A draining process lets what it runs go on for this long before it gives it back."""
    history_retention: float = _seconds("SCHEDULER_HISTORY_RETENTION", 30 * DAY, least=DAY, most=36_500 * DAY)
    """History, logs and the ledger older than this are dropped, a day's partition at a time."""
    statement_timeout: float = _seconds("SCHEDULER_STATEMENT_TIMEOUT", 10.0, least=0.1, most=3_600)
    """No statement of ours takes longer; one that does is cancelled and tried again."""
    alarm_every: float = _seconds("SCHEDULER_ALARM_EVERY", 5.0, least=0.1, most=600)
    """A server looks this often whether alarms fire."""
    http_rate: float = _seconds("SCHEDULER_HTTP_RATE", 0.0, least=0, most=1e6, what="requests a second")
    """Requests of one token that the HTTP API lets through in a second; 0: any number."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Self:
        """The defaults with what the environment overrides. ConfigError names the variable and what would be right."""
        given: dict[str, float] = {}
        for one in fields(cls):
            text = env.get(one.metadata["env"], "").strip()
            if text:
                given[one.name] = _number(text, **one.metadata)
        settings = cls(**given)
        if settings.dead_after < 3 * settings.heartbeat:
            # One lost heartbeat and one late one must not look like a death.
            raise ConfigError(
                f"SCHEDULER_DEAD_AFTER is {settings.dead_after:g} s, SCHEDULER_HEARTBEAT {settings.heartbeat:g} s: "
                "a process is declared dead after three missed heartbeats at the earliest",
                hint=f"set SCHEDULER_DEAD_AFTER to {3 * settings.heartbeat:g} or more",
            )
        return settings


def _number(text: str, *, env: str, least: float, most: float, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not least <= number <= most:  # NaN is not between anything
        raise ConfigError(f"{env}={text!r}: expected {what} from {least:g} to {most:g}, without a unit")
    return number


def resolve_dsn(option: str | None = None, env: Mapping[str, str] = os.environ) -> str | None:
    """The database in use: `--dsn`, else SCHEDULER_DSN, else DATABASE_URL, else None for the embedded PostgreSQL.

    An empty value counts as absent, so that `SCHEDULER_DSN= scheduler run` reaches the embedded one.
    """
    for dsn in (option, env.get("SCHEDULER_DSN"), env.get("DATABASE_URL")):
        if dsn and dsn.strip():
            return dsn.strip()
    return None


def resolve_listen_dsn(option: str | None = None, env: Mapping[str, str] = os.environ) -> str | None:
    """The DSN of the listener alone: `--listen-dsn`, else SCHEDULER_LISTEN_DSN, else None for that of all the rest."""
    for dsn in (option, env.get("SCHEDULER_LISTEN_DSN")):
        if dsn and dsn.strip():
            return dsn.strip()
    return None


# To the last '@': a password that holds an unescaped '@' or '/' is a mistake, but must not be printed for it.
_URL_PASSWORD = re.compile(r"(://[^:@/?]*):.*@", re.DOTALL)
_QUERY_PASSWORD = re.compile(r"([?&](?:ssl)?password=)[^&]*", re.IGNORECASE)
# A quoted value that never closes is hidden to its end.
_WORD_PASSWORD = re.compile(r"((?:ssl)?password\s*=\s*)(?:'(?:\\.|[^'\\])*(?:'|\\?$)|(?:\\.|\S)+)", re.IGNORECASE)


def redact(dsn: str) -> str:
    """The DSN for people's eyes: passwords are replaced by ***, in the URL and the keyword form, well-formed or not."""
    if re.match(r"\s*\w+://", dsn):
        return _QUERY_PASSWORD.sub(r"\1***", _URL_PASSWORD.sub(r"\1:***@", dsn))
    return _WORD_PASSWORD.sub(r"\1***", dsn)
