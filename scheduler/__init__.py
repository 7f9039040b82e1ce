"""Walclock: a write-ahead scheduler for PostgreSQL.

    from scheduler import enqueue

    enqueue(conn, "shop", "send_email", {"to": "a@b"})

What is exported is loaded at its first use: a module with tasks imports `worker`, which reads `scheduler.errors`, and
must not load a database driver for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scheduler.client import enqueue

    __version__: str

__all__ = ["__version__", "enqueue"]


def __getattr__(name: str) -> Any:
    if name == "enqueue":
        return import_module("scheduler.client").enqueue
    if name == "__version__":
        return _version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _version() -> str:
    metadata = import_module("importlib.metadata")
    try:
        return str(metadata.version("walclock"))
    except metadata.PackageNotFoundError:
        return "0 (not installed)"  # a checkout on sys.path
