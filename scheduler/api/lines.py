"""NDJSON, a run in each line, made into COPY data piece by piece. Only the piece at hand is kept."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from scheduler.api.posted import PostedRun, run_in, runs_in_lines
from scheduler.api.problem import Problem, problem_of
from scheduler.model import SPEC_BYTES

LONGEST = SPEC_BYTES + 64 * 1024
"""Bytes of a line."""

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_PLAIN = "0\t3\t\\N\t\\N\t\\N\t\\N\t\\N"  # all that follows the spec, when nothing of it was given


class Lines:
    """`read`: lines that were read, each of which was a run."""

    def __init__(self, app: str, now: datetime, traceparent: str | None = None) -> None:
        """`now`, of the database, is when runs are due that do not say. All belong to `traceparent`."""
        self.read = 0
        self._app = app.translate(_ESCAPES)
        self._now = now
        self._due = now.isoformat()
        self._end = "\n" if traceparent is None else f"\t{traceparent}\n"
        self._rest: list[bytes] = []
        self._rest_size = 0

    def take(self, chunk: bytes) -> bytes:
        """The COPY data of the lines that end in it. Problem 400 with the number of a line that is no run."""
        end = chunk.rfind(b"\n") + 1
        if not end:
            self._keep(chunk)
            return b""
        lines = b"".join((*self._rest, chunk[:end]))
        self._rest, self._rest_size = [], 0
        self._keep(chunk[end:])
        return self._copied(lines)

    def end(self) -> bytes:
        """The COPY data of the last line, if no newline ended it."""
        last, self._rest = b"".join(self._rest), []
        return self._copied(last + b"\n") if last.strip() else b""

    def _keep(self, part: bytes) -> None:
        self._rest.append(part)
        self._rest_size += len(part)
        if self._rest_size > LONGEST:
            raise Problem(400, f"line {self.read + 1}: it is longer than the {LONGEST:,} bytes that are taken")

    def _copied(self, lines: bytes) -> bytes:
        count = lines.count(b"\n")
        try:
            runs = runs_in_lines(lines)
        except (msgspec.MsgspecError, Problem, RecursionError, UnicodeDecodeError):
            runs = []
        if len(runs) != count:
            self._blame(lines)
        self.read += count
        # A text may hold what COPY takes for its own only where something is escaped in the JSON.
        is_plain = b"\\" not in lines and b"\t" not in lines and b"\r" not in lines
        return "".join([self._row(run, is_plain=is_plain) for run in runs]).encode()

    def _blame(self, lines: bytes) -> None:
        for number, line in enumerate(lines[:-1].split(b"\n"), self.read + 1):
            try:
                run_in(line)
            except (msgspec.MsgspecError, Problem, RecursionError, UnicodeDecodeError) as error:
                said = problem_of(error).body
                raise Problem(400, f"line {number}: {said.detail}", hint=said.hint) from None
        raise AssertionError("no line is to blame")

    def _row(self, run: PostedRun, *, is_plain: bool) -> str:
        queue, executor, spec = run.queue, run.executor, str(run.spec, "utf-8")
        due = self._due if run.run_at is None and run.delay is None else self._due_at(run)
        if not is_plain:
            queue, executor, spec = queue.translate(_ESCAPES), executor.translate(_ESCAPES), spec.translate(_ESCAPES)
        if (
            run.priority == 0
            and run.max_attempts == 3  # noqa: PLR2004  the default
            and run.unique_key is None
            and run.tags is None
            and run.timeout is None
            and run.concurrency_key is None
        ):
            return f"{self._app}\t{queue}\t{executor}\t{due}\t{spec}\t{_PLAIN}{self._end}"
        return f"{self._app}\t{queue}\t{executor}\t{due}\t{spec}\t{_others(run)}{self._end}"

    def _due_at(self, run: PostedRun) -> str:
        if run.run_at is not None:
            return run.run_at.isoformat()
        return (self._now + timedelta(seconds=run.delay or 0)).isoformat()


def _others(run: PostedRun) -> str:
    timeout = None if run.timeout is None else f"{run.timeout:.6f} s"
    columns = (
        run.priority, run.max_attempts, timeout, run.unique_key, _array(run.tags), run.concurrency_key,
        run.concurrency_limit,
    )  # fmt: skip
    return "\t".join("\\N" if column is None else str(column).translate(_ESCAPES) for column in columns)


def _array(texts: list[str] | None) -> str | None:
    if texts is None:
        return None
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"
