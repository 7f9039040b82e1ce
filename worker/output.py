"""What a command writes, as its run keeps it: all of it to the log, its head and its tail in the result."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from typing import Any

from worker.outcome import RESULT_LIMIT

TAIL = 200  # characters of stderr in an error text


class Capture:
    """One stream of a command: logs it as it comes, and keeps its head and its tail, up to `limit` bytes each."""

    def __init__(self, limit: int, log: Callable[[str], None]) -> None:
        self.limit = limit
        self._log = log
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._head = bytearray()
        self._tail = bytearray()
        self._size = 0

    def feed(self, data: bytes) -> None:
        room = self.limit - len(self._head)
        if room > 0:
            self._head += data[:room]
        self._say(self._decoder.decode(data))
        self._size += len(data)
        self._tail += data[-self.limit :]
        if len(self._tail) > 2 * self.limit:
            del self._tail[: -self.limit]

    def end(self) -> None:
        """Nothing more comes: what was half a character is logged as well."""
        self._say(self._decoder.decode(b"", final=True))

    def cut(self, limit: int) -> bool:
        return self._size > limit

    def text(self, limit: int) -> str:
        """At most `limit` bytes of the output: all of it, or its two ends with a line that says how much is missing."""
        if not self.cut(limit):
            return self._head.decode(errors="replace")
        half = limit // 2
        head = codecs.getincrementaldecoder("utf-8")("replace").decode(bytes(self._head[:half]))
        tail = bytes(self._tail[len(self._tail) - half :]).lstrip(bytes(range(0x80, 0xC0)))
        return f"{head}\n… {self._size - 2 * half:,} bytes cut …\n{tail.decode(errors='replace')}"

    def _say(self, text: str) -> None:
        if text:
            self._log(text)


def result(stdout: Capture, stderr: Capture, exit_code: int) -> dict[str, Any]:
    """`{stdout, stderr, exit_code}`, with `truncated` when some was cut.

    Escapes can make JSON six times as long as the output; what does not fit a history row is cut further.
    """
    limit = max(stdout.limit, stderr.limit)
    while True:
        made: dict[str, Any] = {
            "stdout": stdout.text(limit),
            "stderr": stderr.text(limit),
            "exit_code": exit_code,
        }
        if stdout.cut(limit) or stderr.cut(limit):
            made["truncated"] = True
        size = len(json.dumps(made, ensure_ascii=False).encode())
        if size <= RESULT_LIMIT:
            return made
        limit = int(limit * 0.9 * RESULT_LIMIT / size)


def failure(what: str, stderr: str) -> str:
    """What happened, and the last thing that the command said about it."""
    lines = stderr.strip().splitlines()
    return what + (f": {lines[-1].strip()[:TAIL]}" if lines else "")
