"""From pieces of text to lines, as a terminal would show them."""

from __future__ import annotations

import time

IN_PIECES = frozenset({"stdout", "stderr"})  # streams whose texts may end in the middle of a line, or of a word
LONGEST = 8_192  # characters of one line
STATE_EVERY = 1.0  # seconds between two states of a line that is written over and over


class Lines:
    """One stream of a run. A line is kept back until its end has come, or the stream's.

    What stands before a carriage return is overwritten by what follows it: of a progress bar its last state is a line,
    and while it goes on one state a second, so that who follows it sees it move.
    """

    def __init__(self) -> None:
        self._open = ""  # of the line that has not ended, LONGEST characters at most …
        self._over = 0  # … and how many more there were
        self._is_over_again = False  # a `\r` came: what is written next replaces the line
        self._state_at: float | None = None

    def cut(self, text: str) -> list[str]:
        """The lines that end in this piece, without their ends."""
        lines: list[str] = []
        *ended, rest = text.split("\n")
        for part in ended:
            if self._open or self._over or self._is_over_again or len(part) > LONGEST or "\r" in part:
                self._add(part, lines)
                lines.append(self._taken())
                self._state_at = None
            else:
                lines.append(part)
        self._add(rest, lines)
        return lines

    def end(self) -> list[str]:
        """The line that was begun and has no end."""
        self._state_at = None
        return [self._taken()] if self._open or self._over else []

    def _add(self, part: str, lines: list[str]) -> None:
        first, *later = part.split("\r")
        self._extend(first, lines)
        for piece in later:
            self._is_over_again = True
            self._extend(piece, lines)

    def _extend(self, piece: str, lines: list[str]) -> None:
        if not piece:
            return
        if self._is_over_again:
            now = time.monotonic()
            if self._state_at is None:
                self._state_at = now
            elif now - self._state_at >= STATE_EVERY and (self._open or self._over):
                self._state_at = now
                lines.append(self._taken())
            self._open, self._over, self._is_over_again = "", 0, False
        room = LONGEST - len(self._open)
        self._open += piece[:room]
        self._over += max(0, len(piece) - room)

    def _taken(self) -> str:
        line = shown(self._open, self._over)
        self._open, self._over, self._is_over_again = "", 0, False
        return line


def whole(text: str) -> list[str]:
    """The lines of a message that is complete; an empty one is a line as well."""
    lines = Lines()
    return lines.cut(text.removesuffix("\n") + "\n")


def shown(line: str, over: int) -> str:
    return f"{line}… {over:,} more characters" if over else line
