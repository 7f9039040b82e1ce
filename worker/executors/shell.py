"""Commands: `{"command": string or array, "environment": {}, "cwd", "stdin"}`.

An array is exec'd, a string goes to `$SHELL -c`. The command gets a clean environment: of the worker's what PASSED
names and what SCHEDULER_SHELL_ENV adds, then TRACEPARENT, the spec's, and the four SCHEDULER_ variables. The result is
`{stdout, stderr, exit_code}`; a non-zero exit fails and keeps it. 128 + n is the exit code of a command ended by signal
n, as a shell would say it.

Output is read for as long as the command runs, so it never blocks on a full pipe, but only the head and the tail are
kept. What a command leaves running in the background is left alone when it ends by itself, but is waited for no
longer than a second; on timeout or cancel the whole process group ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from worker import output
from worker.context import Call
from worker.executors import ExecutionFailed, Settings
from worker.output import Capture
from worker.processes import Process, ending, scratch
from worker.spec import about, bad, environment, text, trace

DRAIN = 1.0  # seconds for the rest of the output, when something in the background keeps it open
NOT_FOUND, NOT_EXECUTABLE = 127, 126  # exit codes, as a shell would give them
# What a command inherits: who it is, where programs are, and how to speak. Not what services are told besides, such as
# AWS_SECRET_ACCESS_KEY, a proxy's password or somebody's token: nobody can list all names that hold a secret.
PASSED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR")
# The ways into databases, and the secrets of other runs: only their whole names in SCHEDULER_SHELL_ENV pass these.
GUARDED = ("SCHEDULER_*", "DATABASE_URL", "PG*")


@dataclass(frozen=True, slots=True)
class Command:
    argv: list[str]
    environment: dict[str, str]
    cwd: str | None
    stdin: str | None


class ShellExecutor:
    secret_places = ("environment", "stdin")  # everybody sees a command line in `ps`

    def __init__(self, settings: Settings) -> None:
        self._processes = settings.processes
        self._grace = settings.grace
        self._limit = settings.output_limit
        self._inherited = inherited(os.environ, settings.shell_env)

    async def execute(self, call: Call) -> dict[str, Any]:
        """`{stdout, stderr, exit_code}`, with `truncated` when some was cut; ExecutionFailed unless it exits with 0."""
        command = parsed(call, self._inherited)
        stdout = _Stream(self._limit // 2, lambda text: call.log("stdout", text))
        stderr = _Stream(self._limit // 2, lambda text: call.log("stderr", text))
        try:
            process = await self._begun(command, stdout, stderr)
            status = await self._ended(process)
            await _drained(stdout, stderr)
        finally:
            stdout.close()
            stderr.close()
        kept = output.result(stdout, stderr, status if status >= 0 else 128 - status)
        if status != 0:
            raise ExecutionFailed(output.failure(f"command {ending(status)}", kept["stderr"]), kept)
        return kept

    async def close(self) -> None:
        await self._processes.close()

    async def _begun(self, command: Command, stdout: _Stream, stderr: _Stream) -> Process:
        starting = asyncio.ensure_future(self._started(command, stdout, stderr))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # It may run already (its output was seen before the guard said so), and then has its time to clean up.
            with contextlib.suppress(ExecutionFailed):
                await (await starting).end(self._grace)
            raise

    async def _started(self, command: Command, stdout: _Stream, stderr: _Stream) -> Process:
        with contextlib.ExitStack() as ours:
            # A file and not a pipe: nobody has to keep feeding it.
            source = ours.enter_context(scratch((command.stdin or "").encode(errors="surrogateescape")))
            ends = [await stdout.open(ours), await stderr.open(ours)]
            try:
                return await self._processes.start(
                    command.argv,
                    stdin=source.fileno(),
                    stdout=ends[0],
                    stderr=ends[1],
                    env=command.environment,
                    cwd=command.cwd,
                )
            except OSError as error:
                raise _unstartable(command, error) from error

    async def _ended(self, process: Process) -> int:
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            await process.end(self._grace)
            raise
        process.release()
        return status


def parsed(call: Call, inherited: Mapping[str, str]) -> Command:
    """The command of a spec with its whole environment; ExecutionFailed, not to be retried, when it makes none."""
    spec = call.spec
    told = {**inherited, **trace(call), **environment(spec.get("environment")), **about(call)}
    command = spec.get("command")
    if isinstance(command, str) and command.strip():
        shell = told.get("SHELL") or "/bin/sh"
        argv = [shell, "-c", command]
    elif isinstance(command, list) and command and command[0] and all(isinstance(word, str) for word in command):
        argv = command
    else:
        raise bad('"command" must be a string, or an array of strings that begins with a program', command)
    if any("\0" in word for word in argv):
        raise bad('"command" must not contain a NUL character', command)
    return Command(argv, told, text(spec, "cwd") or None, text(spec, "stdin", nul=True))


def inherited(environment: Mapping[str, str], more: Sequence[str] = ()) -> dict[str, str]:
    """What of the worker's environment a command gets. `more`: names, or patterns such as `APP_*`, that pass too."""
    return {name: value for name, value in environment.items() if _passes(name, more)}


def _passes(name: str, more: Sequence[str]) -> bool:
    if name in more or _like(name, PASSED):
        return True
    return _like(name, more) and not _like(name, GUARDED)


def _like(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _unstartable(command: Command, error: OSError) -> ExecutionFailed:
    if command.cwd is not None and error.filename == command.cwd:
        return ExecutionFailed(f"cannot enter cwd {command.cwd!r}: {error.strerror}")
    program = command.argv[0]
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        code, text = NOT_FOUND, f"command not found: {program!r}"
    elif error.errno in (errno.EACCES, errno.ENOEXEC, errno.EPERM):
        code, text = NOT_EXECUTABLE, f"command cannot be executed: {program!r}: {error.strerror}"
    else:
        return ExecutionFailed(f"cannot start {program!r}: {error.strerror}")
    return ExecutionFailed(text, {"stdout": "", "stderr": "", "exit_code": code})


async def _drained(*captures: _Stream) -> None:
    ends = [asyncio.ensure_future(capture.over.wait()) for capture in captures]
    _, open_still = await asyncio.wait(ends, timeout=DRAIN)
    for end in open_still:
        end.cancel()


class _Stream(Capture, asyncio.Protocol):
    """One stream of a command, through a pipe."""

    def __init__(self, limit: int, log: Callable[[str], None]) -> None:
        super().__init__(limit, log)
        self.over = asyncio.Event()
        self._transport: asyncio.BaseTransport | None = None

    async def open(self, ours: contextlib.ExitStack) -> int:
        """The end to write to; it is closed with `ours`, once the command has its own."""
        reading, writing = os.pipe()
        ours.callback(os.close, writing)
        file = os.fdopen(reading, "rb", buffering=0)
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: self, file)
        return writing

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self.feed(data)

    def eof_received(self) -> None:
        self.end()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  as asyncio calls it
        self.over.set()
