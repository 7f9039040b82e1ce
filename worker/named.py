"""Where other systems are is what an operator says in the worker's environment; a spec only picks by name."""

from __future__ import annotations

import re

from worker.outcome import ExecutionFailed, shorten

_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")


def variable(stem: str, key: str, name: object) -> str:
    """The environment variable of a name that a spec has under `key`; ExecutionFailed for what is no name.

    Names are case-insensitive, and `-` is `_`: `shop-db` is in STEM_SHOP_DB.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ExecutionFailed(f'bad spec: "{key}" must be a name, not {shorten(repr(name), 200)}', final=True)
    return f"{stem}_{name.upper().replace('-', '_')}"
