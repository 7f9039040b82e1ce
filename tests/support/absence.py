"""A machine without an optional library, within this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def absent(library: str, *importers: str) -> Iterator[None]:
    """The library cannot be imported, and the modules that import it have not been yet."""
    names = [name for name in sys.modules if name in importers or name.partition(".")[0] == library]
    kept = {name: sys.modules.pop(name) for name in names}
    sys.modules[library] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in importers:
            sys.modules.pop(name, None)
        del sys.modules[library]
        sys.modules.update(kept)
