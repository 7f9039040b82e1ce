"""Child processes: tasks in them, how they end, and that none survives its worker."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop

import tests.support.tasks  # registers the tasks in this process too
from tests.support.calls import Log, call
from tests.support.pids import alive, pids_in, until, written
from worker.executors import ExecutionFailed, Settings
from worker.executors.python import PythonExecutor
from worker.executors.shell import ShellExecutor
from worker.outcome import Cancelled, Crashed, Ended, Failed
from worker.processes import Processes
from worker.registry import REGISTRY

TASKS = tests.support.tasks.__name__
ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def python(**settings: Any) -> AsyncIterator[PythonExecutor]:
    executor = PythonExecutor(Settings(**{"modules": [TASKS], "children": 1, **settings}))
    try:
        yield executor
    finally:
        await executor.close()


async def ended(executor: PythonExecutor, name: str, how: str) -> Failed | Cancelled | Crashed:
    with pytest.raises(Ended) as caught:
        await executor.execute(call({"task": name, "args": [how]}))
    return caught.value.outcome


async def test_children_are_started_once_and_used_again() -> None:
    async with python() as executor:
        assert await executor.execute(call({"task": "child.add", "args": {"a": 1, "b": 2}})) == 3
        pids = {await executor.execute(call({"task": "child.pid"})) for _ in range(5)}
        assert await executor.execute(call({"task": "child.later", "args": ["x"]})) == "x"
    assert len(pids) == 1
    assert os.getpid() not in pids


async def test_many_calls_share_the_children() -> None:
    async with python(children=2) as executor:
        calls = [executor.execute(call({"task": "child.add", "args": [n, n]})) for n in range(300)]
        assert await asyncio.gather(*calls) == [2 * n for n in range(300)]


async def test_a_child_has_the_context_and_the_log() -> None:
    log = Log()
    async with python() as executor:
        asked = call({"task": "child.about"}, write=log)
        answer = await executor.execute(asked)
    expected = {"run_id": 7, "attempt": 2, "fence": 42, "deadline": asked.deadline.isoformat()}
    assert answer == expected
    assert log == [("task", "halfway"), ("progress", "0.5000 there")]


async def test_what_a_task_sets_in_its_context_does_not_reach_the_next_in_its_child() -> None:
    async with python() as executor:
        names = ["child.context", "child.context", "child.context_later", "child.context_later", "child.context"]
        seen = [await executor.execute(call({"task": name})) for name in names]
    assert {value for value, _ in seen} == {"untouched"}
    assert len({pid for _, pid in seen}) == 1


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_arguments_and_results_larger_than_a_read_arrive_whole(
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    values: list[Any] = ["x" * 300_000, list(range(50_000)), "a\nb\u00e9\U0001f600", None, False, {}, 0]

    async def main() -> None:
        async with python() as executor:
            for value in values:
                assert await executor.execute(call({"task": "child.echo", "args": [value]})) == value

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


async def test_a_task_that_takes_a_context_only_in_the_child_says_that_its_module_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(REGISTRY, "child.about", replace(REGISTRY["child.about"], wants_context=False))
    async with python() as executor:
        with pytest.raises(Ended, match="its module was changed since the worker started"):
            await executor.execute(call({"task": "child.about"}))


async def test_a_run_that_was_lost_before_is_isolated_whatever_its_kind() -> None:
    async with python() as executor:
        assert await executor.execute(call({"task": "thread.pid"})) == os.getpid()
        assert await executor.execute(call({"task": "thread.pid"}, isolate=True)) != os.getpid()


async def test_outcomes_cross_the_border() -> None:
    async with python() as executor:
        failed = await ended(executor, "child.raises", "ValueError")
        assert isinstance(failed, Failed)
        assert failed.error.startswith("ValueError: no\ufffdpe\n\nTraceback")
        assert await ended(executor, "child.raises", "Retry") == Failed("busy", retry_after=30.0)
        assert await ended(executor, "child.raises", "Cancel") == Cancelled("not needed")
        unstorable = await ended(executor, "child.raises", "nothing")
        assert unstorable == Failed("result is not JSON: object has no JSON form")
        assert await ended(executor, "child.add", "1") == Failed(
            "task 'child.add': missing a required argument: 'b'; it takes (a: 'int', b: 'int') -> 'int'"
        )


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("segfault", "child process ended by signal 11 (SIGSEGV)"),
        ("os._exit", "child process ended with exit code 3"),
    ],
)
async def test_a_child_that_dies_is_a_crash_and_is_replaced(how: str, said: str) -> None:
    async with python() as executor:
        before = await executor.execute(call({"task": "child.pid"}))
        assert await ended(executor, "child.ends", how) == Crashed(said)
        assert await executor.execute(call({"task": "child.pid"})) != before


async def test_a_task_that_closes_the_childs_connection_is_a_crash() -> None:
    async with python() as executor:
        assert isinstance(await ended(executor, "child.ends", "closes everything"), Crashed)
        assert await executor.execute(call({"task": "child.add", "args": [1, 1]})) == 2


async def test_sys_exit_fails_the_run_and_not_the_child() -> None:
    async with python() as executor:
        before = await executor.execute(call({"task": "child.pid"}))
        assert await ended(executor, "child.ends", "sys.exit") == Failed("the task called sys.exit(4)")
        assert await executor.execute(call({"task": "child.pid"})) == before


async def test_an_idle_child_that_was_killed_is_replaced_unnoticed() -> None:
    async with python() as executor:
        pid = await executor.execute(call({"task": "child.pid"}))
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not any(child.usable for child in executor._children._idle))
        assert await executor.execute(call({"task": "child.pid"})) != pid


async def test_printing_reading_and_forking_do_not_disturb_the_protocol() -> None:
    async with python() as executor:
        assert await executor.execute(call({"task": "child.prints"})) == ""
        assert await executor.execute(call({"task": "child.forks"})) == "the original"
        assert await executor.execute(call({"task": "child.add", "args": [1, 1]})) == 2


@pytest.mark.parametrize("stubborn", [False, True])
async def test_cancelling_ends_the_child_and_what_it_started(tmp_path: Path, stubborn: bool) -> None:
    async with python(grace=0.3) as executor:
        spec = {"task": "child.sleeps", "args": {"pids": str(tmp_path / "pids"), "stubborn": stubborn}}
        running = asyncio.ensure_future(executor.execute(call(spec)))
        pids = await pids_from(tmp_path / "pids")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await until(lambda: not any(alive(pid) for pid in pids))  # killed, but the kernel takes its time
        assert await executor.execute(call({"task": "child.add", "args": [1, 1]})) == 2


async def test_a_crashed_childs_own_children_end_too(tmp_path: Path) -> None:
    async with python() as executor:
        spec = {"task": "child.sleeps", "args": {"pids": str(tmp_path / "pids")}}
        running = asyncio.ensure_future(executor.execute(call(spec)))
        child, grandchild = await pids_from(tmp_path / "pids")
        os.kill(child, signal.SIGKILL)
        with pytest.raises(Ended, match="SIGKILL"):
            await running
        await until(lambda: not alive(grandchild))


def test_children_and_commands_work_on_uvloop_too() -> None:
    async def both() -> tuple[Any, Any]:
        settings = Settings(modules=[TASKS], children=1)
        shell = ShellExecutor(settings)
        try:
            task = await PythonExecutor(settings).execute(call({"task": "child.add", "args": [1, 1]}))
            return task, await shell.execute(call({"command": ["cat"], "stdin": "x"}))
        finally:
            await shell.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(both()) == (2, {"stdout": "x", "stderr": "", "exit_code": 0})


async def test_modules_that_a_child_cannot_import_are_named() -> None:
    async with python(modules=["not_there"]) as executor:
        with pytest.raises(ExecutionFailed, match="in a child process: there is no module 'not_there'"):
            await executor.execute(call({"task": "child.pid"}))


async def test_a_users_folder_cannot_hide_our_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("worker.py", "scheduler.py"):
        (tmp_path / name).write_text("raise RuntimeError('not this one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(ROOT), *sys.path])
    async with python() as executor:
        assert await executor.execute(call({"task": "child.add", "args": [1, 1]})) == 2


async def test_nothing_survives_a_worker_that_is_killed(tmp_path: Path) -> None:
    """A task in a child with a child of its own, and a command: all end after `kill -9` of their worker."""
    program = f"""
