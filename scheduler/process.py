"""A `scheduler` command as a process of its own, for those who measure or maltreat one: real, as users start it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from scheduler.errors import SchedulerError

COMMAND = ("-m", "scheduler.cli")
_PATIENCE = 60.0  # seconds to drain
_SHOWN = 300  # characters of the last words of one that died


class Process:
    """It is a session leader, so that Ctrl-C reaches its starter alone, which then ends it."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        kind: str,
        label: str,
        log: Path,
        env: Mapping[str, str],
        program: Sequence[str] = COMMAND,
    ) -> None:
        """`kind` is the word for it in messages; `env` comes on top of ours, and is where its DSN belongs: what stands
        on a command line can be read by everybody. `program` is what the interpreter runs.
        """
        self.kind = kind
        self.label = label
        self._log = log
        with log.open("wb") as file:
            self._popen = subprocess.Popen(  # noqa: S603  this program
                [sys.executable, *program, *words, "--name", label],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, **env},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def status(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return self._popen.poll()

    def check(self) -> None:
        """SchedulerError when it has died."""
        if self.status is not None:
            raise SchedulerError(f"a {self.kind} ended by itself with status {self.status}", hint=self.last_words())

    def signal(self, number: signal.Signals) -> None:
        """Nothing happens when it has ended: its number may be somebody else's."""
        self._popen.send_signal(number)

    def stop(self) -> None:
        """TERM, as a deployment would; KILL when that does not help."""
        self.signal(signal.SIGTERM)
        try:
            self._popen.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        if self.status is None:
            self._popen.kill()
        self._popen.wait()

    def last_words(self) -> str:
        text = " ".join(self._log.read_text(errors="replace").split())
        return text[-_SHOWN:] or "it said nothing"
