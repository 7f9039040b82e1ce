"""The command line, as a user has it: a process of its own, with nothing in the environment but what the test says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

COMMAND = [sys.executable, "-m", "scheduler.cli"]
_OURS = ("SCHEDULER_", "DATABASE_URL", "NO_COLOR", "FORCE_COLOR")
_LISTEN = ("SCHEDULER_LISTEN_DSN",)  # set when the tests run through a pooler


class Scheduler:
    """`scheduler` on one database."""

    patience = 60.0  # seconds that a command may take

    def __init__(self, dsn: str, **env: str) -> None:
        listen = {name: os.environ[name] for name in _LISTEN if name in os.environ}
        self.env = {**clean_environment(), **listen, "SCHEDULER_DSN": dsn, **env}

    def __call__(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *words],
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=self.patience,
            check=False,
        )

    def says(self, *words: str, stdin: str = "") -> str:
        """What a command that must succeed prints."""
        done = self(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.says(*words, "--json"))

    def refuses(self, *words: str, stdin: str = "", status: int = 2) -> str:
        """The one line of a command that must fail with this status."""
        done = self(*words, stdin=stdin)
        assert (done.returncode, done.stdout) == (status, ""), (done.stdout, done.stderr)
        lines = done.stderr.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: "), lines
        return lines[0]

    def start(self, *words: str, **streams: Any) -> subprocess.Popen[str]:
        """A command that goes on; its output is what the test says, else a pipe."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        return subprocess.Popen([*COMMAND, *words], env=self.env, text=True, **pipes)


def clean_environment() -> Mapping[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
