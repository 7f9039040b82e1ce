"""Commands: how they are started, what is kept of their output, how they end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.calls import Log, call
from tests.support.pids import alive, pids_in, until
from worker.executors import ExecutionFailed, Settings
from worker.executors.shell import ShellExecutor
from worker.outcome import RESULT_LIMIT, storable


@asynccontextmanager
async def shell(**settings: Any) -> AsyncIterator[ShellExecutor]:
    executor = ShellExecutor(Settings(**settings))
    try:
        yield executor
    finally:
        await executor.close()


async def run(spec: dict[str, Any], **settings: Any) -> dict[str, Any]:
    async with shell(**settings) as executor:
        return await executor.execute(call(spec))


async def failure(spec: dict[str, Any]) -> ExecutionFailed:
    with pytest.raises(ExecutionFailed) as caught:
        await run(spec)
    return caught.value


async def test_an_array_is_executed_as_it_is() -> None:
    result = await run({"command": ["printf", "%s|", "a b", "$HOME", "*"]})
    assert result == {"stdout": "a b|$HOME|*|", "stderr": "", "exit_code": 0}


async def test_a_string_goes_to_the_shell_of_the_run_then_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/sh")
    assert (await run({"command": "echo $((1 + 1)); echo no >&2"}))["stdout"] == "2\n"
    shown = await run({"command": "what", "environment": {"SHELL": "/bin/echo"}})
    assert shown["stdout"] == "-c what\n"
    monkeypatch.delenv("SHELL")
    assert (await run({"command": "echo $0"}))["stdout"] == "/bin/sh\n"


async def test_a_command_knows_its_run_and_nothing_of_the_worker_that_was_not_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SCHEDULER_DSN", "DATABASE_URL", "PGPASSWORD", "SCHEDULER_SQL_DSN_SHOP", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "hush-hush")
    for name in ("KEPT", "LC_TIME"):
        monkeypatch.setenv(name, "yes")
    async with shell(shell_env=["KEPT"]) as executor:
        spec = {"command": ["env"], "environment": {"MINE": "1", "SCHEDULER_FENCE": "999"}}
        at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        result = await executor.execute(call(spec, scheduled=at.timestamp()))
        unscheduled = await executor.execute(call({"command": "echo $SCHEDULER_SCHEDULED_AT"}))
    environment = dict(line.split("=", 1) for line in result["stdout"].splitlines() if "=" in line)
    assert "hush-hush" not in result["stdout"]
    assert (environment["KEPT"], environment["LC_TIME"], environment["MINE"]) == ("yes", "yes", "1")
    assert {name: value for name, value in environment.items() if name.startswith("SCHEDULER_")} == {
        "SCHEDULER_RUN_ID": "7",
        "SCHEDULER_ATTEMPT": "2",
        "SCHEDULER_FENCE": "42",
        "SCHEDULER_SCHEDULED_AT": "2026-01-02T03:04:05Z",
    }
    assert unscheduled["stdout"] == "2026-03-01T04:05:06Z\n"


async def test_standard_input_is_given_or_empty() -> None:
    assert (await run({"command": ["cat"], "stdin": "a\nb"}))["stdout"] == "a\nb"
    assert (await run({"command": ["cat"]}))["stdout"] == ""
    many = "x" * 300_000  # more than a pipe holds, to a command that reads none of it
    assert (await run({"command": ["true"], "stdin": many}))["exit_code"] == 0


async def test_the_working_folder_can_be_chosen(tmp_path: Path) -> None:
    assert (await run({"command": ["pwd", "-P"], "cwd": str(tmp_path)}))["stdout"] == f"{tmp_path}\n"
    assert "cannot enter cwd '/not/there'" in str(await failure({"command": ["pwd"], "cwd": "/not/there"}))


async def test_a_failing_command_keeps_its_output_and_says_its_last_word() -> None:
    error = await failure({"command": "echo out; echo first >&2; echo 'no space left' >&2; exit 3"})
    assert str(error) == "command ended with exit code 3: no space left"
    assert error.result == {"stdout": "out\n", "stderr": "first\nno space left\n", "exit_code": 3}


async def test_a_command_ended_by_a_signal_says_which() -> None:
    error = await failure({"command": "kill -KILL $$"})
    assert str(error) == "command ended by signal 9 (SIGKILL)"
    assert error.result["exit_code"] == 137


async def test_a_command_that_cannot_be_started_is_told_as_a_shell_would(tmp_path: Path) -> None:
    missing = await failure({"command": ["not-a-program"]})
    assert (str(missing), missing.result["exit_code"]) == ("command not found: 'not-a-program'", 127)
    (tmp_path / "plain").write_text("no program")
    refused = await failure({"command": [str(tmp_path / "plain")]})
    assert "cannot be executed" in str(refused)
    assert refused.result["exit_code"] == 126


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"command": ""},
        {"command": []},
        {"command": [""]},
        {"command": ["a", 1]},
        {"command": {"a": 1}},
        {"command": "a\0b"},
        {"command": "true", "environment": []},
        {"command": "true", "environment": {"A": None}},
        {"command": "true", "environment": {"A=B": "x"}},
        {"command": "true", "environment": {"A": "x\0"}},
        {"command": "true", "cwd": 1},
        {"command": "true", "cwd": "a\0"},
        {"command": "true", "stdin": 5},
    ],
)
async def test_a_bad_spec_is_refused_at_once_and_for_good(spec: dict[str, Any]) -> None:
    error = await failure(spec)
    assert str(error).startswith("bad spec: ")
    assert error.outcome.final  # type: ignore[union-attr]


async def test_output_that_is_not_utf8_is_replaced() -> None:
    assert (await run({"command": ["printf", r"a\377b\000c"]}))["stdout"] == "a\ufffdb\0c"


async def test_output_over_the_limit_keeps_head_and_tail_and_says_so() -> None:
    log = Log()
    async with shell(output_limit=2000) as executor:
        result = await executor.execute(call({"command": "seq 100000"}, write=log))
    assert result["truncated"] is True
    assert result["stdout"].startswith("1\n2\n")
    assert result["stdout"].endswith("99999\n100000\n")
    assert "bytes cut" in result["stdout"]
    assert len(result["stdout"]) < 1100
    assert log.of("stdout") == "".join(f"{n}\n" for n in range(1, 100_001)), "the journal cuts, and says where"


async def test_output_is_logged_as_it_comes() -> None:
    log = Log()
    async with shell() as executor:
        await executor.execute(call({"command": "printf 'h\\303'; printf '\\251' ; echo e >&2"}, write=log))
    assert (log.of("stdout"), log.of("stderr")) == ("h\u00e9", "e\n")


async def test_any_output_fits_a_result() -> None:
    """Each of these bytes is six in JSON, so that a megabyte of them would not be stored."""
    result = await run({"command": "head -c 3000000 /dev/zero | tr '\\0' '\\001'"})
    assert result["truncated"] is True
    assert RESULT_LIMIT // 2 < len(storable(result) or b"") <= RESULT_LIMIT


async def test_something_in_the_background_does_not_hold_the_run() -> None:
    before = asyncio.get_running_loop().time()
    result = await run({"command": "sleep 600 & echo $!"})
    assert asyncio.get_running_loop().time() - before < 30
    os.kill(int(result["stdout"]), signal.SIGKILL)  # it was left alone


async def test_cancelling_ends_the_whole_group() -> None:
    log = Log()
    async with shell() as executor:
        running = asyncio.ensure_future(
            executor.execute(call({"command": "sleep 600 & echo $! $$ .; wait"}, write=log))
        )
        await until(lambda: " ." in log.of("stdout"))
        pids = pids_in(log.of("stdout"))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not any(alive(pid) for pid in pids)


async def test_a_command_that_ignores_term_is_killed_after_the_grace() -> None:
    log = Log()
    async with shell(grace=0.2) as executor:
        spec = {"command": "trap '' TERM; echo $$ .; while :; do sleep 0.1; done"}
        running = asyncio.ensure_future(executor.execute(call(spec, write=log)))
        await until(lambda: " ." in log.of("stdout"))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not any(alive(pid) for pid in pids_in(log.of("stdout")))


async def test_a_command_may_clean_up_when_it_is_told_to_end(tmp_path: Path) -> None:
    log = Log()
    async with shell() as executor:
        tidy = f"trap 'sleep 0.1; echo bye > {tmp_path}/bye; exit' TERM"
        spec = {"command": f"{tidy}; echo ' .'; while :; do sleep 0.05; done"}
        running = asyncio.ensure_future(executor.execute(call(spec, write=log)))
        await until(lambda: " ." in log.of("stdout"))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert (tmp_path / "bye").read_text() == "bye\n"


async def test_hundreds_of_commands_leave_no_descriptor_open() -> None:
    async with shell() as executor:
        await executor.execute(call({"command": ["true"]}))
        before = open_files()
        await asyncio.gather(*(executor.execute(call({"command": ["true"]})) for _ in range(200)))
        await until(lambda: open_files() <= before)  # others open and close some meanwhile


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))
