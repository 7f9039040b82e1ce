"""What runs write, on its way to the log: cut into lines, capped, gathered, and sent in batches.

    write ─▶ lines of the stream ─▶ numbered, and counted against the cap of the run ─▶ gathered ─▶ flush

Writing never blocks a run and never holds more than a bound. Of a run that writes without end the first lines are kept
and its last ones, since it is these that say why it ended; a line in between says how much was left out.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from itertools import groupby

import psycopg

from scheduler.clock import DatabaseClock
from scheduler.link import Connection
from worker import store
from worker.lines import IN_PIECES, Lines, whole
from worker.outcome import clean
from worker.store import Line

RUN_LINES = 20_000  # of one attempt …
RUN_BYTES = 4 * 1024 * 1024  # … and their UTF-8
LAST = 100  # lines of each stream that are kept from the end of a run that wrote more …
TAIL = 16 * 1024  # … and their characters
HELD = 100_000  # lines that wait for the database; beyond it new ones are counted and dropped …
HELD_BYTES = 32 * 1024 * 1024  # … and their UTF-8
BATCH = 1_000  # lines of a statement …
BATCH_BYTES = 1024 * 1024  # … and their UTF-8
REMEMBERED = 1_000  # attempts that wrote and have ended
OURS = "scheduler"  # the stream of what is said about a log

Key = tuple[str, int, int]  # app, run, attempt


class Journal:
    def __init__(self, clock: DatabaseClock, awake: Callable[[], None] = lambda: None) -> None:
        """`awake()`: a line waits, and none did before. Called on whatever thread wrote it."""
        self.awake = awake
        self._clock = clock
        self._turn = threading.Lock()  # tasks write from threads of their own
        self._lines: deque[Line] = deque()
        self._size = 0  # bytes of them
        self._attempts: dict[Key, _Attempt] = {}
        self._ended: dict[Key, None] = {}

    def write(self, app: str, run_id: int, attempt: int, stream: str, text: str) -> None:
        """Add what a run wrote; `text` may hold several lines, and of a command's output the parts of some."""
        text = clean(text)  # a NUL in a command's output would hold up all lines behind it
        key = (app, run_id, attempt)
        with self._turn:
            was_empty = not self._lines
            written = self._attempts.get(key)
            if written is None:
                if key in self._ended:
                    return  # of a task that was given up: its numbers are taken
                written = self._attempts[key] = _Attempt()
            if written.is_full:
                written.rest(stream, text)
            else:
                for line in written.lines(stream, text):
                    self._put(key, written, stream, line)
            is_news = was_empty and bool(self._lines)
        if is_news:
            self.awake()

    def close(self, app: str, run_id: int, attempt: int) -> None:
        """The attempt ended: lines without an end are lines, and what was counted for it is forgotten."""
        if not self._attempts:  # as when nothing logs: 80,000 runs a second end here
            return
        key = (app, run_id, attempt)
        with self._turn:
            if (written := self._attempts.pop(key, None)) is not None:
                self._end(key, written)
                self._ended[key] = None
                if len(self._ended) > REMEMBERED:
                    del self._ended[next(iter(self._ended))]

    def __bool__(self) -> bool:
        return bool(self._lines)

    async def flush(self, conn: Connection) -> None:
        """Send what has gathered. A batch that failed stays and is sent again; lines that arrived twice are one."""
        left = len(self._lines)  # not what is added meanwhile: a run that logs without end must not hold up reports
        while left > 0:
            batch = self._batch(min(BATCH, left))
            left -= len(batch)
            for app, lines in groupby(sorted(batch, key=_app), key=_app):
                await _send(conn, app, list(lines))
            with self._turn:
                for line in batch:
                    self._lines.popleft()
                    self._size -= _size(line.text)

    def _batch(self, most: int) -> list[Line]:
        size = 0
        batch: list[Line] = []
        while len(batch) < most and size < BATCH_BYTES:
            line = self._lines[len(batch)]
            batch.append(line)
            size += _size(line.text)
        return batch

    def _put(self, key: Key, written: _Attempt, stream: str, line: str) -> None:
        if written.is_full:
            written.rest(stream, f"{line}\n")
        elif written.number >= RUN_LINES or written.size + _size(line) > RUN_BYTES:
            written.fill()
            written.rest(stream, f"{line}\n")
            limit = f"{RUN_LINES:,} lines or {RUN_BYTES // 2**20} MiB"
            self._add(key, written, OURS, f"… the log is full at {limit}: of what follows the last lines are kept …")
        elif len(self._lines) >= HELD or self._size >= HELD_BYTES:
            written.dropped += 1
        else:
            if written.dropped:
                self._say_dropped(key, written)
            self._add(key, written, stream, line)

    def _end(self, key: Key, written: _Attempt) -> None:
        for stream, lines in written.open.items():
            for line in lines.end():
                self._put(key, written, stream, line)
        if written.dropped:
            self._say_dropped(key, written)
        if not written.is_full:
            return
        tails = {stream: rest.last() for stream, rest in written.rests.items()}
        left_out = sum(rest.lines for rest in written.rests.values()) - sum(map(len, tails.values()))
        self._add(key, written, OURS, f"… {max(0, left_out):,} lines were left out …")
        for stream, last in tails.items():
            for line in last:
                self._add(key, written, stream, line)

    def _say_dropped(self, key: Key, written: _Attempt) -> None:
        text = f"… {written.dropped:,} lines were not kept: they came faster than the database took them …"
        self._add(key, written, OURS, text)
        written.dropped = 0

    def _add(self, key: Key, written: _Attempt, stream: str, text: str) -> None:
        size = _size(text)
        written.number += 1
        written.size += size
        self._size += size
        self._lines.append(Line(*key, written.number, self._clock.now(), stream, text))


