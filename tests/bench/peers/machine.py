"""What a run was made on, in words for its report."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from tests.bench.peers import cache
from tests.bench.peers.servers import Postgres

_SHOWN = ("fsync", "synchronous_commit", "shared_buffers", "max_wal_size", "max_connections")


def described(server: Postgres) -> dict[str, str]:
    with server.connect() as connection:
        major = connection.execute("show server_version").fetchone()
        settings = [(name, connection.execute(f"show {name}".encode()).fetchone()) for name in _SHOWN]
    found = {
        "processor": f"{os.cpu_count()} cores of {_field('/proc/cpuinfo', 'model name')}",
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.0f} GiB",
        "system": f"{_field('/etc/os-release', 'PRETTY_NAME', '=')}, Linux {platform.release()}",
        "PostgreSQL": str(major and major[0]),
        "settings": ", ".join(f"{name}={value and value[0]}" for name, value in settings),
        "Python": platform.python_version(),
    }
    for name, command in (("Node", [cache.node(), "--version"]), ("Redis", ["redis-server", "--version"])):
        if answer := _answer(command):
            found[name] = answer.partition(" sha=")[0]
    return found


def _field(path: str, name: str, separator: str = ":") -> str:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return line.partition(separator)[2].strip().strip('"')
    return "?"


def _answer(command: list[str]) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""
