"""What users ask for, checked before it reaches the database: a run (`NewRun`), a definition (`NewJob`), a spec.

The database refuses the same things, but a statement it refuses costs the caller's transaction; what is refused here
costs nothing. Everything raises InvalidError that says which value, and what would be right.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from scheduler.cron import Schedule, parse
from scheduler.errors import InvalidError
from scheduler.tracing import well_formed

SPEC_BYTES = 1024 * 1024
_SMALLINT = 32_767
_INTEGER = 2**31 - 1
_LONGEST = timedelta(days=36_500)
_NOTHING = timedelta(0)
_SHOWN = 60
# Not after an odd number of backslashes: then the first of these two is a character of its own.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to be enqueued. `spec` is JSON text as `encode_spec` makes it.

    `run_at` None is now; `timeout` None is the task's own, else one hour. Of the app's runs with one `concurrency_key`
    no more than `concurrency_limit` (None: one) are held at a time. `traceparent`: what its attempts belong to.
    """

    app: str
    executor: str
    spec: str
    queue: str = "default"
    run_at: datetime | None = None
    priority: int = 0
    unique_key: str | None = None
    max_attempts: int = 3
    timeout: timedelta | None = None
    tags: Sequence[str] | None = None
    concurrency_key: str | None = None
    concurrency_limit: int | None = None
    traceparent: str | None = None

    def __post_init__(self) -> None:
        _check_text("app", self.app, 100)
        _check_text("executor", self.executor, 100)
        _check_text("queue", self.queue, 100)
        _check_text("unique_key", self.unique_key, 500)
        _check_instant("run_at", self.run_at)
        _check_integer("priority", self.priority, -_SMALLINT - 1, _SMALLINT)
        _check_integer("max_attempts", self.max_attempts, 1, _SMALLINT)
        _check_duration("timeout", self.timeout, positive=True)
        _check_tags(self.tags)
        _check_concurrency(self.concurrency_key, self.concurrency_limit)
        _check_traceparent(self.traceparent)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A definition to be added; the defaults are those of the table. ScheduleError for a schedule nobody can follow."""

    app: str
    name: str
    executor: str
    spec: str
    schedule: str | None = None
    timezone: str = "UTC"
    queue: str = "default"
    priority: int = 0
    max_attempts: int = 3
    timeout: timedelta = timedelta(hours=1)
    retry_delay: timedelta = timedelta(seconds=5)
    retry_max_delay: timedelta = timedelta(hours=1)
    overlap: str = "skip"
    misfire: str = "one"
    misfire_grace: timedelta = timedelta(days=1)
    misfire_limit: int = 100
    dst_gap: str = "after"
    dst_fold: str = "first"
    jitter: timedelta | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    paused: bool = False
    tags: Sequence[str] = ()
    concurrency_key: str | None = None
    concurrency_limit: int | None = None

    def __post_init__(self) -> None:
        _check_text("app", self.app, 100)
        _check_text("name", self.name, 200)
        _check_text("executor", self.executor, 100)
        _check_text("queue", self.queue, 100)
        _check_integer("priority", self.priority, -_SMALLINT - 1, _SMALLINT)
        _check_integer("max_attempts", self.max_attempts, 1, _SMALLINT)
        _check_integer("misfire_limit", self.misfire_limit, 1, 10_000)
        _check_duration("timeout", self.timeout, positive=True)
        for name in ("retry_delay", "retry_max_delay", "misfire_grace", "jitter"):
            _check_duration(name, getattr(self, name), positive=False)
        _check_choice("overlap", self.overlap, ("allow", "skip", "queue", "replace"))
        _check_choice("misfire", self.misfire, ("skip", "one", "all"))
        _check_instant("starts_at", self.starts_at)
        _check_instant("ends_at", self.ends_at)
        if self.starts_at and self.ends_at and self.ends_at < self.starts_at:
            raise InvalidError("ends_at is before starts_at")
        _check_tags(self.tags)
        _check_concurrency(self.concurrency_key, self.concurrency_limit)
        if self.schedule is not None:
            _check_text("schedule", self.schedule, 500)
        self.parsed()

    def parsed(self) -> Schedule | None:
        """The schedule, understood; None for a job on demand, whose time zone and rules are checked all the same."""
        parsed = parse(self.schedule or "@daily", self.timezone, dst_gap=self.dst_gap, dst_fold=self.dst_fold)
        return parsed if self.schedule is not None else None


def encode_spec(spec: Any, what: str = "spec") -> str:
    """JSON text that PostgreSQL will take as a spec: an object without NUL, infinity or NaN, of at most 1 MiB."""
    if not isinstance(spec, dict):
        raise InvalidError(f"{what} must be a JSON object, not {type(spec).__name__}")
    try:
        text = json.dumps(spec, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise InvalidError(f"{what} is nested too deeply") from None
    except (TypeError, ValueError) as error:  # the second also for infinity, NaN and an integer of 4,300 digits
        raise InvalidError(f"{what} is not JSON: {error}") from None
    if holds_nul(text):
        raise InvalidError(f"{what} holds a NUL character, which PostgreSQL does not store")
    try:
        size = max(len(text.encode()), _stored_bytes(spec))
    except UnicodeEncodeError:
        raise InvalidError(f"{what} holds half of a surrogate pair, which is no character") from None
    if size > SPEC_BYTES:
        raise InvalidError(
            f"{what} takes {size:,} bytes, at most {SPEC_BYTES:,} are stored",
            hint="store it elsewhere, and its address here",
        )
    return text


def holds_nul(text: str) -> bool:
    """Whether JSON text has a NUL in one of its strings, which PostgreSQL does not store."""
    return _NUL.search(text) is not None


def _stored_bytes(spec: dict[str, Any]) -> int:
    """How large it is as jsonb, rounded up a little: the table refuses by that size, and `[1,1,…]` grows sixfold."""
    size, open_values = 8, [spec]
    while open_values:  # not recursive: a spec may be as deep as the JSON encoder goes, which is deeper than we could
        value: Any = open_values.pop()
        if isinstance(value, dict):
            size += 7 + 8 * len(value) + sum(len(str(key).encode()) for key in value)
            open_values.extend(value.values())
        elif isinstance(value, list | tuple):
            size += 7 + 4 * len(value)
            open_values.extend(value)
        elif isinstance(value, str):
            size += len(value.encode())
        elif isinstance(value, int | float) and not isinstance(value, bool):
            size += (6 + 2 * (len(repr(value)) // 4 + 1) + 3) // 4 * 4 + 3
    return size


def _check_text(name: str, value: str | None, most: int) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise InvalidError(f"{name} must be text, not {type(value).__name__}")
    if not 1 <= len(value) <= most:
        raise InvalidError(f"{name} has {len(value)} characters", hint=f"1 to {most}")
    if "\0" in value:
        raise InvalidError(f"{name} {value[:_SHOWN]!r} holds a NUL character, which PostgreSQL does not store")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidError(f"{name} {value[:_SHOWN]!a} is not valid Unicode") from None


def _check_instant(name: str, value: datetime | None) -> None:
    if value is None:
        return
    if not isinstance(value, datetime):
        raise InvalidError(f"{name} must be a datetime, not {type(value).__name__}")
    if value.utcoffset() is None:
        raise InvalidError(
            f"{name} {value.isoformat()} has no time zone", hint="give an aware datetime, such as one in UTC"
        )


def _check_integer(name: str, value: int, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidError(f"{name} is {str(value)[:_SHOWN]}", hint=f"an integer from {least} to {most}")


def _check_duration(name: str, value: timedelta | None, *, positive: bool) -> None:
    if value is None:
        return
    if not isinstance(value, timedelta):
        raise InvalidError(f"{name} must be a timedelta, not {type(value).__name__}")
    if value < _NOTHING or (positive and value == _NOTHING) or value > _LONGEST:
        raise InvalidError(f"{name} is {value}", hint=f"{'more than 0' if positive else '0'} to {_LONGEST.days} days")


def _check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise InvalidError(f"{name} {str(value)[:_SHOWN]!r} is unknown", hint=f"one of {', '.join(known)}")


def _check_concurrency(key: str | None, limit: int | None) -> None:
    _check_text("concurrency_key", key, 200)
    if limit is None:
        return
    _check_integer("concurrency_limit", limit, 1, _INTEGER)
    if key is None:
        raise InvalidError("a concurrency_limit needs a concurrency_key", hint="a whole queue has `scheduler limit`")


def _check_traceparent(given: str | None) -> None:
    if given is not None and (not isinstance(given, str) or well_formed(given) != given):
        raise InvalidError(
            f"traceparent is {str(given)[:_SHOWN]!r}",
            hint="as W3C writes it: 00-TRACE-PARENT-FLAGS, in small hex digits",
        )


def _check_tags(tags: Sequence[str] | None) -> None:
    if tags is None:
        return
    if isinstance(tags, str) or not isinstance(tags, Sequence):
        raise InvalidError("tags must be a list of texts")
    for tag in tags:
        _check_text("a tag", tag, 200)


def seconds(value: float | timedelta | None, name: str) -> timedelta | None:
    """A duration given as a number of seconds or a timedelta."""
    if value is None or isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidError(f"{name} is {str(value)[:_SHOWN]}", hint="a number of seconds or a timedelta")
    try:
        return timedelta(seconds=value)
    except OverflowError:
        raise InvalidError(f"{name} is {value:g} seconds", hint=f"at most {_LONGEST.days} days") from None
