"""Tasks on the loop and in threads: results, errors, contexts, cancellation. Child processes: tests/process."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from scheduler.errors import ConfigError, MissingExtraError
from tests.support.calls import Log, call
from worker import Cancel, Context, Retry, task
from worker.executors import Settings, load
from worker.executors.python import PythonExecutor
from worker.outcome import (
    RESULT_LIMIT,
    TEXT_LIMIT,
    Cancelled,
    Crashed,
    Ended,
    ExecutionFailed,
    Failed,
    classify,
    clean,
    shorten,
    storable,
)
from worker.registry import REGISTRY


@pytest.fixture(autouse=True)
def _own_registry() -> Iterator[None]:
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


@pytest.fixture
def python() -> Iterator[PythonExecutor]:
    executor = PythonExecutor(Settings(threads=2))
    yield executor
    asyncio.run(executor.close())


async def test_an_async_task_is_awaited_with_named_or_positional_arguments(python: PythonExecutor) -> None:
    @task
    async def add(a: int, b: int = 0) -> int:
        return a + b

    assert await python.execute(call({"task": "add", "args": {"a": 1, "b": 2}})) == 3
    assert await python.execute(call({"task": "add", "args": [4]})) == 4


async def test_a_plain_function_runs_in_a_thread(python: PythonExecutor) -> None:
    @task
    def where() -> str:
        return threading.current_thread().name

    assert await python.execute(call({"task": "where"})) == "task"


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_a_context_tells_about_the_attempt_and_logs(python: PythonExecutor, kind: str) -> None:
    def look(ctx: Context) -> list[object]:
        ctx.log("a\0b")
        ctx.progress(2, "over")
        return [ctx.run_id, ctx.app, ctx.attempt, ctx.fence, ctx.scheduled_at, ctx.cancelled]

    async def look_async(ctx: Context) -> list[object]:
        return look(ctx)

    task(name="look")(look_async if kind == "async" else look)
    log = Log()
    assert await python.execute(call({"task": "look"}, write=log)) == [7, "shop", 2, 42, None, False]
    assert log == [("task", "a\ufffdb"), ("progress", "1.0000 over")]


@pytest.mark.parametrize("kind", ["async", "thread"])
@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({}, "missing a required argument: 'to'"),
        ({"to": 1, "cc": 2}, "unexpected keyword argument 'cc'"),
        ([1, 2], "too many positional"),
    ],
)
async def test_arguments_that_do_not_fit_are_named(python: PythonExecutor, kind: str, args: Any, said: str) -> None:
    def send(to: int) -> None: ...

    async def send_async(to: int) -> None: ...

    task(name="send")(send_async if kind == "async" else send)
    with pytest.raises(ExecutionFailed, match=said):
        await python.execute(call({"task": "send", "args": args}))


async def test_a_type_error_of_the_task_itself_is_not_taken_for_misfitting_arguments(python: PythonExecutor) -> None:
    @task
    def odd() -> None:
        raise TypeError("missing a required argument: of mine")

    with pytest.raises(TypeError, match="of mine"):
        await python.execute(call({"task": "odd"}))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"task": "nowhere"}, "unknown task 'nowhere'"),
        ({}, "spec has no task"),
        ({"task": ["x"]}, "spec has no task"),
    ],
)
async def test_a_spec_that_names_no_task_is_a_clear_failure(python: PythonExecutor, spec: Any, said: str) -> None:
    with pytest.raises(ExecutionFailed, match=said):
        await python.execute(call(spec))


async def test_arguments_must_be_an_object_or_an_array(python: PythonExecutor) -> None:
    @task
    async def nothing() -> None: ...

    with pytest.raises(ExecutionFailed, match='"args" must be an object or an array, not int'):
        await python.execute(call({"task": "nothing", "args": 3}))


@pytest.mark.parametrize("kind", ["async", "thread"])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration()])
async def test_exceptions_that_would_end_the_worker_only_fail_the_run(
    python: PythonExecutor, kind: str, error: BaseException
) -> None:
    def leave() -> None:
        raise error

    async def leave_async() -> None:
        raise error

    task(name="leave")(leave_async if kind == "async" else leave)
    with pytest.raises((ExecutionFailed, RuntimeError)):
        await python.execute(call({"task": "leave"}))


async def test_a_function_that_returns_a_coroutine_is_told_so(python: PythonExecutor) -> None:
    async def real() -> None: ...

    @task
    def wrapped() -> Any:
        return real()

    with pytest.raises(ExecutionFailed, match="async def"):
        await python.execute(call({"task": "wrapped"}))


async def test_a_cancelled_thread_sees_it_and_is_not_waited_for(python: PythonExecutor) -> None:
    seen = threading.Event()
    begun = threading.Event()

    @task
    def long(ctx: Context) -> None:
        begun.set()
        while not ctx.cancelled:
            pass
        seen.set()

    running = asyncio.ensure_future(python.execute(call({"task": "long"})))
    await asyncio.to_thread(begun.wait)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await asyncio.to_thread(seen.wait, 10)


def test_retry_and_cancel_become_outcomes() -> None:
    assert classify(Retry(after=timedelta(minutes=1), reason="busy")) == Failed("busy", retry_after=60.0)
    assert classify(Retry()) == Failed("the task asked for a retry")
    assert classify(Cancel("not needed")) == Cancelled("not needed")
    assert classify(Ended(Crashed("gone"))) == Crashed("gone")


@pytest.mark.parametrize("after", [-1, float("nan"), float("inf"), 1e12, timedelta(days=-1)])
def test_a_retry_at_an_impossible_time_is_the_tasks_error(after: Any) -> None:
    with pytest.raises(ValueError, match="Retry"):
        Retry(after=after)


class _MuteError(Exception):
    def __str__(self) -> str:
        raise SystemExit


@pytest.mark.parametrize(
    "error",
    [
        _MuteError(),
        ValueError("nul \0 and \ud800"),
        ValueError("x" * 1_000_000),
        ExceptionGroup("several", [ValueError("\0")]),
        MemoryError(),
        asyncio.CancelledError(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    ],
)
def test_whatever_is_raised_gives_a_text_that_can_be_stored(error: BaseException) -> None:
    outcome = classify(error)
    assert isinstance(outcome, Failed)
    assert outcome.error.startswith(type(error).__name__)
    assert "\0" not in outcome.error
    assert len(outcome.error.encode()) <= TEXT_LIMIT


async def test_a_traceback_begins_in_the_users_code(python: PythonExecutor) -> None:
    @task
    async def boom() -> None:
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom") as caught:
        await python.execute(call({"task": "boom"}))
    error = caught.value.with_traceback(caught.tb.tb_next)  # without this test's own frame
    outcome = classify(error)
    assert isinstance(outcome, Failed)
    assert outcome.error.startswith("ValueError: boom\n\nTraceback")
    assert "worker/executors" not in outcome.error


@pytest.fixture(params=["orjson", "json"])
def _either_json(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "json":
        monkeypatch.setattr("worker.outcome.orjson", None)


@pytest.mark.usefixtures("_either_json")
@pytest.mark.parametrize(
    ("result", "stored"),
    [
        (None, None),
        ({"a": [1, None, True]}, '{"a":[1,null,true]}'),
        ("a\0b", '"a\\ufffdb"'),
        ("\\\0\0", '"\\\\\\ufffd\\ufffd"'),
        ("\\u0000", '"\\\\u0000"'),
        ("\ud800", '"\ufffd"'),
        ({1: 2**70}, '{"1":1180591620717411303424}'),
        (timedelta.max.days, "999999999"),
        (Path("/tmp"), '"/tmp"'),
    ],
)
def test_a_result_becomes_json_that_jsonb_takes(result: Any, stored: str | None) -> None:
    assert storable(result) == (None if stored is None else stored.encode())


@pytest.mark.usefixtures("_either_json")
@pytest.mark.parametrize("result", [float("nan"), [None, float("inf")], object(), b"bytes", {1, 2}])
def test_a_result_that_is_not_json_is_a_clear_failure(result: Any) -> None:
    with pytest.raises(ExecutionFailed, match="result is not JSON"):
        storable(result)


def test_a_result_that_contains_itself_is_a_clear_failure() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ExecutionFailed, match="result is not JSON"):
        storable(loop)


def test_a_result_over_the_limit_says_its_size() -> None:
    with pytest.raises(ExecutionFailed, match=r"1,048,577 bytes of JSON, the limit is 1,048,576"):
        storable("x" * (RESULT_LIMIT - 1))
    assert storable("x" * (RESULT_LIMIT - 2)) is not None


def test_texts_are_cleaned_and_shortened_by_bytes() -> None:
    assert clean("a\0\ud83d\ude00\ud800") == "a\ufffd\U0001f600\ufffd"
    short = shorten("€" * 10_000, 1000)
    assert len(short.encode()) <= 1000
    assert "bytes cut" in short


def test_executors_are_found_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(
        tmp_path, monkeypatch, "import os\nclass Made:\n    def __init__(self, settings): self.grace = settings.grace"
    )
    made = load(["made"], grace=1.5)
    assert vars(made["made"]) == {"grace": 1.5}
    with pytest.raises(ConfigError, match=r"unknown executor 'nope': there is .*made"):
        load(["made", "nope"])


def test_an_executor_without_its_extra_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path, monkeypatch, "from worker.executors.http import HttpExecutor as Made")
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.delitem(sys.modules, "worker.executors.http", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'walclock\[http\]'"):
        load(["made"])


def test_an_executor_that_cannot_be_loaded_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path, monkeypatch, "raise RuntimeError('broken plug-in')")
    with pytest.raises(ConfigError, match=r"executor 'made' \(made_executor:Made\) cannot be loaded: broken plug-in"):
        load(["made"])


def _install(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """A package of somebody else's, as pip would leave it."""
    (folder / "made_executor.py").write_text(source)
    info = folder / "made_executor-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: made-executor\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[walclock.executors]\nmade = made_executor:Made\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "made_executor", raising=False)
    importlib.invalidate_caches()