class SpanJournal(Journal):
    """Numbers lines on through all fires that share a run id: a line's number tells it from the others of its run."""

    def close(self, app: str, run_id: int, attempt: int) -> None:
        if (written := self._attempts.get((app, run_id, attempt))) is not None:
            with self._turn:
                for stream, lines in written.open.items():
                    for line in lines.end():
                        self._put((app, run_id, attempt), written, stream, line)

    def end(self, app: str, run_id: int) -> None:
        """No fire shares this run id any more."""
        super().close(app, run_id, 1)


class _Attempt:
    """How far an attempt has come with writing."""

    __slots__ = ("dropped", "is_full", "number", "open", "rests", "size")

    def __init__(self) -> None:
        self.number = 0
        self.size = 0
        self.dropped = 0
        self.is_full = False
        self.open: dict[str, Lines] = {}
        self.rests: dict[str, _Rest] = {}

    def lines(self, stream: str, text: str) -> list[str]:
        if stream not in IN_PIECES:
            return whole(text)
        if (lines := self.open.get(stream)) is None:
            lines = self.open[stream] = Lines()
        return lines.cut(text)

    def fill(self) -> None:
        """No more lines: what comes is counted, and its end is kept."""
        self.is_full = True
        for stream, lines in self.open.items():
            self.rest(stream, "".join(lines.end()))
        self.open.clear()

    def rest(self, stream: str, text: str) -> None:
        if (rest := self.rests.get(stream)) is None:
            rest = self.rests[stream] = _Rest()
        rest.add(text if stream in IN_PIECES or text.endswith("\n") else f"{text}\n")


class _Rest:
    """What a stream goes on to write in a full log: looking for lines in it would keep the event loop busy, as `yes`
    writes gigabytes a second.
    """

    __slots__ = ("lines", "tail")

    def __init__(self) -> None:
        self.lines = 0
        self.tail = ""

    def add(self, text: str) -> None:
        self.lines += text.count("\n")
        self.tail = (self.tail + text[-TAIL:])[-TAIL:]

    def last(self) -> list[str]:
        lines = Lines()
        found = lines.cut(self.tail)
        if open_still := lines.end():
            self.lines += 1
            found += open_still
        return found[1:][-LAST:] if len(self.tail) == TAIL else found[-LAST:]  # where it was cut is half a line


def _app(line: Line) -> str:
    return line.app


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


async def _send(conn: Connection, app: str, lines: list[Line]) -> None:
    try:
        await store.append_log(conn, app, lines)
    except (psycopg.DataError, UnicodeEncodeError):  # a database that is not UTF-8 has no such character
        for line in lines:
            line.text = line.text.encode("ascii", "backslashreplace").decode()
        await store.append_log(conn, app, lines)
