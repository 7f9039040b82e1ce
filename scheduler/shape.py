"""What the built-in executors need in a spec: what is missing is refused when it is written, not when it runs."""

from __future__ import annotations

from typing import Any

from scheduler.errors import InvalidError

_SHAPES: dict[str, tuple[str, type | tuple[type, ...], str]] = {
    "python": ("task", str, '{"task": "send_email", "args": {}}'),
    "shell": ("command", (str, list), '{"command": ["echo", "hi"]}'),
    "http": ("url", str, '{"url": "https://…"}'),
    "sql": ("sql", str, '{"dsn": "main", "sql": "select 1"}'),
}
BUILT_IN = tuple(_SHAPES)


def check_shape(executor: str, spec: dict[str, Any]) -> None:
    """InvalidError when the spec lacks what its executor needs. Of an executor that is a plug-in nothing is known."""
    if executor not in _SHAPES:
        return
    key, kind, example = _SHAPES[executor]
    if not isinstance(spec.get(key), kind) or not spec[key]:
        raise InvalidError(f'the spec of executor {executor} needs "{key}"', hint=f"like {example}")
    if executor == "python" and not isinstance(spec.get("args", {}), dict | list):
        raise InvalidError('"args" of executor python must be an object or an array', hint=f"like {example}")
