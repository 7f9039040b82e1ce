"""How an attempt can end: a closed union, and the two borders where user code could break it.

`classify` turns whatever a task raised into one of the four outcomes; `storable` turns what it returned into JSON.
Both give text that PostgreSQL takes: no NUL (refused in text and in jsonb), no lone surrogate (not UTF-8).
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import traceback
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any
from uuid import UUID

from msgspec import Struct

try:
    import orjson
except ImportError:  # the `speed` extra
    orjson = None  # type: ignore[assignment]

RESULT_LIMIT = 1024 * 1024  # bytes of JSON
TEXT_LIMIT = 16 * 1024  # bytes of UTF-8: a traceback that says what happened, not a core dump in every history row
RETRY_LIMIT = timedelta(days=3650)  # further out is a mistake in units, and 10**12 s is no timestamptz any more
_OURS = str(Path(__file__).parent)


class Succeeded(Struct, frozen=True):
    result: Any = None


class Failed(Struct, frozen=True):
    """`retry_after` (seconds) replaces the backoff; `final` means that another attempt cannot end otherwise."""

    error: str
    result: Any = None
    retry_after: float | None = None
    final: bool = False


class Cancelled(Struct, frozen=True):
    reason: str


class Crashed(Struct, frozen=True):
    """The process that ran it died, as a worker would: a lost attempt, not an answer of the task."""

    error: str


Outcome = Succeeded | Failed | Cancelled | Crashed


class Retry(Exception):  # noqa: N818  a user writes `raise Retry(after=30)`: it is a request, not an error
    """Ask for another attempt, `after` seconds or a timedelta from now; without it, after the job's own backoff."""

    def __init__(self, after: float | timedelta | None = None, reason: str = "") -> None:
        super().__init__(reason)
        self.after = after
        self.seconds = _seconds(after)


class Cancel(Exception):  # noqa: N818  as Retry
    """End the run as cancelled: not done, and not to be tried again."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Ended(Exception):  # noqa: N818  it carries an outcome that was decided elsewhere, such as in a child process
    def __init__(self, outcome: Failed | Cancelled | Crashed) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class ExecutionFailed(Ended):
    """An executor's plain failure: one line, what is known of the result, and no traceback of our own code."""

    def __init__(self, message: str, result: Any = None, *, final: bool = False) -> None:
        self.message = clean(message)
        super().__init__(Failed(self.message, result, final=final))
        self.result = result

    def __str__(self) -> str:
        return self.message


def classify(exception: BaseException) -> Failed | Cancelled | Crashed:
    """The outcome that an exception stands for. Never raises, whatever the exception does when it is looked at."""
    if isinstance(exception, Ended):
        return exception.outcome
    if isinstance(exception, Retry):
        return Failed(_line(exception, "the task asked for a retry"), retry_after=exception.seconds)
    if isinstance(exception, Cancel):
        return Cancelled(_line(exception, "the task cancelled itself"))
    if isinstance(exception, MemoryError):
        return Failed("MemoryError: out of memory")  # formatting a traceback would ask for more of it
    if isinstance(exception, asyncio.CancelledError):
        return Failed("CancelledError: something inside the task cancelled it; nobody cancelled the run")
    return Failed(_described(exception))


def storable(result: Any) -> bytes | None:
    """The JSON of a result, in bytes that a jsonb column takes; None stays None.

    Raises ExecutionFailed when it is not JSON (NaN, a cycle, an unknown type) or larger than 1 MiB.
    """
    if result is None:
        return None
    try:
        data = encoded(result)
    except (TypeError, ValueError, RecursionError, AttributeError) as error:
        raise ExecutionFailed(f"result is not JSON: {_line(error, type(error).__name__)}") from None
    if b"\\u0000" in data:
        data = re.sub(rb"(?<!\\)((?:\\\\)*)\\u0000", rb"\1\\ufffd", data)
    if len(data) > RESULT_LIMIT:
        raise ExecutionFailed(
            f"result is too large: {len(data):,} bytes of JSON, the limit is {RESULT_LIMIT:,}; "
            "store it elsewhere and return where it is"
        )
    return data


def encoded(result: Any) -> bytes:
    """Its JSON, compact, in UTF-8. TypeError, ValueError or RecursionError for what has none."""
    if orjson is not None:
        try:
            data: bytes = orjson.dumps(result, default=_plain)
        except TypeError:
            pass  # integers over 64 bits, keys that are no strings, surrogates: the standard library decides
        else:
            if b"null" not in data:
                return data  # orjson writes NaN as null without a word: only where there is a null is a second look due
    text = json.dumps(result, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_plain)
    return clean(text).encode()


def clean(text: str) -> str:
    """The text without what PostgreSQL cannot store: NUL and lone surrogates become U+FFFD."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def shorten(text: str, limit: int = TEXT_LIMIT) -> str:
    """At most `limit` bytes of UTF-8: head and tail stay, since errors begin with a name and end with a cause."""
    data = text.encode()
    if len(data) <= limit:
        return text
    half = (limit - 64) // 2
    cut = len(data) - 2 * half
    head, tail = data[:half].decode(errors="ignore"), data[-half:].decode(errors="ignore")
    return f"{head}\n… {cut:,} bytes cut …\n{tail}"


def _plain(value: Any) -> Any:
    """What JSON has no word for, as orjson would write it, so that a result does not depend on an extra."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, UUID | PurePath | Decimal):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _described(exception: BaseException) -> str:
    """`ValueError: boom`, then the traceback from the first frame that is not ours."""
    first = _line(exception, "")
    name = type(exception).__name__
    head = f"{name}: {first}" if first else name
    try:
        lines = traceback.format_exception(type(exception), exception, _theirs(exception.__traceback__))
    except BaseException:  # noqa: BLE001  an exception that cannot even be formatted still has a name
        return shorten(head)
    return shorten(f"{head}\n\n{clean(''.join(lines)).rstrip()}")


def _line(exception: BaseException, default: str) -> str:
    try:
        text = clean(str(exception)[: 2 * TEXT_LIMIT])
    except BaseException as error:  # noqa: BLE001  user code: `__str__` may raise anything
        text = f"(its text cannot be made: str() raised {type(error).__name__})"
    return shorten(text, TEXT_LIMIT // 4) or default


def _theirs(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_next and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    return trace


def _seconds(after: float | timedelta | None) -> float | None:
    if after is None:
        return None
    seconds = after.total_seconds() if isinstance(after, timedelta) else float(after)
    if not 0 <= seconds <= RETRY_LIMIT.total_seconds():
        raise ValueError(f"Retry(after={after!r}): seconds from 0 to ten years, or a timedelta")
    return seconds
