"""Containers: what a spec makes of them, what it may not, what is kept of their output, and that none is left."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from scheduler.errors import ConfigError
from tests.support.calls import Log, call
from tests.support.engine import Engine, running_engine
from tests.support.pids import alive, until
from worker.containers import engine as adapter
from worker.executors import ExecutionFailed, Settings, load
from worker.executors.container import ContainerExecutor
from worker.outcome import RESULT_LIMIT, Failed, storable

CANARY = "canary-7f3a9c51"
TINY = {"image": "tiny:1"}
HERE = "shop of system 7"


@pytest.fixture
def engine() -> Iterator[Engine]:
    with running_engine() as engine:
        yield engine


@asynccontextmanager
async def container(engine: Engine, **settings: Any) -> AsyncIterator[ContainerExecutor]:
    executor = ContainerExecutor(Settings(container_socket=engine.socket, **settings))
    executor.join(HERE, 3)
    try:
        yield executor
    finally:
        await executor.close()


async def run(engine: Engine, spec: dict[str, Any], **settings: Any) -> dict[str, Any]:
    async with container(engine, **settings) as executor:
        return await executor.execute(call({**TINY, **spec}))


async def failure(engine: Engine, spec: dict[str, Any], **settings: Any) -> ExecutionFailed:
    with pytest.raises(ExecutionFailed) as caught:
        await run(engine, spec, **settings)
    assert "\n" not in str(caught.value)
    return caught.value


async def body_of(engine: Engine, spec: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """What the engine was asked to create for this spec."""
    async with container(engine, **settings) as executor:
        execution = asyncio.create_task(executor.execute(call({**TINY, "command": ["sleep", "60"], **spec})))
        await until(lambda: engine.containers or execution.done())
        body = engine.only().body
        await stop(execution)
    return body


async def stop(execution: asyncio.Task[Any]) -> None:
    execution.cancel()
    with pytest.raises(asyncio.CancelledError):
        await execution


def is_final(error: ExecutionFailed) -> bool:
    assert isinstance(error.outcome, Failed)
    return error.outcome.final


async def test_an_array_is_what_the_image_is_given_and_a_string_goes_to_its_shell(engine: Engine) -> None:
    result = await run(engine, {"command": ["printf", "%s|", "a b", "$HOME", "*"]})
    assert result == {"stdout": "a b|$HOME|*|", "stderr": "", "exit_code": 0}
    assert (await run(engine, {"command": "echo $((1 + 1)); echo no >&2"})) == {
        "stdout": "2\n",
        "stderr": "no\n",
        "exit_code": 0,
    }
    assert "Entrypoint" not in await body_of(engine, {"command": ["sleep", "60"]}), "the image's own is kept"
    assert engine.containers == {}


async def test_an_image_runs_by_itself_without_a_command(engine: Engine) -> None:
    assert (await run(engine, {}))["exit_code"] == 0


async def test_a_container_knows_its_run_and_nothing_of_the_workers_environment(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_WORKER", "hush")
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    spec = {**TINY, "command": ["env"], "environment": {"MINE": 1, "SCHEDULER_FENCE": "999"}}
    async with container(engine) as executor:
        result = await executor.execute(call(spec, scheduled=at.timestamp()))
    environment = dict(line.split("=", 1) for line in result["stdout"].splitlines())
    assert environment.pop("PATH")
    assert environment == {
        "MINE": "1",
        "SCHEDULER_RUN_ID": "7",
        "SCHEDULER_ATTEMPT": "2",
        "SCHEDULER_FENCE": "42",
        "SCHEDULER_SCHEDULED_AT": "2026-01-02T03:04:05Z",
    }


async def test_a_container_that_fails_keeps_its_output_and_says_its_last_word(engine: Engine) -> None:
    error = await failure(engine, {"command": "echo out; echo first >&2; echo 'no space left' >&2; exit 3"})
    assert str(error) == "container ended with exit code 3: no space left"
    assert error.result == {"stdout": "out\n", "stderr": "first\nno space left\n", "exit_code": 3}
    assert not is_final(error)
    missing = await failure(engine, {"command": ["not-a-program"]})
    assert missing.result["exit_code"] == 127
    assert "not-a-program" in str(missing)


async def test_a_container_that_needs_more_memory_than_it_has_says_so(engine: Engine) -> None:
    error = await failure(engine, {"command": "kill -KILL $$", "memory": "64m"})
    assert str(error) == "container ran out of memory"
    assert error.result["exit_code"] == 137
    error = await failure(engine, {"command": "kill -KILL $$"})
    assert str(error) == "container ended with exit code 137"


async def test_output_is_logged_as_it_comes(engine: Engine) -> None:
    log = Log()
    async with container(engine) as executor:
        spec = {**TINY, "command": "echo first; echo aside >&2; sleep 60"}
        execution = asyncio.create_task(executor.execute(call(spec, write=log)))
        await until(lambda: log.of("stdout") == "first\n" and log.of("stderr") == "aside\n")
        assert not execution.done()
        await stop(execution)


async def test_output_over_the_limit_keeps_head_and_tail_and_says_so(engine: Engine) -> None:
    log = Log()
    async with container(engine, output_limit=2000) as executor:
        result = await executor.execute(call({**TINY, "command": "seq 100000"}, write=log))
    assert result["truncated"] is True
    assert result["stdout"].startswith("1\n2\n")
    assert result["stdout"].endswith("99999\n100000\n")
    assert "bytes cut" in result["stdout"]
    assert log.of("stdout") == "".join(f"{n}\n" for n in range(1, 100_001)), "the journal cuts, and says where"


async def test_any_output_fits_a_result(engine: Engine) -> None:
    result = await run(engine, {"command": r"head -c 1000000 /dev/zero; printf 'a\377b' >&2"})
    assert result["truncated"] is True
    assert result["stderr"] == "a\ufffdb"
    assert len(storable(result) or b"") <= RESULT_LIMIT


async def test_nothing_leads_out_of_a_container_that_did_not_ask_for_it(engine: Engine) -> None:
    body = await body_of(engine, {})
    assert body["HostConfig"] == {
        "Init": True,
        "LogConfig": {"Type": "none"},
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": "rw,nosuid,nodev,exec,mode=1777,size=256m"},
        "PidsLimit": 2048,
    }
    assert body.keys() == {"Image", "Env", "Labels", "AttachStdout", "AttachStderr", "Cmd", "HostConfig"}


async def test_labels_say_whose_it_is(engine: Engine) -> None:
    assert (await body_of(engine, {}))["Labels"] == {
        "walclock.database": HERE,
        "walclock.app": "shop",
        "walclock.run": "7",
        "walclock.fence": "42",
        "walclock.worker": "3",
    }


async def test_what_a_spec_may_ask_for_reaches_the_engine(engine: Engine, tmp_path: Path) -> None:
    body = await body_of(
        engine,
        {"workdir": str(tmp_path), "user": 1000, "memory": "256m", "cpus": 0.5, "network": "none", "writable": False},
    )
    assert (body["WorkingDir"], body["User"]) == (str(tmp_path), "1000")
    host = body["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (256 * 2**20, 256 * 2**20)
    assert (host["NanoCpus"], host["NetworkMode"]) == (500_000_000, "none")
    assert (await body_of(engine, {"memory": 2**30}))["HostConfig"]["Memory"] == 2**30


REFUSED = [
    ({"privileged": True}, "privileged"),
    ({"writable": True}, "writable"),
    ({"network": "host"}, "network:host"),
    ({"network": "container:db"}, "network:container:db"),
    ({"capabilities": ["cap_net_admin"]}, "capability:NET_ADMIN"),
    ({"mounts": ["/:/host"]}, "mount:/"),
    ({"mounts": ["/srv/data/below:/data:ro"]}, "mount:/srv/data/below"),
    ({"mounts": ["/srv:/data"]}, "mount:/srv"),
    ({"mounts": ["/srv/look:/data"]}, "mount:/srv/look"),
    ({"mounts": ["/var/run/docker.sock:/sock"]}, "mount:/var/run/docker.sock"),
    ({"mounts": ["pgdata:/data"]}, "mount:pgdata"),
]


@pytest.mark.parametrize(("spec", "entry"), REFUSED, ids=[entry for _, entry in REFUSED])
async def test_what_leads_out_is_refused_for_good_in_one_line_that_says_how_to_allow_it(
    engine: Engine, spec: dict[str, Any], entry: str
) -> None:
    error = await failure(engine, spec, container_allow=["mount:/srv/data", "mount:/srv/look:ro"])
    assert str(error) == (f"refused: {entry}: this worker's SCHEDULER_CONTAINER_ALLOW does not have {entry!r}")
    assert is_final(error)
    assert engine.asked == [], "the engine never heard of it"


async def test_what_the_workers_policy_allows_is_done(engine: Engine) -> None:
    allow = ["privileged", "writable", "network:host", "capability:CHOWN", "mount:/srv/data", "mount:cache:ro"]
    host = (await body_of(engine, {"privileged": True, "network": "host"}, container_allow=allow))["HostConfig"]
    assert (host["Privileged"], host["NetworkMode"]) == (True, "host")
    assert "CapDrop" not in host
    host = (await body_of(engine, {"writable": True}, container_allow=allow))["HostConfig"]
    assert host.keys() == {"Init", "LogConfig", "CapDrop", "SecurityOpt", "PidsLimit"}
    spec = {"capabilities": ["chown"], "mounts": ["/srv/data:/data", "cache:/cache:ro"]}
    host = (await body_of(engine, spec, container_allow=allow))["HostConfig"]
    assert (host["CapDrop"], host["CapAdd"]) == (["ALL"], ["CHOWN"])
    assert host["Mounts"] == [
        {"Type": "bind", "Source": "/srv/data", "Target": "/data", "ReadOnly": False},
        {"Type": "volume", "Source": "cache", "Target": "/cache", "ReadOnly": True},
    ]
    assert "Privileged" not in host


async def test_only_images_that_a_pattern_names_are_started(engine: Engine) -> None:
    digest = f"shop/tool@sha256:{'a' * 64}"
    engine.images |= {digest, "tiny:2"}
    images = ["tiny:1", "shop/*@sha256:*"]
    assert (await run(engine, {}, container_images=images))["exit_code"] == 0
    assert (await run(engine, {"image": digest}, container_images=images))["exit_code"] == 0
    for other in ("tiny:2", "tiny", "docker.io/library/tiny:1", "shop/tool:1"):
        error = await failure(engine, {"image": other}, container_images=images)
        assert str(error) == (
            f"refused: image {other!r}: this worker's SCHEDULER_CONTAINER_IMAGES has no pattern for it"
        )
        assert is_final(error)


@pytest.mark.parametrize(
    "spec",
    [
        {"image": None},
        {"image": "two words"},
        {"image": "a?fromSrc=b"},
        {"command": ""},
        {"command": []},
        {"command": ["a", 1]},
        {"command": "a\0b"},
        {"environment": []},
        {"environment": {"A": None}},
        {"environment": {"A=B": "x"}},
        {"workdir": "relative"},
        {"workdir": "/a/../b"},
        {"user": "a b"},
        {"user": True},
        {"memory": "lots"},
        {"memory": -1},
        {"memory": True},
        {"cpus": "2"},
        {"cpus": 0},
        {"cpus": float("nan")},
        {"network": "a b"},
        {"pull": "sometimes"},
        {"mounts": "/a:/b"},
        {"mounts": ["/a"]},
        {"mounts": ["/a:/b:rx"]},
        {"mounts": ["/a/../etc:/b"]},
        {"mounts": ["/a:b"]},
        {"mounts": [":/b"]},
        {"capabilities": "ALL"},
        {"privileged": "yes"},
        {"cap_add": ["ALL"]},
        {"Binds": ["/:/host"]},
    ],
)
async def test_a_bad_spec_is_refused_at_once_and_for_good(engine: Engine, spec: dict[str, Any]) -> None:
    error = await failure(engine, spec, container_allow=["mount:/a", "privileged"])
    assert str(error).startswith("bad spec: ")
    assert is_final(error)
    assert engine.asked == []


async def test_what_only_the_engine_finds_fault_with_is_told_in_its_words(engine: Engine) -> None:
    error = await failure(engine, {"memory": "1m"})
    assert str(error) == "container cannot be run: Minimum memory limit allowed is 6MB"
    assert engine.containers == {}


async def test_an_image_that_is_not_there_is_pulled_unless_it_never_may_be(engine: Engine) -> None:
    engine.registry = {"far:1": "", "far:latest": ""}
    error = await failure(engine, {"image": "far:1", "pull": "never"})
    assert str(error) == "image 'far:1' is not there, and it is never pulled"
    assert "pull" not in engine.asked
    for image in ("far:1", "far"):  # without a tag it is the latest, and not all there are
        engine.images.add("far")
        assert (await run(engine, {"image": image}))["exit_code"] == 0
    assert engine.asked.count("pull") == 1
    assert (await run(engine, {"image": "far:1"}))["exit_code"] == 0
    assert engine.asked.count("pull") == 1, "it is there"
    log = Log()
    async with container(engine) as executor:
        await executor.execute(call({**TINY, "image": "far:1", "pull": "always"}, write=log))
    assert engine.asked.count("pull") == 2
    assert log.of("scheduler").startswith("pulled far:1 in ")


async def test_an_image_that_cannot_be_pulled_is_one_line(engine: Engine) -> None:
    engine.registry = {"far:1": "toomanyrequests: You have reached your pull rate limit"}
    error = await failure(engine, {"image": "far:1"})
    assert str(error) == "image 'far:1' cannot be pulled: toomanyrequests: You have reached your pull rate limit"
    assert not is_final(error)
    error = await failure(engine, {"image": "none"})
    assert str(error).startswith("image 'none' cannot be pulled: pull access denied for none:latest")


async def test_a_pull_takes_no_longer_than_the_run_may(engine: Engine) -> None:
    engine.registry = {"far:1": "endless"}
    async with container(engine) as executor:
        execution = asyncio.create_task(executor.execute(call({"image": "far:1"})))
        await until(lambda: "pull" in engine.asked)
        async with asyncio.timeout(30):
            await stop(execution)
    assert engine.containers == {}


TERM_IS_HEARD = "trap 'echo cleaned; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
TERM_IS_IGNORED = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


@asynccontextmanager
async def begun(engine: Engine, command: str, **settings: Any) -> AsyncIterator[tuple[asyncio.Task[Any], Log]]:
    """A container that has said it is ready."""
    log = Log()
    async with container(engine, **settings) as executor:
        execution = asyncio.create_task(executor.execute(call({**TINY, "command": command}, write=log)))
        await until(lambda: "ready" in log.of("stdout"))
        yield execution, log


async def test_a_container_may_clean_up_when_it_is_told_to_end(engine: Engine) -> None:
    async with begun(engine, TERM_IS_HEARD, grace=60.0) as (execution, log):
        async with asyncio.timeout(30):
            await stop(execution)
        assert log.of("stdout") == "ready\ncleaned\n"
        assert engine.containers == {}


async def test_a_container_that_ignores_term_is_killed_after_the_grace(engine: Engine) -> None:
    async with begun(engine, TERM_IS_IGNORED, grace=0.4) as (execution, _):
        pid = engine.only().pid
        before = asyncio.get_running_loop().time()
        await stop(execution)
        assert asyncio.get_running_loop().time() - before >= 0.4
        assert engine.containers == {}
        assert not alive(pid)


async def test_who_is_told_twice_does_not_wait_for_the_grace(engine: Engine) -> None:
    async with begun(engine, TERM_IS_IGNORED, grace=60.0) as (execution, _):
        pid = engine.only().pid
        execution.cancel()
        await until(lambda: "kill" in engine.asked)
        async with asyncio.timeout(30):
            await stop(execution)
        assert engine.containers == {}
        assert not alive(pid)


async def test_who_is_told_again_and_again_has_not_ended_before_its_container_has(engine: Engine) -> None:
    async with begun(engine, TERM_IS_IGNORED, grace=60.0) as (execution, _):
        pid = engine.only().pid
        while not execution.done():
            execution.cancel()
            await asyncio.sleep(0)
        assert not alive(pid)


async def test_a_container_whose_creation_was_under_way_is_not_left(engine: Engine) -> None:
    engine.creation = 0.3
    async with container(engine) as executor:
        execution = asyncio.create_task(executor.execute(call({**TINY, "command": ["sleep", "60"]})))
        await until(lambda: "create" in engine.asked)
        await stop(execution)
        await until(lambda: engine.made)
        assert engine.containers == {}
    assert engine.begun == 0


async def test_an_engine_that_is_away_is_one_line_and_tried_again(engine: Engine) -> None:
    engine.stop()
    error = await failure(engine, {"command": ["true"]})
    assert str(error) == f"no container engine at {engine.socket}: No such file or directory"
    assert not is_final(error)


async def test_an_engine_that_goes_away_fails_the_run_and_loses_no_container(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    async with container(engine) as executor:
        log = Log()
        execution = asyncio.create_task(executor.execute(call({**TINY, "command": TERM_IS_IGNORED}, write=log)))
        await until(lambda: log.of("stdout") == "ready\n" and "wait" in engine.asked)
        pid = engine.only().pid
        engine.stop()
        with pytest.raises(ExecutionFailed) as caught:
            await execution
        assert str(caught.value) == f"the container engine at {engine.socket} broke off its answer"
        assert not is_final(caught.value)
        assert "cannot be removed, which is tried again: no container engine" in caplog.text
        assert alive(pid)
        engine.start()
        await executor.tidy(nothing)
        assert engine.containers == {}
        assert not alive(pid)


async def test_an_engine_that_hangs_is_one_line_and_what_it_does_later_is_undone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with container(engine) as executor:
        await executor.execute(call({**TINY, "command": ["true"]}, attempt=1))  # knows the engine's version from now on
        engine.creation = 2.0
        with monkeypatch.context() as patched:
            patched.setattr(adapter, "ANSWER", 1.0)
            with pytest.raises(ExecutionFailed) as caught:
                await executor.execute(call({**TINY, "command": ["true"]}, attempt=1))
        assert str(caught.value) == f"the container engine at {engine.socket} did not answer within 1 s"
        assert not is_final(caught.value)
        await until(lambda: engine.containers)
        await executor.tidy(nothing)
        assert engine.containers == {}


async def test_what_an_engine_quotes_of_the_environment_is_not_told(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    engine.quotes = True
    spec = {"environment": {"TOKEN": CANARY, "URL": f"https://user:{CANARY}@host"}}
    error = await failure(engine, spec)
    assert str(error).startswith("container cannot be run: cannot make a container of ")
    assert "TOKEN=***" in str(error)
    for bad in ([CANARY], {"TOKEN": [CANARY]}, {"TO=KEN": CANARY}):
        assert CANARY not in str(await failure(engine, {"environment": bad}))
    assert CANARY not in str(error)
    assert CANARY not in caplog.text


async def nothing(_: str, __: Sequence[int]) -> list[int]:
    return []


async def test_what_is_left_of_leases_that_are_gone_is_removed_and_nothing_else(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    asked: list[tuple[str, list[int]]] = []

    async def lost(app: str, leases: Sequence[int]) -> list[int]:
        asked.append((app, sorted(leases)))
        return [41] if app == "shop" else []

    spec = {**TINY, "command": ["sleep", "60"]}
    async with container(engine) as dead, container(engine) as stranger, container(engine) as living:
        stranger.join("shop of system 8", 3)
        executions = [
            asyncio.create_task(executor.execute(call(spec, app=app, fence=fence, run_id=run)))
            for run, (executor, app, fence) in enumerate([
                (dead, "shop", 41), (dead, "shop", 42), (dead, "mail", 41), (stranger, "shop", 41)
            ])
        ]  # fmt: skip
        await until(lambda: len(engine.running()) == 4)
        await living.tidy(lost)
        assert sorted(asked) == [("mail", [41]), ("shop", [41, 42])]
        labels = [one.body["Labels"] for one in engine.containers.values()]
        assert sorted((one["walclock.database"], one["walclock.app"], one["walclock.fence"]) for one in labels) == [
            (HERE, "mail", "41"),
            (HERE, "shop", "42"),
            ("shop of system 8", "shop", "41"),
        ]
        assert "of run 0, begun by worker 3: its lease is gone" in caplog.text
        living.join(None, 3)
        engine.asked.clear()
        await living.tidy(lost)
        assert "list" not in engine.asked, "who does not know its database leaves all alone"
        for execution in executions:
            execution.cancel()
        await asyncio.gather(*executions, return_exceptions=True)
    assert engine.containers == {}


async def test_a_run_that_is_tried_again_first_ends_what_is_left_of_it(engine: Engine) -> None:
    spec = {**TINY, "command": ["sleep", "60"]}
    async with container(engine) as executor:
        others = [
            asyncio.create_task(executor.execute(call(spec, attempt=1, **which)))
            for which in ({"fence": 41}, {"fence": 41, "run_id": 8}, {"fence": 41, "app": "mail"}, {"fence": 43})
        ]
        await until(lambda: len(engine.running()) == 4)
        await executor.execute(call({**TINY, "command": ["true"]}))  # run 7 of shop, attempt 2, fence 42
        labels = [one.body["Labels"] for one in engine.containers.values()]
        assert sorted((one["walclock.app"], one["walclock.run"], one["walclock.fence"]) for one in labels) == [
            ("mail", "7", "41"),
            ("shop", "7", "43"),
            ("shop", "8", "41"),
        ]
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)


async def test_more_than_a_hundred_containers_run_at_the_same_time(engine: Engine, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    spec = {**TINY, "command": ["cat", f"{tmp_path}/go"]}
    async with container(engine) as executor:
        executions = [asyncio.create_task(executor.execute(call(spec, attempt=1, run_id=run))) for run in range(110)]
        await until(lambda: engine.asked.count("wait") == 110)
        ended = asyncio.gather(*executions)
        while not ended.done():  # who opens it late sees it the next time
            os.close(os.open(tmp_path / "go", os.O_RDWR))
            await asyncio.sleep(0.05)
        results = await ended
    assert {result["exit_code"] for result in results} == {0}
    assert engine.containers == {}


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("SCHEDULER_CONTAINER_SOCKET", "tcp://127.0.0.1:2375", "expected the path of an engine's Unix socket"),
        ("SCHEDULER_CONTAINER_ALLOW", "privileged,mounts:/srv", "'mounts:/srv'"),
    ],
)
def test_a_setting_that_nobody_understands_is_refused_when_the_worker_starts(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as caught:
        load(["container"])
    assert variable in str(caught.value)
    assert says in str(caught.value)
    assert load(["shell"]), "who runs no containers does not mind"


def test_the_socket_is_where_docker_is_unless_a_setting_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCHEDULER_CONTAINER_SOCKET", raising=False)
    for host, place in {"": "/var/run/docker.sock", "tcp://10.0.0.1:2375": "/var/run/docker.sock"}.items():
        monkeypatch.setenv("DOCKER_HOST", host)
        assert Settings().container_socket == place
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/podman/podman.sock")
    assert Settings().container_socket == "unix:///run/podman/podman.sock"
    monkeypatch.setenv("SCHEDULER_CONTAINER_SOCKET", "/run/other.sock")
    assert Settings().container_socket == "/run/other.sock"


def test_without_its_library_it_names_the_extra() -> None:
    program = "import sys; sys.modules['aiohttp'] = None; from worker.executors import load; load(['container'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "MissingExtraError" in done.stderr.splitlines()[-1]
    assert "walclock[containers]" in done.stderr.splitlines()[-1]