import asyncio
from tests.support.calls import call
import {TASKS}
from worker.executors import Settings
from worker.executors.python import PythonExecutor
from worker.executors.shell import ShellExecutor
from worker.executors.shell import ShellExecutor
async def main():
    settings = Settings(modules=[{TASKS!r}], children=2)
    python, shell = PythonExecutor(settings), ShellExecutor(settings)
    spec = lambda n: {{"task": "child.sleeps", "args": {{"pids": f"{tmp_path}/{{n}}", "stubborn": True}}}}
    command = "trap '' TERM; sleep 600 & echo $$ $! . > {tmp_path}/shell; wait"
    tasks = [python.execute(call(spec(name))) for name in ("one", "two")]
    await asyncio.gather(*tasks, shell.execute(call({{"command": command}})))
asyncio.run(main())
"""
    worker = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)  # noqa: ASYNC220  killed below, never waited for
    try:
        pids = [pid for name in ("one", "two", "shell") for pid in await pids_from(tmp_path / name)]
        assert all(alive(pid) for pid in pids)
    finally:
        worker.kill()
        worker.wait()
    await until(lambda: not any(alive(pid) for pid in pids))


async def test_a_guard_that_is_killed_takes_its_commands_along_and_is_replaced() -> None:
    processes = Processes()
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        process = await processes.start(["sleep", "600"], stdin=nothing, stdout=nothing, stderr=nothing)
        assert processes._guard is not None
        processes._guard.kill()
        assert await asyncio.wait_for(process.wait(), 10) == -signal.SIGKILL
        await until(lambda: not alive(process.pid))
        again = await processes.start(["true"], stdin=nothing, stdout=nothing, stderr=nothing)
        assert await asyncio.wait_for(again.wait(), 10) == 0
    finally:
        os.close(nothing)
        await processes.close()


async def test_a_start_that_nobody_waits_for_any_more_is_undone() -> None:
    processes = Processes()
    ours, theirs = socket.socketpair()
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        starting = asyncio.ensure_future(
            processes.start(["sleep", "600"], stdin=theirs.fileno(), stdout=nothing, stderr=nothing)
        )
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        theirs.close()
        ours.setblocking(False)
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(ours, 1), 10) == b""
    finally:
        ours.close()
        os.close(nothing)
        await processes.close()


async def test_a_child_goes_first_when_memory_runs_out() -> None:
    async with python() as executor:
        pid = await executor.execute(call({"task": "child.pid"}))
        score = Path(f"/proc/{pid}/oom_score_adj")
        assert written(score) in ("500\n", "")  # there is none but on Linux


async def pids_from(path: Path) -> list[int]:
    await until(lambda: pids_in(written(path)))
    return pids_in(written(path))
