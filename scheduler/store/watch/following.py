"""A run's log as it grows: the one way in which command line and HTTP API read it.

A reader looks every EVERY seconds. With what a worker gathers (0.1 s at most) a line is read within 0.3 s of its
writing. Nothing is asked for that is lost with a connection, or not there behind a pooler. One statement reads new
lines and whether the run has ended: who sees the end has all lines before it.
"""

from __future__ import annotations

from typing import LiteralString

from scheduler.store.watch import executions
from scheduler.store.watch.reading import Connection, Row, read

EVERY = 0.1  # seconds between two looks
PAGE = 1_000  # lines
THERE = 20  # looks without a line between two that ask whether the run is there at all
_LOOK: LiteralString = """
    select e.has_ended, l.*
    from (
        select exists (
            select from scheduler.history h where h.app = %(app)s and h.id = %(run)s and h.retry_at is null
        ) as has_ended
    ) e
    left join lateral (
        select l.attempt, l.line, l.at, l.stream, l.text
        from scheduler.log l
        where l.app = %(app)s and l.run_id = %(run)s
            and (l.attempt, l.line) > (%(attempt)s::smallint, %(line)s::integer)
        order by l.attempt, l.line
        limit %(limit)s
    ) l on true
    order by l.attempt, l.line
"""


class Following:
    """How far a reader has come in the log of a run, over as many connections as it takes."""

    def __init__(self, app: str, run: int, *, follow: bool, after: tuple[int, int] = (0, 0)) -> None:
        """`follow`: until the run has ended; otherwise to the end of what is there. `after`: (attempt, line)."""
        self.app = app
        self.run = run
        self.after = after
        self.is_over = False
        """Nothing more is to come."""
        self.is_gone = False
        """The run is not there any more: it was withdrawn, or deleted by hand."""
        self.has_more = False
        """There are lines already that the last look did not bring."""
        self._follow = follow
        self._silent = 0

    async def look(self, conn: Connection) -> list[Row]:
        """The next lines, at most PAGE. Nothing has changed when it fails: look again, on whatever connection."""
        after = {"attempt": self.after[0], "line": self.after[1]}
        rows = await read(conn, _LOOK, {"app": self.app, "run": self.run, "limit": PAGE, **after})
        has_ended = False
        for row in rows:  # one at least, without a line if there is none
            has_ended = row.pop("has_ended")
        lines = [row for row in rows if row["line"] is not None]
        if not lines and not has_ended and self._follow:
            self._silent += 1
            self.is_gone = self._silent % THERE == 0 and not await executions.run(conn, self.run, app=self.app)
        if lines:
            self._silent = 0
            self.after = (lines[-1]["attempt"], lines[-1]["line"])
        self.has_more = len(lines) == PAGE
        self.is_over = not self.has_more and (has_ended or self.is_gone or not self._follow)
        return lines
