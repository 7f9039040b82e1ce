"""Names to functions, and what is said when that fails."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from scheduler.errors import ConfigError
from worker import Context, registry, task
from worker.registry import REGISTRY, import_modules, unknown


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = dict(REGISTRY)
    REGISTRY.clear()
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


def test_a_task_is_registered_under_its_functions_name_and_stays_a_function() -> None:
    @task
    def resize(path: str) -> str:
        return path

    assert resize("a") == "a"
    assert REGISTRY["resize"].function is resize
    assert REGISTRY["resize"].kind == "thread"


def test_a_task_can_have_a_name_a_timeout_and_attempts_of_its_own() -> None:
    @task(name="mail.send", timeout=timedelta(minutes=1), max_attempts=5)
    async def send() -> None: ...

    made = REGISTRY["mail.send"]
    assert (made.kind, made.timeout, made.max_attempts) == ("async", 60.0, 5)


def test_process_tasks_run_in_a_process_whether_async_or_not() -> None:
    @task(process=True)
    async def one() -> None: ...

    @task(process=True)
    def two() -> None: ...

    assert {made.kind for made in REGISTRY.values()} == {"process"}


def test_the_context_is_wanted_by_name_or_by_annotation() -> None:
    @task
    def by_name(ctx: Any, path: str) -> None: ...

    @task
    def by_annotation(about: Context) -> None: ...

    @task
    def not_first(path: str, ctx: Any) -> None: ...

    @task
    def none_at_all() -> None: ...

    wanted = {made.name: made.wants_context for made in REGISTRY.values()}
    assert wanted == {"by_name": True, "by_annotation": True, "not_first": False, "none_at_all": False}


def test_an_annotation_that_cannot_be_evaluated_is_read_as_text() -> None:
    namespace: dict[str, Any] = {"task": task}
    exec("from __future__ import annotations\n@task\ndef odd(about: Context, x: Nowhere): ...", namespace)
    assert REGISTRY["odd"].wants_context


def test_two_functions_cannot_have_one_name() -> None:
    @task(name="close")
    def first() -> None: ...

    with pytest.raises(ConfigError, match=r"two tasks are named 'close': .*test_registry.py:\d+ and .*:\d+"):

        @task(name="close")
        def second() -> None: ...


def test_the_same_definition_may_be_imported_twice() -> None:
    def define() -> None:
        @task
        def same() -> None: ...

    define()
    define()
    assert list(REGISTRY) == ["same"]


@pytest.mark.parametrize(("options", "said"), [({"timeout": 0}, "above zero"), ({"max_attempts": 0}, "at least 1")])
def test_impossible_options_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        task(name="bad", **options)(lambda: None)


def test_what_is_no_task_is_refused() -> None:
    def generator() -> Iterator[int]:
        yield 1

    with pytest.raises(ConfigError, match="generator"):
        task(generator)
    with pytest.raises(ConfigError, match="needs a name"):
        task(functools.partial(print))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def broken(:", r"cannot import 'tasks_here': SyntaxError: invalid syntax \(.*tasks_here.py, line 1\)"),
        ("import not_there_at_all", "cannot import 'tasks_here': ModuleNotFoundError: No module named"),
        ("raise RuntimeError('two\\nlines')", "cannot import 'tasks_here': RuntimeError: two lines"),
        ("raise SystemExit(1)", "cannot import 'tasks_here': SystemExit: 1"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str
) -> None:
    (tmp_path / "tasks_here.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said) as error:
        import_modules(["tasks_here"])
    assert "\n" not in str(error.value)


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"there is no module .nowhere\.tasks."):
        import_modules(["nowhere.tasks"])


def test_modules_are_found_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tasks_found.py").write_text("from worker import task\n@task\ndef found(): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    import_modules(["tasks_found"])
    assert "found" in REGISTRY


def test_an_unknown_task_is_answered_with_the_known_ones() -> None:
    for number in range(registry.LISTED + 3):
        task(name=f"t{number:02}")(lambda: None)
    assert unknown("x").startswith("unknown task 'x': this worker has t00, t01,")
    assert unknown("x").endswith("t19 and 3 more")
    assert len(unknown("y" * 10_000)) < 1000
    assert "spec has no task" in unknown(None)


def test_a_module_with_tasks_loads_neither_driver_nor_http_client() -> None:
    code = "import sys, worker; print({'psycopg', 'aiohttp', 'croniter', 'click'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
