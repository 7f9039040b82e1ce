"""From the bytes of a file to numbered lines."""

from __future__ import annotations

from scheduler.errors import SchedulerError

MOST_BYTES = 1024 * 1024
MOST_LINES = 10_000  # Debian's cron ignores a longer crontab


def read_text(data: bytes, name: str) -> str:
    """The text of a crontab. SchedulerError, with the line, for what is no text or too long to be a crontab."""
    if len(data) > MOST_BYTES:
        raise SchedulerError(f"{name} is too long for a crontab", hint=f"at most {MOST_BYTES:,} bytes are read")
    if data.count(b"\n") > MOST_LINES:
        raise SchedulerError(f"{name} has more than {MOST_LINES:,} lines", hint="cron ignores such a file too")
    if b"\0" in data:
        raise SchedulerError(f"{name}, line {_line(data, data.index(0))}: a NUL character; this is not a text file")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise SchedulerError(
            f"{name}, line {_line(data, error.start)}: byte {data[error.start]:#x} is not UTF-8",
            hint="convert the file, such as with iconv -f latin1 -t utf-8",
        ) from None


def _line(data: bytes, position: int) -> int:
    return data.count(b"\n", 0, position) + 1
