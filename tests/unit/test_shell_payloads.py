"""Words that a shell would act on, where a command takes words: `tests/data/shell-payloads.json`.

Each payload that gets to a shell makes a file, the canary. The executor hands all of them through as they are.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.calls import call
from worker.executors import ExecutionFailed, Settings
from worker.executors.shell import GUARDED, PASSED, ShellExecutor, inherited

FILE = Path(__file__).parents[1] / "data" / "shell-payloads.json"
TEXTS: list[str] = json.loads(FILE.read_text(encoding="utf-8"))
# Prints its arguments, a variable and its input, each as it came.
REPEAT = ["sh", "-c", r'printf "%s\0" "$@" "$PAYLOAD"; cat', "sh"]


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary" / "sang"


@pytest.fixture
def payloads(canary: Path) -> list[str]:
    canary.parent.mkdir()
    return [text.replace("{canary}", str(canary)) for text in TEXTS]


@asynccontextmanager
async def shell(**settings: Any) -> AsyncIterator[ShellExecutor]:
    executor = ShellExecutor(Settings(**settings))
    try:
        yield executor
    finally:
        await executor.close()


async def each(payloads: list[str], spec: Callable[[str], dict[str, Any]]) -> list[dict[str, Any] | ExecutionFailed]:
    """What became of a run for each payload."""
    async with shell() as executor:
        places = asyncio.Semaphore(8)

        async def one(payload: str) -> dict[str, Any] | ExecutionFailed:
            async with places:
                try:
                    return await executor.execute(call(spec(payload)))
                except ExecutionFailed as error:
                    return error

        return await asyncio.gather(*map(one, payloads))


def test_the_corpus_bites(payloads: list[str], canary: Path, tmp_path: Path) -> None:
    """Of 200 payloads and more, most make the canary where somebody pastes them into a shell's text."""
    assert len(set(TEXTS)) >= 200
    biting = 0
    for payload in payloads:
        for pasted in (f"printf %s {payload}", f'printf %s "{payload}"', f"printf %s '{payload}'"):
            if "\0" not in payload:
                subprocess.run(
                    ["bash", "-c", pasted],
                    cwd=tmp_path,
                    env={"PATH": os.environ["PATH"]},
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    check=False,
                    timeout=20,
                )
            if canary.exists():
                canary.unlink()
                biting += 1
                break
    assert biting >= 100


async def test_arguments_variables_and_input_arrive_as_they_are(payloads: list[str], canary: Path) -> None:
    def spec(payload: str) -> dict[str, Any]:
        return {"command": [*REPEAT, payload, "-x", payload], "environment": {"PAYLOAD": payload}, "stdin": payload}

    for payload, result in zip(payloads, await each(payloads, spec), strict=True):
        if "\0" in payload:
            assert isinstance(result, ExecutionFailed), repr(payload)
            assert "NUL" in str(result)
        else:
            assert isinstance(result, dict), (payload, result)
            assert result["stdout"] == f"{payload}\0-x\0{payload}\0{payload}\0{payload}", repr(payload)
    assert not list(canary.parent.iterdir())


async def test_a_program_is_found_by_its_name_or_not_at_all(payloads: list[str], canary: Path) -> None:
    for payload, result in zip(payloads, await each(payloads, lambda one: {"command": [one, "-c"]}), strict=True):
        there = payload in {"/bin/sh", "../../../bin/sh"}
        assert there or isinstance(result, ExecutionFailed), repr(payload)
    assert not list(canary.parent.iterdir())


async def test_names_of_variables_and_of_folders_start_nothing(payloads: list[str], canary: Path) -> None:
    def spec(payload: str) -> dict[str, Any]:
        shellshock = "() { :; }; touch " + str(canary)
        return {
            "command": ["bash", "-c", "true"],
            "environment": {payload: shellshock, f"BASH_FUNC_{payload}%%": payload},
        }

    for payload, result in zip(payloads, await each(payloads, spec), strict=True):
        assert isinstance(result, ExecutionFailed) == (not payload or "\0" in payload or "=" in payload), repr(payload)
    for payload, result in zip(
        payloads, await each(payloads, lambda one: {"command": ["true"], "cwd": f"/no{one}"}), strict=True
    ):
        assert isinstance(result, ExecutionFailed), repr(payload)
    assert not list(canary.parent.iterdir())


async def test_an_argument_of_any_length_is_passed_or_refused_in_a_line() -> None:
    async with shell() as executor:
        long = ";$(" * 30_000
        assert (await executor.execute(call({"command": ["printf", "%s", long]})))["stdout"] == long
        with pytest.raises(ExecutionFailed) as caught:
            await executor.execute(call({"command": ["true", "x" * 3_000_000]}))
        assert str(caught.value) == "cannot start 'true': Argument list too long"


# Names under which services keep what is nobody's business, and those that change what a command does.
SECRET = (FILE.parent / "secret-variables.txt").read_text().split()


@pytest.mark.parametrize("name", SECRET)
async def test_a_variable_of_the_worker_reaches_no_command_unless_it_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    worker = {"PATH": "/bin", "LC_ALL": "C", name: "hush"}
    assert name not in inherited(worker)
    assert inherited(worker) == {"PATH": "/bin", "LC_ALL": "C"}
    assert inherited(worker, [name])[name] == "hush"
    is_guarded = name.startswith(("SCHEDULER_", "PG", "DATABASE_URL"))
    assert (name in inherited(worker, ["*"])) == (not is_guarded)


async def test_the_setting_passes_names_and_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("APP_ONE", "APP_TWO", "JAVA_HOME", "APX", "PGHOST"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SCHEDULER_SHELL_ENV", "APP_*, JAVA_HOME P*")
    async with shell() as executor:
        printed = (await executor.execute(call({"command": ["env"]})))["stdout"].splitlines()
    names = {line.partition("=")[0] for line in printed}
    assert {"APP_ONE", "APP_TWO", "JAVA_HOME"} <= names
    assert not {"APX", "PGHOST", "SCHEDULER_SHELL_ENV"} & names


async def test_the_process_that_starts_commands_has_no_secret_in_its_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "hush-hush")
    async with shell() as executor:
        parents = await executor.execute(call({"command": "cat /proc/$PPID/environ /proc/$PPID/cmdline"}))
        assert "guard.py" in parents["stdout"]
        assert "hush-hush" not in parents["stdout"]


async def test_no_command_makes_files_that_everybody_can_write(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with shell() as executor:
            await executor.execute(call({"command": ["touch", "made"], "cwd": str(tmp_path)}))
    finally:
        os.umask(before)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o664


def test_the_documents_say_what_passes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    for name in (*PASSED, *GUARDED):
        assert f"`{name}`" in page, name
