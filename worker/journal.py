"""What runs write, gathered and sent in batches. Logging never blocks a run and never holds more than a bound."""

from __future__ import annotations

from collections import defaultdict, deque

from scheduler.clock import DatabaseClock
from scheduler.link import Connection
from worker import store
from worker.outcome import clean
from worker.store import Line

HELD = 10_000  # lines that wait for the database; beyond it new ones are counted and dropped
BATCH = 1_000
LINE_LIMIT = 8_192  # characters of one line


class Journal:
    def __init__(self, clock: DatabaseClock) -> None:
        self._clock = clock
        self._lines: deque[Line] = deque()
        self._numbers: defaultdict[int, int] = defaultdict(int)
        self._dropped: defaultdict[int, int] = defaultdict(int)

    def write(self, app: str, run_id: int, attempt: int, stream: str, text: str) -> None:
        """Add lines of a run; `text` may hold several."""
        for line in clean(text).splitlines() or [""]:  # a NUL in a command's output would hold up all lines behind it
            if len(self._lines) >= HELD:
                self._dropped[run_id] += 1
                continue
            if dropped := self._dropped.pop(run_id, 0):
                self._add(app, run_id, attempt, "scheduler", f"… {dropped} lines were not kept …")
            cut = line if len(line) <= LINE_LIMIT else f"{line[:LINE_LIMIT]}… {len(line) - LINE_LIMIT} more characters"
            self._add(app, run_id, attempt, stream, cut)

    def close(self, run_id: int) -> None:
        """The attempt ended: forget what was counted for it."""
        if self._numbers or self._dropped:
            self._numbers.pop(run_id, None)
            self._dropped.pop(run_id, None)

    def __bool__(self) -> bool:
        return bool(self._lines)

    async def flush(self, conn: Connection) -> None:
        """Send what has gathered. A batch that failed stays and is sent again; lines that arrived twice are one."""
        left = len(self._lines)  # not what is added meanwhile: a run that logs without end must not hold up reports
        while left > 0:
            batch = [self._lines[i] for i in range(min(BATCH, left))]
            left -= len(batch)
            by_app: defaultdict[str, list[Line]] = defaultdict(list)
            for line in batch:
                by_app[line.app].append(line)
            for app, lines in by_app.items():
                await store.append_log(conn, app, lines)
            for _ in batch:
                self._lines.popleft()

    def _add(self, app: str, run_id: int, attempt: int, stream: str, text: str) -> None:
        self._numbers[run_id] += 1
        self._lines.append(Line(app, run_id, attempt, self._numbers[run_id], self._clock.now(), stream, text))
