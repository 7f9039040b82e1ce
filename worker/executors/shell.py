"""Commands: `{"command": string or array, "environment": {}, "cwd", "stdin"}`.

An array is exec'd, a string goes to `$SHELL -c`. The command gets a clean environment: of the worker's what PASSED
names and what SCHEDULER_SHELL_ENV adds, then the spec's, then the four SCHEDULER_ variables. The result is
`{stdout, stderr, exit_code}`; a non-zero exit fails and keeps it. 128 + n is the exit code of a command ended by signal
n, as a shell would say it.

Output is read for as long as the command runs, so it never blocks on a full pipe, but only the head and the tail are
kept. What a command leaves running in the background is left alone when it ends by itself, but is waited for no
longer than a second; on timeout or cancel the whole process group ends.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import errno
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from worker.context import Call
from worker.executors import ExecutionFailed, Settings
from worker.outcome import RESULT_LIMIT, shorten
from worker.processes import Process, ending, scratch

DRAIN = 1.0  # seconds for the rest of the output, when something in the background keeps it open
NOT_FOUND, NOT_EXECUTABLE = 127, 126  # exit codes, as a shell would give them
# What a command inherits: who it is, where programs are, and how to speak. Not what services are told besides, such as
# AWS_SECRET_ACCESS_KEY, a proxy's password or somebody's token: nobody can list all names that hold a secret.
PASSED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR")
# The ways into databases, and the secrets of other runs: only their whole names in SCHEDULER_SHELL_ENV pass these.
GUARDED = ("SCHEDULER_*", "DATABASE_URL", "PG*")
TAIL = 200  # characters of stderr in the error text


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
        stdout = _Capture(self._limit // 2, lambda text: call.log("stdout", text))
        stderr = _Capture(self._limit // 2, lambda text: call.log("stderr", text))
        try:
            process = await self._begun(command, stdout, stderr)
            status = await self._ended(process)
            await _drained(stdout, stderr)
        finally:
            stdout.close()
            stderr.close()
        result = _result(stdout, stderr, status)
        if status != 0:
            raise ExecutionFailed(_failure(status, result["stderr"]), result)
        return result

    async def close(self) -> None:
        await self._processes.close()

    async def _begun(self, command: Command, stdout: _Capture, stderr: _Capture) -> Process:
        starting = asyncio.ensure_future(self._started(command, stdout, stderr))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # It may run already (its output was seen before the guard said so), and then has its time to clean up.
            with contextlib.suppress(ExecutionFailed):
                await (await starting).end(self._grace)
            raise

    async def _started(self, command: Command, stdout: _Capture, stderr: _Capture) -> Process:
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
    added = _environment(spec.get("environment"))
    environment = {**inherited, **added, **_about(call)}
    command = spec.get("command")
    if isinstance(command, str) and command.strip():
        shell = environment.get("SHELL") or "/bin/sh"
        argv = [shell, "-c", command]
    elif isinstance(command, list) and command and command[0] and all(isinstance(word, str) for word in command):
        argv = command
    else:
        raise _bad('"command" must be a string, or an array of strings that begins with a program', command)
    if any("\0" in word for word in argv):
        raise _bad('"command" must not contain a NUL character', command)
    return Command(argv, environment, _text(spec, "cwd") or None, _text(spec, "stdin", nul=True))


def inherited(environment: Mapping[str, str], more: Sequence[str] = ()) -> dict[str, str]:
    """What of the worker's environment a command gets. `more`: names, or patterns such as `APP_*`, that pass too."""
    return {name: value for name, value in environment.items() if _passes(name, more)}


def _passes(name: str, more: Sequence[str]) -> bool:
    if name in more or _like(name, PASSED):
        return True
    return _like(name, more) and not _like(name, GUARDED)


def _like(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _about(call: Call) -> dict[str, str]:
    return {
        "SCHEDULER_RUN_ID": str(call.run_id),
        "SCHEDULER_ATTEMPT": str(call.attempt),
        "SCHEDULER_SCHEDULED_AT": call.instant(),
        "SCHEDULER_FENCE": str(call.fence),
    }


def _environment(given: Any) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise _kind('"environment" must be an object of strings', given)
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise _kind(f'"environment": {name!r} must be a string', value)
        if not name or "=" in name or "\0" in name or "\0" in str(value):
            raise ExecutionFailed(
                f'bad spec: "environment": {shorten(repr(name), TAIL)} cannot be set (empty, or "=" or NUL in it)',
                final=True,
            )
    return {name: str(value) for name, value in given.items()}


def _text(spec: Mapping[str, Any], key: str, *, nul: bool = False) -> str | None:
    value = spec.get(key)
    if value is not None and (not isinstance(value, str) or ("\0" in value and not nul)):
        raise _kind(f'"{key}" must be a string without NUL characters', value)
    return value


def _kind(what: str, value: object) -> ExecutionFailed:
    """Of what may be a secret only the type is told."""
    return ExecutionFailed(f"bad spec: {what}, not {type(value).__name__}", final=True)


def _bad(what: str, value: object) -> ExecutionFailed:
    return ExecutionFailed(f"bad spec: {what}, not {shorten(repr(value), TAIL)}", final=True)


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


def _failure(status: int, stderr: str) -> str:
    lines = stderr.strip().splitlines()
    return f"command {ending(status)}" + (f": {lines[-1].strip()[:TAIL]}" if lines else "")


def _result(stdout: _Capture, stderr: _Capture, status: int) -> dict[str, Any]:
    """Escapes can make JSON six times as long as the output; what does not fit a history row is cut further."""
    limit = max(stdout.limit, stderr.limit)
    while True:
        result: dict[str, Any] = {
            "stdout": stdout.text(limit),
            "stderr": stderr.text(limit),
            "exit_code": status if status >= 0 else 128 - status,
        }
        if stdout.cut(limit) or stderr.cut(limit):
            result["truncated"] = True
        size = len(json.dumps(result, ensure_ascii=False).encode())
        if size <= RESULT_LIMIT:
            return result
        limit = int(limit * 0.9 * RESULT_LIMIT / size)


async def _drained(*captures: _Capture) -> None:
    ends = [asyncio.ensure_future(capture.over.wait()) for capture in captures]
    _, open_still = await asyncio.wait(ends, timeout=DRAIN)
    for end in open_still:
        end.cancel()


class _Capture(asyncio.Protocol):
    """One stream of a command: logs its first `limit` bytes as they come, and keeps its head and its tail."""

    def __init__(self, limit: int, log: Callable[[str], None]) -> None:
        self.limit = limit
        self.over = asyncio.Event()
        self._log = log
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._head = bytearray()
        self._tail = bytearray()
        self._size = 0
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
        room = self.limit - len(self._head)
        if room > 0:
            self._head += data[:room]
            self._say(self._decoder.decode(data[:room]))
        if self._size <= self.limit < self._size + len(data):
            self._say(f"\n… the log ends here: {self.limit:,} bytes of output …\n")
        self._size += len(data)
        self._tail += data[-self.limit :]
        if len(self._tail) > 2 * self.limit:
            del self._tail[: -self.limit]

    def eof_received(self) -> None:
        self._say(self._decoder.decode(b"", final=True))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  as asyncio calls it
        self.over.set()

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
