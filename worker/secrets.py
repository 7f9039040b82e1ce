"""Secrets that a spec names and does not hold: `${secret:NAME}` in a string of it.

    the row, history, the log     ${secret:NAME}, and *** where the value was seen
    the executor                  the value

The value is put in just before the executor is called, from SCHEDULER_SECRET_<NAME> of the worker's environment or the
file NAME in SCHEDULER_SECRETS_DIR, and is read anew for each attempt, so that a new one counts at once. It is taken out
of all that the attempt says: log, error, result. `$${secret:NAME}` stands for the text `${secret:NAME}` itself.

An executor whose `secret_places` is a tuple of keys takes references below these keys of its spec only: a command line
is seen by everybody in `ps`, and the text of a statement by the database's other users.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from msgspec.structs import replace

from scheduler import records
from worker.context import Call
from worker.lines import IN_PIECES
from worker.outcome import ExecutionFailed, shorten, storable
from worker.store import Report

MARK = "${secret:"
SHOWN = "***"
LEAST = 4  # characters: a shorter value would be found everywhere, and hidden nowhere
MOST = 16 * 1024  # characters
LINE = 8  # characters of a line of a value from which on the line is hidden by itself
PIECE = 6  # characters: so much of a value, where a text was cut, is hidden as well
_REFERENCE = re.compile(r"(\$)?\$\{secret:(?:([A-Za-z0-9_][A-Za-z0-9_.-]{0,62})\})?")
_MISPLACED = re.compile(r"\$\{secret:[A-Za-z_][\w.-]*\}")  # not the shell's own ${secret:0:4}
_CUT = re.compile(r"(\n?… [^\n]* …\n)")  # as `shorten` and the shell executor say it

Write = Callable[[str, int, int, str, str], None]


class Hidden:
    """The secrets of one attempt: put into its call, and hidden in what it says."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._forms: list[str] = []  # of the values as they may be seen, the longest first
        self._pattern: re.Pattern[str] | None = None
        self._open: dict[str, str] = {}  # by stream: the end of what was written, which may begin a secret
        self._write: Write | None = None
        self._about: tuple[str, int, int] = ("", 0, 0)

    def filled(self, call: Call, places: Sequence[str] | None = None) -> Call:
        """The call with the values in its spec, and a log in which they are hidden.

        `places`: the keys of the spec that may have references; None: all. ExecutionFailed, not to be retried, for a
        secret that this worker does not have and for a reference where it may not be.
        """
        try:
            spec = {
                key: self._fill(value) if places is None or key in places else _free(value, key, places)
                for key, value in call.spec.items()
            }
        except RecursionError:
            raise ExecutionFailed("bad spec: it is nested too deep to look for secrets in it", final=True) from None
        self._forms = sorted(_forms(self._values.values()), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._forms))) if self._forms else None
        records.hide(self._forms)
        self._write = call.write
        self._about = (call.app, call.run_id, call.attempt)
        return replace(call, spec=spec, write=self._log)

    def close(self) -> None:
        """Write what was held back of the log."""
        for stream, text in self._open.items():
            self._say(stream, self.text(text))
        self._open.clear()

    def text(self, text: str) -> str:
        """The text with the values hidden, also what is left of one where the text was cut."""
        parts = _CUT.split(self._covered(text))
        return "".join(part if i % 2 else self._without_pieces(part) for i, part in enumerate(parts))

    def report(self, report: Report) -> Report:
        """The report with the values hidden."""
        if report.error is not None:
            report.error = self.text(report.error)
        if report.result is not None and self._pattern is not None:
            report.result = storable(self._hidden(json.loads(report.result)))
        return report

    def _fill(self, value: Any) -> Any:
        if isinstance(value, str):
            return _REFERENCE.sub(self._found, value) if MARK in value else value
        if isinstance(value, list):
            return [self._fill(item) for item in value]
        if isinstance(value, dict):
            if misplaced := next((name for name in value if MARK in name), None):
                raise ExecutionFailed(f"bad spec: a secret cannot be a name: {shorten(misplaced, 200)!r}", final=True)
            return {name: self._fill(item) for name, item in value.items()}
        return value

    def _found(self, match: re.Match[str]) -> str:
        escaped, name = match.groups()
        if escaped:
            return match.group()[1:]
        if name is None:
            raise ExecutionFailed(
                "bad spec: ${secret:NAME} needs a name of letters, digits, '_', '-' and '.', and a closing brace",
                final=True,
            )
        if name not in self._values:
            self._values[name] = value_of(name)
        return self._values[name]

    def _log(self, _app: str, _run_id: int, _attempt: int, stream: str, text: str) -> None:
        if stream in IN_PIECES:
            text = self._covered(self._open.pop(stream, "") + text)
            whole = len(text) - self._begun(text)
            if whole < len(text):
                self._open[stream] = text[whole:]
            text = text[:whole]
            if not text:
                return
        self._say(stream, self._covered(text))

    def _say(self, stream: str, text: str) -> None:
        if self._write is not None:
            self._write(*self._about, stream, text)

    def _begun(self, text: str) -> int:
        """How many characters at the end of the text may be the beginning of a secret."""
        longest = 0
        for form in self._forms:
            at = text.find(form[0], max(0, len(text) - len(form) + 1))
            while at >= 0:
                if form.startswith(text[at:]):
                    longest = max(longest, len(text) - at)
                    break
                at = text.find(form[0], at + 1)
        return longest

    def _ended(self, text: str) -> int:
        """How many characters at the start of the text may be the end of a secret."""
        longest = 0
        for form in self._forms:
            at = text.rfind(form[-1], 0, len(form) - 1)
            while at >= 0:
                if form.endswith(text[: at + 1]):
                    longest = max(longest, at + 1)
                    break
                at = text.rfind(form[-1], 0, at)
        return longest

    def _covered(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(SHOWN, text)

    def _without_pieces(self, text: str) -> str:
        ended, begun = self._ended(text), self._begun(text)
        if ended >= PIECE:
            text = SHOWN + text[ended:]
        if begun >= PIECE:
            text = text[: len(text) - begun] + SHOWN
        return text

    def _hidden(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self._hidden(item) for item in value]
        if isinstance(value, dict):
            return {self.text(name): self._hidden(item) for name, item in value.items()}
        if isinstance(value, int | float) and str(value) in self._forms:
            return SHOWN
        return value


def value_of(name: str, env: Mapping[str, str] = os.environ) -> str:
    """The value of a secret of this worker; ExecutionFailed, not to be retried, when there is none that can be used."""
    variable = f"SCHEDULER_SECRET_{re.sub('[.-]', '_', name).upper()}"
    folder = env.get("SCHEDULER_SECRETS_DIR", "")
    value = env.get(variable)
    if value is None and folder:
        value = _read(Path(folder) / name, name)
    if value is None:
        where = f"nor a file {name} in {folder}" if folder else "nor a SCHEDULER_SECRETS_DIR"
        raise ExecutionFailed(f"no secret {name!r}: this worker has neither {variable} {where}", final=True)
    if not LEAST <= len(value) <= MOST or "\0" in value:
        raise ExecutionFailed(
            f"secret {name!r} cannot be used: it must be text of {LEAST} to {MOST:,} characters", final=True
        )
    return value


def _read(path: Path, name: str) -> str | None:
    """What a file holds, without the line break at its end that editors and `echo` leave."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            text = file.read(MOST + 3)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        raise ExecutionFailed(f"secret {name!r} cannot be used: its file is not UTF-8", final=True) from None
    except OSError as error:
        raise ExecutionFailed(f"secret {name!r} cannot be read: {error.strerror}", final=True) from None
    return text.removesuffix("\n").removesuffix("\r")


def _forms(values: Iterable[str]) -> set[str]:
    """The values as they may be seen: as they are, in a URL, inside JSON or Python, and each longer line of several."""
    forms: set[str] = set()
    for value in values:
        lines = [line.strip() for line in value.splitlines()]
        for one in [value, *(line for line in lines if len(line) >= LINE)]:
            forms |= {one, quote(one, safe=""), quote(one), json.dumps(one)[1:-1]}
            forms |= {json.dumps(one, ensure_ascii=False)[1:-1], repr(one)[1:-1]}
    return forms


def _free(value: Any, key: str, places: Sequence[str]) -> Any:
    """The value as it is; ExecutionFailed when it refers to a secret."""
    if found := _MISPLACED.search(json.dumps(value, ensure_ascii=False)):
        allowed = " and ".join(f'"{place}"' for place in places)
        raise ExecutionFailed(f'bad spec: {found.group()} cannot be in "{key}", only in {allowed}', final=True)
    return value
